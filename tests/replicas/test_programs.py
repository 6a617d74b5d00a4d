"""The programs that print what a gateway bears: their goals can be missed, and a small run meets them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from benchmarks.storm import FAULTS, Row, goals, play
from benchmarks.streams import Held, hold
from msgspec import structs

STORM = next(f for f in FAULTS if f.name == "all 503, one model")
DEAD = next(f for f in FAULTS if f.name == "1 of 3 answers 500")
ROW = Row("", 1000, 1.0, {200: 1000}, 1200, 1.2, 1.0, 0.5, [])
HELD = Held(10, 600.0, 10, 0, 0, 1.0, (10.0, 19.0), (100, 100), 0, 5, 0, (40.0, 50.0, 51.0, 52.0))


@pytest.mark.parametrize(
    ("fault", "row", "calls", "said"),
    [
        (STORM, structs.replace(ROW, statuses={503: 1000}), 1203, ""),
        (STORM, structs.replace(ROW, statuses={503: 1000}), 1204, "over 1.2 x + 3"),
        (STORM, structs.replace(ROW, statuses={503: 999, 500: 1}), 1203, "callers were told {500: 1}"),
        (STORM, structs.replace(ROW, statuses={503: 999, 0: 1}), 1203, "callers were told {0: 1}"),
        (STORM, structs.replace(ROW, statuses={503: 1000}, recovery_s=1.1), 1203, "recovery"),
        (DEAD, ROW, 1000, ""),
        (DEAD, structs.replace(ROW, success=0.9989), 1000, "success"),
        (DEAD, structs.replace(ROW, added_p50_ms=5.0), 1000, "p50"),
    ],
)
def test_a_storms_goals(fault: Any, row: Row, calls: int, said: str) -> None:
    missed = goals(fault, row, 10.0, 1000, calls)
    assert (len(missed), said in "".join(missed)) == (bool(said), True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"whole": 9, "wrong": 1}, "1 streams with wrong bytes"),
        ({"whole": 9, "cut": 1}, "1 cut"),
        ({"others_failed": 1}, "others"),
        ({"p99_ms": (10.0, 20.0)}, "p99"),
        ({"rss_mb": (40.0, 50.0, 51.1, 52.0)}, "while streams were held"),
        ({"rss_mb": (40.0, 50.0, 51.0, 53.1)}, "by slow sockets"),
    ],
)
def test_goals_of_held_streams(change: dict[str, Any], said: str) -> None:
    missed = structs.replace(HELD, **change).missed
    assert (len(missed), said in "".join(missed)) == (bool(said), True)


@pytest.mark.slow
def test_a_short_storm() -> None:
    row = asyncio.run(play(STORM, 1.0))
    assert row.missed == []
    assert row.requests > 100
    assert row.amplification > 1.0, "the budget was never asked for a retry"


@pytest.mark.slow
def test_streams_held_for_a_moment() -> None:
    held = asyncio.run(hold(3.0, 40, 12))
    assert (held.whole, held.wrong, held.cut, held.others_failed) == (40, 0, 0, 0)
    assert min(held.others) > 0
