"""Which requests are turned away, before their bodies are read, while there are more than this process can serve.

What is measured is how late the event loop is: a provider that takes its time costs nothing, and a stream that is open
costs little. While the loop stays late, the number of requests that may wait for the first byte of their answer is cut
below what waits now; while it is not, it grows again (additive-increase, multiplicative-decrease, as TCP; a delay that
must stand for a while before it counts is CoDel's, RFC 8289). The least important go first, and routes that do no work
are never turned away.

A connection that was told to come back later is not read from for a moment: callers that ask again at once would
else take the time that the others need.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Literal, Protocol

from lilliput.gateway.metrics import add
from lilliput.neutral import Key, Problem

Priority = Literal["low", "normal", "high"]

TICK_S = 0.05
LATE_S = 0.05
"""How late the loop may be: about a fifth of the delay that a request then has here."""
PATIENCE, PATIENCE_S = 2, 0.2
"""Ticks in a row that it must be late, and their lateness together: a pause of one is no load."""
STUCK_S = 0.5
LEAST, FEWEST = 16, 4
"""Requests that may wait however late the loop is, and when it is later than `STUCK_S`: a machine that is busy with
other things turns nobody away who comes alone."""
CUT, DEEPEST_CUT, GROWTH, STEP = 0.9, 0.5, 1.05, 4
FREE = 1 << 30
REST_TICKS = 5
RETRY_S = (1, 2, 3)


class Rested(Protocol):
    """A transport that was paused."""

    def is_closing(self) -> bool: ...
    def resume_reading(self) -> None: ...


class Load:
    """How many requests wait, and how many may. `most` bounds them whatever the loop does (0: nothing does);
    `priority` is by a key's id, its name or its team."""

    def __init__(
        self, most: int = 0, priority: Mapping[str, Priority] | None = None, dice: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.most = most or FREE
        self.priority = priority or {}
        self.dice = dice
        self.shares = {"low": 0.7, "normal": 0.85 if "high" in self.priority.values() else 1.0, "high": 1.0}
        self.waiting = 0
        """Requests that were let in and of whose answer no byte is out; their connections count them."""
        self.lag_s = 0.0
        self.shed: dict[tuple[str, str], int] = {}
        self.conns: Collection[Client] = ()
        self._lowest = min(self.shares[name] for name in {"normal", *self.priority.values()})
        self._late = self._ticks = 0
        self._late_s = 0.0
        self._resting: deque[tuple[int, Rested]] = deque()
        self._set(self.most)

    def tick(self, late_s: float) -> None:
        """The loop ran its timer `late_s` after it was due; called each `TICK_S`."""
        self._ticks += 1
        self.lag_s = max(late_s, 0.8 * self.lag_s + 0.2 * late_s)
        if late_s <= LATE_S:
            self._late, self._late_s = 0, 0.0
            if self.limit < self.most:
                self._set(min(self.most, int(self.limit * GROWTH) + STEP))
        else:
            self._late += 1
            self._late_s += late_s
            if self._late >= PATIENCE and self._late_s >= PATIENCE_S:
                share = max(DEEPEST_CUT, min(CUT, LATE_S / late_s))
                fewer = max(LEAST, int(min(self.limit, self.waiting) * share))
                self._set(fewer if late_s < STUCK_S else FEWEST)
        while self._resting and self._resting[0][0] <= self._ticks:
            transport = self._resting.popleft()[1]
            if not transport.is_closing():
                transport.resume_reading()

    def refusal(self, key: Key) -> Problem | None:
        """Why a request of this key is turned away now; None when it is not. Asked once `waiting` is at `least`."""
        given = self.priority
        priority = given.get(key.id) or given.get(key.name) or given.get(key.team) or "normal"
        if self.waiting < self.limit * self.shares[priority]:
            return None
        add(self.shed, ("max_in_flight" if self.limit == self.most else "lag", priority))
        retry_s = RETRY_S[int(self.dice() * len(RETRY_S))]
        return Problem("server", "the gateway is overloaded; ask again later", code="overloaded", retry_after_s=retry_s)

    def rest(self, transport: Rested) -> None:
        """`transport`, which is paused, is read from again in a moment."""
        self._resting.append((self._ticks + REST_TICKS, transport))

    def _set(self, limit: int) -> None:
        self.limit = limit
        self.least = int(limit * self._lowest)
        """As many as may wait before anyone is turned away."""


class Client(Protocol):
    """A client's connection; `streaming` is the answer that streams over it, or None."""

    @property
    def streaming(self) -> object: ...
