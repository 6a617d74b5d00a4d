"""The page on reliability shows every scenario, and the tool that writes its tables puts each figure in its place."""

from __future__ import annotations

from tests.chaos.page import CAUSES, PAGE, column, rows, written

from lilliput.chaos.rows import SCENARIOS
from lilliput.chaos.speech import PATHS

CELL = {"group": "cut", "scenario": "clean end, no finish", "way": "chat", "grade": "pass", "why": ""}


def test_every_scenario_is_on_the_page() -> None:
    text = PAGE.read_text()
    shown = rows(text)
    assert [s.name for s in SCENARIOS if s.second is None and s.name not in shown] == []
    assert [name for name in CAUSES if f"fail: {name}" not in shown] == []
    assert f"{sum(s.second is None for s in SCENARIOS)} scenarios" in text
    assert len(PATHS) == 3


def test_a_column_is_written_anew() -> None:
    failed = {**CELL, "grade": "fail", "why": "ends in silence: no finish, no error"}
    new = column([CELL, CELL, failed, {**CELL, "group": "every byte"}])
    page = "| cells run | 1 | 2 | 3 |\n| clean end, no finish | a | b | c |\n| other | a | b | c |\nno row\n"
    told = written(page, 2, new)
    assert told.splitlines() == [
        "| cells run | 1 | 3 | 3 |",
        "| clean end, no finish | a | 2 pass, 1 fail | c |",
        "| other | a | b | c |",
        "no row",
    ]
    assert new["the stream cut after every byte"] == "1 of 1 exact, 0 fail"
    assert new["fail: called finished though it was not, or ended in silence"] == "1"
