"""Failover as a generator: it yields where to send next and is sent the problem that came back.

Pure: no clock and no network; the caller waits `Step.wait_s` and does the sending. Classes after trust.md's failure
taxonomy: a client's own mistake is never sent again; a network fault or a 5xx is tried once more in the same place;
a refused key, a rate limit or a timeout moves on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from msgspec import Struct

from lilliput.neutral import Problem, Target

RETRY_BASE_S = 0.025
_OURS = frozenset({"client", "auth", "permission", "missing"})
_HOPELESS = frozenset({"egress_refused", "self_call", "bad_base", "bad_header"})


class Step(Struct, frozen=True):
    """Send to `target` after `wait_s` seconds; `number` counts from 1 over the whole request."""

    target: Target
    number: int
    wait_s: float = 0.0


def attempts(plan: Sequence[Target], dice: Callable[[], float]) -> Generator[Step, Problem, None]:
    """Steps until the caller stops asking; raises the last Problem when no step is left.

    `dice` gives numbers in [0, 1) for the full jitter before a retry.
    """
    number = 0
    problem: Problem | None = None
    for target in plan:
        wait_s = 0.0
        for is_last in (False, True):
            number += 1
            problem = yield Step(target, number, wait_s)
            if problem.fault in _OURS:
                raise problem
            if is_last or not _may_pass(problem):
                break
            wait_s = RETRY_BASE_S * dice() * 2
    raise problem or Problem("server", "no deployment can serve this request", code="no_target")


def _may_pass(problem: Problem) -> bool:
    """True for a fault that a second try in the same place can cure."""
    return problem.fault in ("provider", "server") and problem.code not in _HOPELESS
