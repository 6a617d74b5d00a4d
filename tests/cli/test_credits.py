"""`lilliput credits`: amounts are exact, accounts are made, changed and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lilliput.cli.credits import grant, limit, nano_dollars, show
from lilliput.neutral import Problem

AMOUNTS = [
    ("5", 5 * 10**9),
    (" $0.25 ", 25 * 10**7),
    ("0.000000001", 1),
    ("-3.5", -35 * 10**8),
    ("0", 0),
    ("1e3", 10**12),
]


@pytest.mark.parametrize(("text", "nusd"), AMOUNTS)
def test_an_amount_is_exact(text: str, nusd: int) -> None:
    assert nano_dollars(text) == nusd


@pytest.mark.parametrize("text", ["", "five", "nan", "-inf", "0.0000000001", "1e30", "1,000", "0x10"])
def test_what_is_no_amount_is_a_problem(text: str) -> None:
    with pytest.raises(Problem) as e:
        nano_dollars(text)
    assert e.value.code == "usage"
    assert repr(text) in e.value.say


def test_grant_limit_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"LILLIPUT_HOME": str(tmp_path)}
    grant(env, "acme", "12.5", "order 7", False)
    grant(env, "acme", "-20", "taken back", False)
    grant(env, "acme", "3", "", False)
    limit(env, "acme", "5", "month", False)
    limit(env, "ci", "0.1", "total", False)
    assert capsys.readouterr().out.splitlines() == [
        "account acme has $12.50 of credits",
        "account acme has $0.00 of credits",
        "account acme has $3.00 of credits",
        "account acme may spend $5.00 a month",
        "account ci may spend $0.10 in all",
    ]
    show(env, None, False)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["account", "kind"]
    assert [row.split() for row in rows] == [
        ["acme", "key", "-", "-", "$5.00", "month", "$0.00", "$0.00", "$3.00"],
        ["ci", "key", "-", "-", "$0.10", "total", "$0.00", "$0.00", "-"],
    ]
    show(env, "acme", True)
    acme = json.loads(capsys.readouterr().out)
    assert (acme["limit_usd"], acme["period"], acme["credit_usd"], acme["spent_usd"]) == (
        "5.00",
        "month",
        "3.00",
        "0.00",
    )
    limit(env, "acme", "none", "total", True)
    assert json.loads(capsys.readouterr().out)["limit_usd"] is None
    show(env, None, True)
    assert [a["id"] for a in json.loads(capsys.readouterr().out)] == ["acme", "ci"]


def test_what_cannot_be_is_a_problem(tmp_path: Path) -> None:
    env = {"LILLIPUT_HOME": str(tmp_path)}
    with pytest.raises(Problem, match="nobody"):
        show(env, "nobody", False)
    with pytest.raises(Problem, match="below 0"):
        limit(env, "a", "-1", "day", False)
