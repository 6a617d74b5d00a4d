"""Several keys of one provider, used in turn; one that is refused or limited is put aside while the others serve.

Each key has a breaker of its own, by `provider/model#N`: what one model is refused says nothing of the next. `now` is
an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from lilliput.neutral import Problem, Target
from lilliput.router.health import MOST_KNOWN, Health, Outcome

OF_A_KEY = frozenset({"limit", "provider_auth"})
"""Faults that another key may not have."""


class Rotation:
    """`keyed` gives a target with each of its provider's keys, () where there is but one; always the same objects."""

    def __init__(self, keyed: Callable[[Target], Sequence[Target]]) -> None:
        self.health = Health()
        self._keyed = keyed
        self._turns: dict[str, Callable[[], int]] = {}

    def turn(self, target: Target, now: float) -> Target:
        """The target with the key whose turn it is; the one that is free soonest when all are put aside."""
        free = self.others(target, now)
        if free:
            return free[0]
        return min(self._keyed(target), key=lambda t: self._wait_s(t, now), default=target)

    def others(self, target: Target, now: float) -> Sequence[Target]:
        """The target with each key that is free, the one whose turn it is first; () where there is but one key."""
        keyed = self._keyed(target)
        if not keyed:
            return ()
        if len(self._turns) >= MOST_KNOWN:
            self._turns.clear()
        turn = self._turns.get(target.id) or self._turns.setdefault(target.id, count().__next__)
        at = turn() % len(keyed)
        return [t for t in (*keyed[at:], *keyed[:at]) if self._wait_s(t, now) <= 0]

    def note(self, target: Target, problem: Problem, now: float) -> float | None:
        """A call failed. For how long its deployment has no key left, 0 when another serves; None where that is not
        the question: there is but one key, or the trouble is none of a key's."""
        keyed = self._keyed(target)
        if not keyed or problem.fault not in OF_A_KEY:
            return None
        self.health.note(self._id(target), Outcome(problem), now)
        return min(self._wait_s(t, now) for t in keyed)

    def _wait_s(self, target: Target, now: float) -> float:
        return self.health.wait_s(self._id(target), now)

    def _id(self, target: Target) -> str:
        number = next((i for i, t in enumerate(self._keyed(target), 1) if t.key == target.key), 1)
        return f"{target.id}#{number}"
