"""Failover as a generator: it yields where to send next and is sent the problem that came back.

Pure: no network, and time and dice are arguments; the caller waits `Step.wait_s` and does the sending. Classes after
trust.md's failure taxonomy: a client's own mistake is never sent again; a fault of the provider is tried once more in
the same place while retries are plenty, and where nobody answers the next is asked at once; a refused key or a rate
limit takes the next key, then the next target; a timeout moves on; a prompt that is too long goes to a larger declared
window alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence

from msgspec import Struct

from lilliput.neutral import Problem, Target
from lilliput.router.health import QUOTA

RETRY_BASE_S = 0.025
LONGEST_WAIT_S = 30.0
"""The most that a request waits for a rate limit to pass, whatever its deadline."""
RETRIES_A_REQUEST, RETRIES_FREE, MOST_RETRIES = 0.2, 3.0, 100.0
SPARE_RETRIES = 10.0
"""Only of what is saved up beyond this is a retry in the same place paid while there is a next one."""
BUDGET_WAIT_S, BUDGET_STEP_S = 1.0, 0.02
_OURS = frozenset({"client", "auth", "permission"})
_HOPELESS = frozenset({"egress_refused", "self_call", "bad_base", "bad_header"})


class Step(Struct, frozen=True):
    """Send to `target` after `wait_s` seconds; `number` counts from 1 over the whole request. One that `is_early` is
    only waited for: the retry budget is spent, and the same problem is to be sent again. `is_again`: it was the last
    that was asked, too."""

    target: Target
    number: int
    wait_s: float = 0.0
    is_early: bool = False
    is_again: bool = False


class Budget:
    """The retries that a process may make: a `share` of its requests and three. At a fifth, calls upstream never exceed
    1.2 x requests + 3. What is saved up in good times is bounded."""

    __slots__ = ("left", "share", "spent")

    def __init__(self, share: float = RETRIES_A_REQUEST) -> None:
        self.left = RETRIES_FREE
        self.share = share
        self.spent = 0

    def earn(self) -> None:
        """A request came in."""
        if self.left < MOST_RETRIES:
            self.left += self.share

    def take(self) -> bool:
        """True when one more call may be made for a request that already had one."""
        if self.left < 1.0 - 1e-9:
            return False
        self.left -= 1.0
        self.spent += 1
        return True


def no_others(target: Target) -> Sequence[Target]:
    return ()


def none_well(target: Target) -> bool:
    return False


def attempts(
    plan: Sequence[Target],
    dice: Callable[[], float],
    *,
    budget: Budget | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    deadline: float = math.inf,
    others: Callable[[Target], Sequence[Target]] = no_others,
    windows: Mapping[str, int] | None = None,
    is_well: Callable[[Target], bool] = none_well,
) -> Generator[Step, Problem, None]:
    """Steps until the caller stops asking; raises the Problem to tell when no step is left.

    `dice` gives numbers in [0, 1) for the full jitter before a retry. `others` gives a target's further keys as
    targets; `windows` the declared context of each `Target.id`. A model that is missing in one place is asked for in
    the next: a plan of several is a route, an alias or a list. `deadline` is in `clock`'s time. While
    the next place `is_well` a spent budget is waited for, `BUDGET_WAIT_S` in all: other requests earn it. The first
    step is always `Step(plan[0], 1)`: a caller with one target need not ask before it failed.
    """
    number = 0
    problem: Problem | None = None
    limited: list[tuple[float, Target]] = []
    past = 0
    patience, tried = BUDGET_WAIT_S, None
    for i, place in enumerate(plan):
        if past and (windows or {}).get(place.id, 0) <= past:
            continue
        queue = [place]
        has_retried = has_rotated = False
        wait_s = 0.0
        while queue:
            target = queue.pop(0)
            while number and not _may(budget, clock, deadline, wait_s):
                assert problem is not None
                if patience <= 0 or clock() + BUDGET_STEP_S >= deadline or target is tried or not is_well(target):
                    raise _told(problem, limited)
                patience -= BUDGET_STEP_S
                yield Step(target, number + 1, BUDGET_STEP_S, is_early=True)
            is_again, tried = target is tried, target
            number += 1
            problem = yield Step(target, number, wait_s, is_again=is_again)
            wait_s = 0.0
            fault = problem.fault
            if problem.code == "context_length_exceeded":
                past = (windows or {}).get(target.id, 0)
                if not past:
                    raise problem
                break
            if fault in _OURS:
                raise problem
            if fault in ("provider_auth", "limit"):
                if not has_rotated:
                    has_rotated = True
                    queue += others(place)
                if fault == "limit" and problem.retry_after_s is not None and problem.code not in QUOTA:
                    limited.append((problem.retry_after_s, target))
            elif _may_pass(problem) and not has_retried and not _goes_on(problem, budget, i + 1 < len(plan)):
                has_retried = True
                queue.insert(0, target)
                wait_s = RETRY_BASE_S * dice() * 2
            else:
                break
    if limited and problem is not None and not past:
        wait_s, target = min(limited, key=lambda pair: pair[0])
        wait_s += RETRY_BASE_S * dice() * 2
        if math.isfinite(deadline) and wait_s <= LONGEST_WAIT_S and _may(budget, clock, deadline, wait_s):
            problem = yield Step(target, number + 1, wait_s)
            if problem.fault == "limit" and problem.retry_after_s is not None:
                limited = [(problem.retry_after_s, target)]
    if problem is None:
        raise Problem("server", "no deployment can serve this request", code="no_target")
    raise _told(problem, limited)


def _may(budget: Budget | None, clock: Callable[[], float], deadline: float, wait_s: float) -> bool:
    return clock() + wait_s < deadline and (budget is None or budget.take())


def _goes_on(problem: Problem, budget: Budget | None, has_next: bool) -> bool:
    """Whether a retry is better spent in the next place than in the same: nobody answers here, or few are left."""
    return has_next and (problem.code == "upstream_unreachable" or (budget is not None and budget.left < SPARE_RETRIES))


def _told(problem: Problem, limited: Sequence[tuple[float, Target]]) -> Problem:
    """The last problem; of rate limits, with the shortest wait of all of them."""
    if problem.fault == "limit" and limited:
        problem.retry_after_s = min(wait_s for wait_s, _ in limited)
    return problem


def _may_pass(problem: Problem) -> bool:
    """True for a fault that a second try in the same place can cure."""
    return problem.fault in ("provider", "server") and problem.code not in _HOPELESS
