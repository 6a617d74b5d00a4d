"""The breaker and the speeds, with a clock of their own."""

from __future__ import annotations

import pytest

from lilliput.neutral import Fault, Problem
from lilliput.router.health import COOLDOWN_S, LONGEST_COOLDOWN_S, Health, Outcome

OK = Outcome()


def outcome(fault: Fault | None, code: str | None = None, after: float | None = None) -> Outcome:
    return Outcome(Problem(fault, "no", code=code, retry_after_s=after) if fault else None)


TABLE: list[tuple[str, list[Outcome], str, float]] = [
    ("nothing yet", [], "closed", 0),
    ("four failures", [outcome("provider")] * 4, "closed", 0),
    ("five failures in a row", [outcome("provider")] * 5, "open", COOLDOWN_S),
    ("half of six", [OK, outcome("timeout")] * 3, "open", COOLDOWN_S),
    ("two of six", [OK, OK, outcome("timeout")] * 2, "closed", 0),
    ("a rate limit with its wait", [outcome("limit", None, 7)], "open", 7),
    ("a rate limit without", [outcome("limit")], "open", 1),
    ("a spent quota", [outcome("limit", "insufficient_quota", 1)], "open", 60),
    ("a refused key", [outcome("provider_auth")], "open", 60),
    ("the callers' own mistakes", [outcome("client")] * 20, "closed", 0),
    ("models that are missing", [outcome("missing")] * 20, "closed", 0),
    ("a wait of a year is not believed", [outcome("limit", None, 3e7)], "open", 600),
]


@pytest.mark.parametrize(("name", "outcomes", "state", "wait_s"), TABLE, ids=[t[0] for t in TABLE])
def test_breaker(name: str, outcomes: list[Outcome], state: str, wait_s: float) -> None:
    h = Health()
    for o in outcomes:
        h.begin("x", 10.0)
        h.note("x", o, 10.0)
    assert (h.state("x", 10.0), h.wait_s("x", 10.0)) == (state, wait_s)
    assert h.state("x", 10.0 + wait_s) == ("half_open" if wait_s else "closed")
    assert h.of("x").in_flight == 0


def opened() -> Health:
    h = Health()
    for _ in range(5):
        h.note("x", outcome("provider"), 0.0)
    return h


def test_one_probe_a_cooldown() -> None:
    h = opened()
    assert h.wait_s("x", 5.0) == 0
    h.begin("x", 5.0)
    assert h.wait_s("x", 5.0) == 5.0
    assert h.wait_s("x", 10.0) == 0


def test_a_good_probe_closes_and_a_bad_one_doubles_the_wait() -> None:
    h = opened()
    h.begin("x", 5.0)
    h.note("x", OK, 6.0)
    assert h.state("x", 6.0) == "closed"
    h = opened()
    h.begin("x", 5.0)
    h.note("x", outcome("provider"), 6.0)
    assert h.wait_s("x", 6.0) == 2 * COOLDOWN_S


def test_a_late_answer_from_before_does_not_close() -> None:
    h = opened()
    h.note("x", OK, 1.0)
    assert h.state("x", 1.0) == "open"


def test_a_probe_whose_caller_left_frees_the_place() -> None:
    h = opened()
    h.begin("x", 5.0)
    h.leave("x")
    assert h.wait_s("x", 5.0) == 0


def test_failures_of_an_hour_ago_are_forgotten() -> None:
    h = Health()
    for i in range(6):
        h.note("x", outcome("provider") if i % 2 else OK, i * 100.0)
    assert h.state("x", 600.0) == "closed"


def test_the_peak_counts_at_once_and_fades() -> None:
    h = Health()
    for s, now in ((0.1, 0.0), (2.0, 1.0)):
        h.note("x", Outcome(first_token_s=s), now)
    assert h.of("x").first_token_s == 2.0
    h.note("x", Outcome(first_token_s=0.1), 11.0)
    assert h.of("x").first_token_s == pytest.approx(0.1 + 1.9 * 0.36788, rel=1e-3)
    h.begin("x", 11.0)
    assert h.expected_s("x", 0) == pytest.approx(2 * (h.of("x").first_token_s or 0))


def test_what_is_remembered_is_bounded() -> None:
    h = Health()
    h.begin("busy", 0.0)
    for i in range(10_050):
        h.note(str(i), OK, 0.0)
    assert len(h.known) == 10_000
    assert h.of("busy").in_flight == 1


def test_an_outage_s_end_is_seen_within_the_longest_cooldown() -> None:
    h, now = Health(), 0.0
    for _ in range(20):
        h.begin("x", now)
        h.note("x", Outcome(Problem("provider", "down")), now)
        wait_s = h.wait_s("x", now)
        assert wait_s <= LONGEST_COOLDOWN_S <= 15
        now += wait_s
    assert wait_s == LONGEST_COOLDOWN_S
