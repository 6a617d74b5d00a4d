"""The failover generator: which answers are tried again, where, and what is raised when nothing is left."""

from __future__ import annotations

import pytest

from lilliput.neutral import Fault, Problem, Target
from lilliput.router.attempts import RETRY_BASE_S, Step, attempts

A, B = Target(provider="a", model="m"), Target(provider="b", model="m")
OK = None
Answer = tuple[Fault, str | None] | None
P: Answer = ("provider", "upstream_unreachable")

TABLE: list[tuple[str, list[Target], list[Answer], str, str | None]] = [
    ("first try answers", [A], [OK], "a", None),
    ("a network fault is tried once more", [A], [P, OK], "a a", None),
    ("twice down, no other target", [A], [P, P], "a a", "upstream_unreachable"),
    ("twice down, the next target answers", [A, B], [P, P, OK], "a a b", None),
    ("all down, the last problem is told", [A, B], [P, P, P, ("provider", "late")], "a a b b", "late"),
    ("a busy server is tried once more", [A], [("server", "overloaded"), OK], "a a", None),
    ("the client's mistake is never sent again", [A, B], [("client", "bad")], "a", "bad"),
    ("a missing model is never sent again", [A, B], [("missing", "no_model")], "a", "no_model"),
    ("a permission is never sent again", [A, B], [("permission", "no")], "a", "no"),
    ("a caller's bad key is never sent again", [A, B], [("auth", "no")], "a", "no"),
    ("our bad key moves on at once", [A, B], [("provider_auth", "key"), OK], "a b", None),
    ("our bad key with nowhere to go", [A], [("provider_auth", "key")], "a", "key"),
    ("a rate limit moves on at once", [A, B], [("limit", "429"), OK], "a b", None),
    ("a rate limit with nowhere to go", [A], [("limit", "429")], "a", "429"),
    ("a timeout moves on at once", [A, B], [("timeout", "late"), OK], "a b", None),
    ("a refused address is not asked twice", [A], [("provider", "egress_refused")], "a", "egress_refused"),
    ("a call to ourselves is not made twice", [A], [("provider", "self_call")], "a", "self_call"),
    ("a bad base is not tried twice", [A, B], [("provider", "bad_base"), OK], "a b", None),
    ("a second fault of another kind ends it", [A], [P, ("limit", "429")], "a a", "429"),
    ("the client's mistake on a second try ends it", [A, B], [P, ("client", "bad")], "a a", "bad"),
    ("an empty plan", [], [], "", "no_target"),
]


def drive(plan: list[Target], answers: list[Answer]) -> tuple[list[Step], Problem | None]:
    """The steps taken until an answer is good, and the Problem that ended it otherwise."""
    steps: list[Step] = []
    going = attempts(plan, lambda: 0.5)
    left = iter(answers)
    try:
        steps.append(next(going))
        while (answer := next(left)) is not None:
            steps.append(going.send(Problem(answer[0], "no", code=answer[1])))
    except Problem as problem:
        assert next(left, "none left") == "none left", "the table has answers that were never asked for"
        return steps, problem
    return steps, None


@pytest.mark.parametrize(("name", "plan", "answers", "asked", "code"), TABLE, ids=[row[0] for row in TABLE])
def test_table(name: str, plan: list[Target], answers: list[Answer], asked: str, code: str | None) -> None:
    steps, problem = drive(plan, answers)
    assert " ".join(s.target.provider for s in steps) == asked
    assert (problem.code if problem else None) == code
    assert [s.number for s in steps] == list(range(1, len(steps) + 1))


def test_waits_only_before_a_retry_in_the_same_place() -> None:
    steps, _ = drive([A, B], [P, P, P, P])
    assert [s.wait_s for s in steps] == [0.0, RETRY_BASE_S, 0.0, RETRY_BASE_S]


@pytest.mark.parametrize(("dice", "wait_s"), [(0.0, 0.0), (0.5, 0.025), (0.999, 0.04995)])
def test_jitter_is_full(dice: float, wait_s: float) -> None:
    going = attempts([A], lambda: dice)
    next(going)
    assert going.send(Problem("provider", "down")).wait_s == pytest.approx(wait_s)
