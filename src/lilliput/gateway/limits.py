"""Which rate limits a request falls under, what it takes of them, and what it is told when one is reached.

Money is not limited here (see `money`), nor is anything counted: that is for the counters that `Limiter` is handed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lilliput.limits_config import DAY_S, MINUTE_S, Bucket, Buckets, Caps, Counters, Limits, Taken, Unit
from lilliput.neutral import Key, Problem

UNSAID_TOKENS: Final = 1_000
"""Taken for an answer whose length the caller does not bound; put right when it is known."""
IN_FLIGHT_RETRY_S: Final = 1.0
MOST_TOKENS: Final = 1_000_000_000
"""More than any request has; figures past it are taken for it."""
MOST_KNOWN: Final = 4096

_FIELDS: tuple[tuple[str, Unit, int, str], ...] = (
    ("requests_per_minute", "requests", MINUTE_S, "requests a minute"),
    ("requests_per_day", "requests", DAY_S, "requests a day"),
    ("tokens_per_minute", "tokens", MINUTE_S, "tokens a minute"),
    ("tokens_per_day", "tokens", DAY_S, "tokens a day"),
    ("in_flight", "in_flight", 0, "requests at once"),
)
_WORDS = {name: words for name, _, _, words in _FIELDS}

Tokens = Callable[[], tuple[int, int | None]]
"""How many tokens a prompt has, by estimate, and how many its answers may have together (None: no bound was given)."""


class Limiter:
    """Takes each request's share of its limits and puts it right afterwards. `teams` names a key's team and those
    above it."""

    def __init__(
        self, limits: Limits, counters: Counters, teams: Callable[[Key], tuple[str, ...]] = lambda key: ()
    ) -> None:
        self._limits, self._counters, self._teams = limits, counters, teams
        self._known: dict[tuple[str, str, tuple[str, ...], str], Buckets] = {}

    async def take(self, key: Key, model: str, tokens: Tokens) -> Taken | None:
        """What was taken, to be shown (`limit_headers`), checked (`may_pass`) and, if it passed, settled or given back
        once; None where nothing is limited. `tokens` is asked only where tokens are. Raises Problem (503)."""
        buckets = self.buckets(key, model)
        if not buckets:
            return None
        prompt, most, is_asked, costs = 0, None, False, []
        for bucket in buckets:
            if bucket.unit != "tokens":
                costs.append(1)
                continue
            if not is_asked:
                prompt, most = tokens()
                is_asked = True
            costs.append(token_cost(bucket.limit, prompt, most))
        return await self._counters.take(buckets, tuple(costs))

    def settle(self, taken: Taken, tokens: int | None) -> None:
        """The request is over: what it took in flight is free; its tokens were so many, None: as estimated."""
        real = None if tokens is None else min(max(tokens, 0), MOST_TOKENS)
        costs = zip(taken.buckets, taken.costs, strict=True)
        self._counters.settle(taken, tuple(_real(bucket, cost, real) for bucket, cost in costs))

    def give_back(self, taken: Taken) -> None:
        """The request never went out: all that it took is free."""
        self._counters.settle(taken, (0,) * len(taken.costs))

    def buckets(self, key: Key, model: str) -> Buckets:
        """All that a request by `key` to `model` has to pass."""
        teams = self._teams(key)
        who = (key.id, key.name, teams, model)
        known = self._known.get(who)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[who] = buckets(self._limits, key, teams, model)
        return known


def buckets(limits: Limits, key: Key, teams: tuple[str, ...], model: str) -> Buckets:
    """The buckets of a key, its teams and a model, in this order."""
    own = limits.keys.get(key.id) or limits.keys.get(key.name) or limits.key
    found = _of("key", key.id, own)
    for team in dict.fromkeys(teams):
        found += _of("team", team, limits.teams.get(team))
    return found + _of("model", model, limits.models.get(model))


def _of(kind: str, id: str, caps: Caps | None) -> Buckets:
    if caps is None:
        return ()
    given = ((field, unit, period_s, getattr(caps, field)) for field, unit, period_s, _ in _FIELDS)
    return tuple(
        Bucket(name=f"{kind}:{id}:{field}", limit=limit, unit=unit, period_s=period_s)
        for field, unit, period_s, limit in given
        if limit is not None
    )


def token_cost(limit: int, prompt: int, most: int | None) -> int:
    """What a request takes of `limit` tokens: all that it may come to; a bound that we guess makes none too large."""
    if most is None:
        most = max(0, min(UNSAID_TOKENS, limit - prompt))
    return min(max(prompt, 0) + max(most, 0), MOST_TOKENS)


def _real(bucket: Bucket, cost: int, tokens: int | None) -> int:
    if bucket.unit == "in_flight":
        return 0
    return cost if tokens is None or bucket.unit == "requests" else tokens


def may_pass(taken: Taken) -> None:
    """Raises Problem (429) for a request that a limit keeps out: the one that will do so for longest."""
    if taken.passed:
        return
    shares = zip(taken.buckets, taken.costs, taken.levels, strict=True)
    over = [(_wait_s(bucket, cost, level), bucket, cost) for bucket, cost, level in shares]
    wait_s, bucket, cost = max(over, key=lambda one: one[0])
    kind, _, rest = bucket.name.partition(":")
    id, _, field = rest.rpartition(":")
    say = f"{kind} {id!r} may take {bucket.limit} {_WORDS[field]}"
    if wait_s < float("inf"):
        raise Problem(
            "limit", f"{say}, which are used up; wait {wait_s:.3g} s", code="rate_limit_exceeded", retry_after_s=wait_s
        )
    if bucket.unit == "tokens" and bucket.limit:
        say += f" and this request may come to {cost}; shorten the prompt, or ask for fewer tokens (max_tokens)"
    raise Problem("limit", say, code="rate_limit_exceeded")


def _wait_s(bucket: Bucket, cost: int, level: int) -> float:
    """Seconds until the bucket has room, if nothing else comes; 0 where it has, infinite where it never will."""
    over = level + cost * bucket.ticks - bucket.capacity
    if over <= 0:
        return 0.0
    if cost > bucket.limit or not bucket.limit:
        return float("inf")
    if not bucket.tick_ms:
        return IN_FLIGHT_RETRY_S
    return -(-over // bucket.limit) * bucket.tick_ms / 1000
