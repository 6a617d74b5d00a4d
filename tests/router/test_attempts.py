"""The failover generator: which answers are tried again, where, and what is raised when nothing is left."""

from __future__ import annotations

import pytest

from lilliput.neutral import Fault, Problem, Target
from lilliput.router.attempts import RETRY_BASE_S, Budget, Step, attempts

A, B = Target(provider="a", model="m"), Target(provider="b", model="m")
OK = None
LONG = "context_length_exceeded"
Answer = tuple[Fault, str | None] | None
P: Answer = ("provider", "upstream_error")
GONE: Answer = ("provider", "upstream_unreachable")

TABLE: list[tuple[str, list[Target], list[Answer], str, str | None]] = [
    ("first try answers", [A], [OK], "a", None),
    ("a network fault is tried once more", [A], [P, OK], "a a", None),
    ("twice down, no other target", [A], [P, P], "a a", "upstream_error"),
    ("where nobody answers the next is asked at once", [A, B], [GONE, OK], "a b", None),
    ("and with no other the same once more", [A], [GONE, OK], "a a", None),
    ("twice down, the next target answers", [A, B], [P, P, OK], "a a b", None),
    ("all down, the last problem is told", [A, B], [P, P, P, ("provider", "late")], "a a b b", "late"),
    ("a busy server is tried once more", [A], [("server", "overloaded"), OK], "a a", None),
    ("the client's mistake is never sent again", [A, B], [("client", "bad")], "a", "bad"),
    ("a missing model is not asked for twice in one place", [A], [("missing", "no_model")], "a", "no_model"),
    ("a model missing in one place of a list is asked for in the next", [A, B], [("missing", "no"), OK], "a b", None),
    ("a prompt too long goes nowhere undeclared", [A, B], [("client", "context_length_exceeded")], "a", LONG),
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


def test_a_prompt_too_long_goes_to_a_larger_declared_window_alone() -> None:
    c = Target(provider="c", model="m")
    going = attempts([A, B, c], lambda: 0.5, windows={"a/m": 8000, "b/m": 8000, "c/m": 9000})
    next(going)
    assert going.send(Problem("client", "long", code=LONG)).target is c
    with pytest.raises(Problem, match="long"):
        going.send(Problem("client", "long", code=LONG))


def test_keys_are_rotated_before_the_next_place() -> None:
    second = Target(provider="a", model="m", query="second")
    going = attempts([A, B], lambda: 0.5, others=lambda t: [second] if t is A else [])
    steps = [next(going), going.send(Problem("provider_auth", "no")), going.send(Problem("limit", "slow"))]
    assert [s.target for s in steps] == [A, second, B]


def test_a_rate_limit_is_waited_for_when_nothing_else_is_left() -> None:
    clock = [100.0]
    going = attempts([A, B], lambda: 0.0, clock=lambda: clock[0], deadline=110.0)
    next(going)
    going.send(Problem("limit", "a", retry_after_s=7))
    step = going.send(Problem("limit", "b", retry_after_s=3))
    assert (step.target, step.wait_s) == (B, 3.0)
    with pytest.raises(Problem) as e:
        going.send(Problem("limit", "b", retry_after_s=9))
    assert e.value.retry_after_s == 9


def test_a_wait_past_the_deadline_is_not_waited_and_the_shortest_is_told() -> None:
    going = attempts([A, B], lambda: 0.0, clock=lambda: 0.0, deadline=2.0)
    next(going)
    going.send(Problem("limit", "a", retry_after_s=3))
    with pytest.raises(Problem) as e:
        going.send(Problem("limit", "b", retry_after_s=7))
    assert e.value.retry_after_s == 3


def test_a_spent_quota_is_not_waited_for() -> None:
    going = attempts([A], lambda: 0.0, deadline=1e9)
    next(going)
    with pytest.raises(Problem):
        going.send(Problem("limit", "spent", code="insufficient_quota", retry_after_s=1))


def test_no_try_begins_after_the_deadline() -> None:
    clock = [0.0]
    going = attempts([A, B], lambda: 0.0, clock=lambda: clock[0], deadline=5.0)
    next(going)
    clock[0] = 6.0
    with pytest.raises(Problem, match="late"):
        going.send(Problem("timeout", "late"))


def test_retries_are_a_fifth_of_the_requests_and_three() -> None:
    budget, calls = Budget(), 0
    for _ in range(1000):
        budget.earn()
        going = attempts([A, B], lambda: 0.5, budget=budget)
        next(going)
        calls += 1
        try:
            while True:
                going.send(Problem("provider", "down"))
                calls += 1
        except Problem:
            pass
    assert 1190 <= calls <= 1.2 * 1000 + 3


def test_a_scarce_retry_goes_to_the_next_place() -> None:
    budget = Budget()
    budget.left = 1.0
    going = attempts([A, B], lambda: 0.5, budget=budget)
    next(going)
    assert going.send(Problem("provider", "down")).target is B


def test_a_spent_budget_is_waited_for_while_the_next_place_is_well() -> None:
    budget = Budget()
    budget.left = 0.0
    going = attempts([A, B], lambda: 0.5, budget=budget, is_well=lambda t: t is B)
    next(going)
    down = Problem("provider", "down")
    assert going.send(down).is_early
    budget.left = 1.0
    step = going.send(down)
    assert (step.target, step.number, step.is_early) == (B, 2, False)
    going = attempts([A, B], lambda: 0.5, budget=budget, is_well=lambda t: t is B)
    next(going)
    waits = [going.send(down).wait_s for _ in range(50)]
    assert sum(waits) == pytest.approx(1.0)
    with pytest.raises(Problem, match="down"):
        going.send(down)
    going = attempts([A, B], lambda: 0.5, budget=budget)
    next(going)
    with pytest.raises(Problem, match="down"):
        going.send(down)
