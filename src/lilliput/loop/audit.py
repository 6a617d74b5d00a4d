"""When a student has to step down: a test of its audited answers that may be looked at after each one, for ever.

The wealth of a player who bets that the share of disagreement is above its bound (docs/deferral.md). While it is not,
the wealth ever reaches 1 / delta with probability at most delta; when it is, the wealth grows without end.
"""

from __future__ import annotations

import math

from msgspec import Struct

from lilliput.neutral import Problem

ODDS = (1.5, 2.5, 4.0, 8.0, 20.0)
"""The rates betted on, as multiples of the bound's own odds: small breaches and large ones."""
AT_ONCE = 0.5
"""Share of the stake that is betted from the first answer on; the rest waits, for breaches that begin later."""
PATIENCE = 20.0
"""The share of the rest still unbetted after n answers is (1 + n / PATIENCE) ** -0.5: however late it breaks, a stake
is left for it."""
MOST = 1e12
"""Wealth is kept below it: a player may always throw money away."""


class Rising(Struct):
    """Bets that events come oftener than `rate`. Its state is what its fields say: it can be stored and taken up."""

    rate: float
    seen: int = 0
    events: int = 0
    wealth: list[float] = []
    """By rate betted on, without the stake that waits."""

    def see(self, event: bool) -> float:
        """The wealth after one more; 1 at the start. Fair or worse than fair while the rate is at most `rate`."""
        waited = self._waiting()
        self.seen += 1
        self.events += event
        begins = (AT_ONCE if self.seen == 1 else 0.0) + waited - self._waiting()
        odds = self.rate / (1.0 - self.rate)
        wealth = self.wealth or [0.0] * len(ODDS)
        for i, times in enumerate(ODDS):
            bet = times * odds / (1.0 + times * odds)
            gain = bet / self.rate if event else (1.0 - bet) / (1.0 - self.rate)
            wealth[i] = min((wealth[i] + begins / len(ODDS)) * gain, MOST)
        self.wealth = wealth
        return self.now()

    def now(self) -> float:
        return sum(self.wealth) + self._waiting() if self.seen else 1.0

    def _waiting(self) -> float:
        return (1.0 - AT_ONCE) / math.sqrt(1.0 + self.seen / PATIENCE)


class Audit(Struct):
    """The audited answers of one student, a uniform sample of those it served. With a true share of disagreement of at
    most `alpha`, `broken` ever becomes true with probability at most `delta`."""

    alpha: float
    delta: float
    broken: bool = False
    bets: Rising | None = None

    def __post_init__(self) -> None:
        if not (0.0 < self.alpha < 1.0 and 0.0 < self.delta < 1.0):
            raise Problem("client", f"alpha {self.alpha!r} and delta {self.delta!r} must lie between 0 and 1")

    def see(self, agrees: bool) -> bool:
        """Whether the bound is broken, with this answer counted; once broken, it stays so."""
        self.bets = self.bets or Rising(self.alpha)
        self.broken = self.bets.see(not agrees) >= 1.0 / self.delta or self.broken
        return self.broken

    @property
    def seen(self) -> int:
        return self.bets.seen if self.bets else 0

    @property
    def differ(self) -> int:
        return self.bets.events if self.bets else 0

    def why(self) -> str:
        """For `Task.why`."""
        return f"{self.differ} of {self.seen} audited answers differ, where {self.alpha:.3g} of them may"
