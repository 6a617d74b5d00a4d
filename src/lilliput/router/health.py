"""How each deployment has been doing: a breaker, what is under way, how fast it answers. `now` is an argument.

One process's own observations; nothing here is shared, and nothing here sends.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from msgspec import Struct, field

from lilliput.neutral import Problem

CONSECUTIVE = 5
"""Failures in a row that open the breaker."""
SHARE, SHARE_LEAST = 0.5, 5
"""The share of failures in the last minute that opens it, and of how many calls at least."""
COOLDOWN_S, LONGEST_COOLDOWN_S = 5.0, 15.0
"""An outage's end is seen a cooldown late at most, and a probe costs one call: it doubles to this and no further."""
LIMITED_S = 1.0
"""After a 429 that does not say how long."""
REFUSED_S = 60.0
"""After a refused key or a spent quota: neither mends itself soon."""
LONGEST_ASKED_S = 600.0
"""The most that a provider's Retry-After is believed."""
OUTAGE_S, OUTAGE_SHARE = 30, 0.1
UNPROVEN_CALLS = 3
"""As many calls at once go to a deployment that has never served, while there is one that has."""
FIRSTS, FIRSTS_LEAST = 64, 20
"""The last times to a first token that are kept, and how many it takes to tell their 95th percentile."""
TAU_S = 10.0
"""How fast old speeds are forgotten."""
MOST_KNOWN = 10_000
"""Callers choose names, so only so many deployments are remembered; idle ones are forgotten first."""
FAILURES = frozenset({"provider", "server", "timeout"})
QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "quota_exceeded"})

State = Literal["closed", "open", "half_open"]


class Outcome(Struct, frozen=True):
    """How a call went; `problem` None is success. Speeds are None where nothing was measured."""

    problem: Problem | None = None
    first_token_s: float | None = None
    tokens_per_s: float | None = None


GOOD = Outcome()
"""Of which nothing was measured."""


class Deployed(Struct):
    """What is known of one deployment. `recent` has calls and failures by second, of the last minute."""

    in_flight: int = 0
    has_served: bool = False
    consecutive: int = 0
    open_until: float = 0.0
    cooldown_s: float = 0.0
    is_limited: bool = False
    probe_at: float = -math.inf
    failed_at: float = -math.inf
    recent: dict[int, list[int]] = field(default_factory=dict)
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    measured_at: float = 0.0
    firsts: deque[float] = field(default_factory=lambda: deque(maxlen=FIRSTS))


class Health:
    """Deployments by `Target.id`. Every call that begins is noted once when it ends."""

    def __init__(self) -> None:
        self.known: dict[str, Deployed] = {}

    def of(self, id: str) -> Deployed:
        found = self.known.get(id)
        if found is None:
            if len(self.known) >= MOST_KNOWN:
                idle = next((k for k, d in self.known.items() if not d.in_flight), next(iter(self.known)))
                del self.known[idle]
            found = self.known[id] = Deployed()
        return found

    def state(self, id: str, now: float) -> State:
        d = self.known.get(id)
        if d is None or not d.open_until:
            return "closed"
        return "open" if now < d.open_until else "half_open"

    def wait_s(self, id: str, now: float) -> float:
        """How long until a call may be tried; 0 when it may now. A breaker that is half open takes one probe."""
        d = self.known.get(id)
        if d is None or not d.open_until:
            return 0.0
        return max(d.open_until - now, d.probe_at + d.cooldown_s - now, 0.0)

    def begin(self, id: str, now: float) -> None:
        """A call goes out."""
        d = self.of(id)
        d.in_flight += 1
        if d.open_until and now >= d.open_until:
            d.probe_at = now

    def note(self, id: str, outcome: Outcome, now: float) -> None:
        """A call is over. A problem that is the caller's own says nothing of the deployment, but that it answers."""
        d = self.known.get(id) or self.of(id)
        if d.in_flight:
            d.in_flight -= 1
        problem = outcome.problem
        if problem is not None and problem.fault == "limit":
            self._open(d, now, _asked_s(problem) or LIMITED_S, is_limited=True)
        elif problem is not None and problem.fault == "provider_auth":
            self._open(d, now, REFUSED_S)
        elif problem is not None and problem.fault in FAILURES:
            self._failed(d, problem, now)
        else:
            d.has_served = True
            cell = d.recent.get(int(now))
            if cell is None:
                _count(d, now, 0)
            else:
                cell[0] += 1
            if not d.open_until:
                d.consecutive = 0
            elif d.probe_at >= d.open_until:
                d.consecutive, d.open_until, d.cooldown_s, d.is_limited = 0, 0.0, 0.0, False
                d.recent.clear()
                d.probe_at = -math.inf
        if outcome is not GOOD:
            _measure(d, outcome, now)

    def leave(self, id: str, waited_s: float | None = None) -> None:
        """A call was given up: neither good nor bad. `waited_s` is how long its first token was waited for in vain."""
        d = self.of(id)
        d.in_flight = max(0, d.in_flight - 1)
        d.probe_at = -math.inf
        if waited_s is not None:
            d.firsts.append(waited_s)

    def hold(self, id: str, wait_s: float, now: float) -> None:
        """A call is over, and nothing more is to go there for a while: none of its keys is free."""
        self.leave(id)
        self._open(self.of(id), now, wait_s, is_limited=True)

    def has_served(self, id: str) -> bool:
        d = self.known.get(id)
        return d is not None and d.has_served

    def is_doubtful(self, id: str, now: float, beside_proven: bool) -> bool:
        """Whether it has never served and is to be asked last: it just failed, or (`beside_proven`, where another has
        served) has enough calls under way to find out."""
        d = self.known.get(id)
        if d is None or d.has_served:
            return False
        return now - d.failed_at < COOLDOWN_S or (beside_proven and d.in_flight >= UNPROVEN_CALLS)

    def is_well(self, id: str, now: float) -> bool:
        """Whether nothing speaks against it: no call since its last good one has failed."""
        d = self.known.get(id)
        return d is None or not (d.open_until or d.consecutive)

    def late_s(self, id: str) -> float | None:
        """The 95th percentile of its last times to a first token; None of too few."""
        d = self.known.get(id)
        if d is None or len(d.firsts) < FIRSTS_LEAST:
            return None
        return sorted(d.firsts)[math.ceil(0.95 * len(d.firsts)) - 1]

    def is_shaky(self, id: str, now: float) -> bool:
        """Whether it had a significant outage in the last 30 s: two failures or more, a tenth of its calls."""
        d = self.known.get(id)
        if d is None or now - d.failed_at > OUTAGE_S:
            return False
        calls, failures = _recent(d, now, OUTAGE_S)
        return failures >= 2 and failures >= OUTAGE_SHARE * calls

    def asked_lately(self, id: str, now: float) -> int:
        """Calls that ended in the last minute, and those under way."""
        d = self.known.get(id)
        return 0 if d is None else _recent(d, now, 60)[0] + d.in_flight

    def expected_s(self, id: str, answer_tokens: int) -> float:
        """How long an answer should take here, by peak-EWMA of the first token, times the calls under way and this
        one. One that nobody has measured yet counts as quick, so that it is."""
        d = self.known.get(id)
        if d is None:
            return 0.05
        writing_s = answer_tokens / d.tokens_per_s if d.tokens_per_s else 0.0
        first_s = 0.05 if d.first_token_s is None else d.first_token_s
        return (first_s + writing_s) * (d.in_flight + 1)

    def _failed(self, d: Deployed, problem: Problem, now: float) -> None:
        d.consecutive += 1
        d.failed_at = now
        _count(d, now, 1)
        calls, failures = _recent(d, now, 60)
        is_probe = bool(d.open_until) and d.probe_at >= d.open_until
        is_bad = d.consecutive >= CONSECUTIVE or (calls >= SHARE_LEAST and failures >= SHARE * calls)
        if is_probe or (is_bad and now >= d.open_until):
            self._open(d, now, _asked_s(problem) or min(LONGEST_COOLDOWN_S, d.cooldown_s * 2 or COOLDOWN_S))

    def _open(self, d: Deployed, now: float, cooldown_s: float, is_limited: bool = False) -> None:
        d.open_until = max(d.open_until, now + cooldown_s)
        d.cooldown_s, d.is_limited, d.probe_at = cooldown_s, is_limited, -math.inf


def _asked_s(problem: Problem) -> float | None:
    if problem.code in QUOTA:
        return max(REFUSED_S, min(problem.retry_after_s or 0.0, LONGEST_ASKED_S))
    return None if problem.retry_after_s is None else min(problem.retry_after_s, LONGEST_ASKED_S)


def _count(d: Deployed, now: float, failed: int) -> None:
    second = int(now)
    cell = d.recent.get(second)
    if cell is None:
        for old in [s for s in d.recent if s <= second - 60]:
            del d.recent[old]
        cell = d.recent[second] = [0, 0]
    cell[0] += 1
    cell[1] += failed


def _recent(d: Deployed, now: float, within_s: int) -> tuple[int, int]:
    cells = [c for second, c in d.recent.items() if second > now - within_s]
    return sum(c[0] for c in cells), sum(c[1] for c in cells)


def _measure(d: Deployed, outcome: Outcome, now: float) -> None:
    """A slower first token counts at once (peak), a faster one as old ones fade; rates are a plain EWMA."""
    first_s, rate = outcome.first_token_s, outcome.tokens_per_s
    if first_s is None and rate is None:
        return
    past_s = now - d.measured_at
    keep = math.exp(-past_s / TAU_S) if past_s > 0.0 else 1.0
    d.measured_at = now
    if first_s is not None:
        old = d.first_token_s
        d.firsts.append(first_s)
        d.first_token_s = first_s if old is None or first_s >= old else old * keep + first_s * (1 - keep)
    if rate is not None and rate > 0:
        keep = keep if keep < 0.9 else 0.9
        d.tokens_per_s = rate if d.tokens_per_s is None else d.tokens_per_s * keep + rate * (1 - keep)
