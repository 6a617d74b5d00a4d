"""`lilliput usage`: the ledger's sums as a table, CSV and JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.store.ledger_contract import cost, hold

from lilliput.cli.credits import with_ledger
from lilliput.cli.usage import usage
from lilliput.gateway.usage_table import moment
from lilliput.money import Ledger
from lilliput.neutral import Problem, Usage


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A home where two requests were metered."""
    home = {"LILLIPUT_HOME": str(tmp_path)}

    async def meter(ledger: Ledger) -> None:
        for n, model in enumerate(["a", "=b"]):
            await ledger.hold(hold(f"r{n}", 10**9, model=model, tags=("ci",) if n else ()))
            await ledger.settle(f"r{n}", cost(5 * 10**8 + n, usage=Usage(input=3, output=4)))

    with_ledger(home, meter)
    return home


def shown(env: dict[str, str], capsys: pytest.CaptureFixture[str], by: str, form: str, **more: str) -> str:
    since, until = more.get("since", ""), more.get("until", "")
    usage(env, by, since, until, None, 100, form == "csv", form == "json")
    return capsys.readouterr().out


def test_a_table(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = shown(env, capsys, "tag, key", "table").splitlines()
    assert head.split() == [
        *("tag", "key", "requests", "problems", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced")
    ]
    assert [row.split() for row in rows] == [
        ["ci", "k", "1", "0", "3", "4", "0.500000001", "0"],
        ["-", "k", "1", "0", "3", "4", "0.50", "0"],
    ]


def test_json(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = json.loads(shown(env, capsys, "key", "json"))
    assert row == {
        "key": "k",
        "requests": 2,
        "problems": 0,
        "prompt_tokens": 6,
        "completion_tokens": 8,
        "cost_usd": "1.000000001",
        "unpriced": 0,
    }
    assert json.loads(shown(env, capsys, "key", "json", until="7d")) == []
    assert len(json.loads(shown(env, capsys, "key", "json", since="1h"))) == 1


def test_csv_carries_no_formula(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = csv.reader(shown(env, capsys, "model", "csv").splitlines())
    assert head[0] == "model"
    assert [row[0] for row in rows] == ["'=b", "a"]


MOMENTS = [
    ("", None),
    ("90m", 1_000_000 - 5400),
    ("1970-01-02", 86_400.0),
    ("1970-01-02T00:00:01Z", 86_401.0),
    ("1970-01-02T01:00:00+01:00", 86_400.0),
]


@pytest.mark.parametrize(("text", "at"), MOMENTS)
def test_a_moment(text: str, at: float | None) -> None:
    assert moment(text, 1_000_000) == at


@pytest.mark.parametrize(("by", "since"), [("modle", ""), ("model", "yesterday"), ("model", "7 days")])
def test_what_cannot_be_read_is_a_problem(tmp_path: Path, by: str, since: str) -> None:
    with pytest.raises(Problem) as e:
        usage({"LILLIPUT_HOME": str(tmp_path)}, by, since, "", None, 10, False, False)
    assert e.value.code == "usage"
