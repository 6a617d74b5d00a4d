"""Rate limits: what an operator may set, and what those who limit and those who count say to each other.

Values and one protocol. Which limits a request falls under is `gateway.limits`; the counting is `store.counters`
(this machine) and `store.shared` (Redis).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct, field, structs

Most = Annotated[int, Meta(ge=0, le=10_000_000_000)]
Unit = Literal["requests", "tokens", "in_flight"]

MINUTE_S, DAY_S = 60, 86_400
_TICK_MS = {MINUTE_S: 1, DAY_S: 1_000}


class Caps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits.*]`: how much one key, team or model may take; what is not set is not limited, and 0 lets nothing by."""

    requests_per_minute: Most | None = None
    """Requests, at most this many at once, coming back evenly over a minute."""
    requests_per_day: Most | None = None
    """The same over a day."""
    tokens_per_minute: Most | None = None
    """Tokens of prompts and answers together."""
    tokens_per_day: Most | None = None
    """The same over a day."""
    in_flight: Most | None = None
    """Requests under way at once."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: a request has to pass those of its key, its teams and its model, all of them."""

    key: Caps = Caps()
    """For each key that has no table of its own."""
    keys: dict[str, Caps] = field(default_factory=dict)
    """`[limits.keys.NAME]`: for one key, by its id or name."""
    teams: dict[str, Caps] = field(default_factory=dict)
    """`[limits.teams.NAME]`: for all keys of a team or organisation together."""
    models: dict[str, Caps] = field(default_factory=dict)
    """`[limits.models."provider/name"]`: for a model, all callers together."""


class Bucket(Struct, frozen=True, kw_only=True):
    """One limit on one thing: a token bucket that holds `limit` and fills at `limit` a period, or a count in flight.

    In any T seconds at most `limit * (1 + T / period_s)` passes, T taken in ticks: 1 ms of a minute, 1 s of a day.
    Levels are whole numbers, `ticks` to a unit, so nothing is rounded: a tick drains `limit` of them.
    """

    name: str
    limit: int
    unit: Unit
    period_s: int = 0
    tag: int = 0
    """63 bits of the name's digest; never 0."""
    tick_ms: int = 0
    ticks: int = 1
    """Ticks in a period; 1 for a count in flight."""
    capacity: int = 0

    def __post_init__(self) -> None:
        tick_ms = _TICK_MS[self.period_s] if self.period_s else 0
        ticks = self.period_s * 1000 // tick_ms if tick_ms else 1
        tag = int.from_bytes(blake2b(self.name.encode(), digest_size=8).digest()) >> 1 | 1
        for name, value in (("tick_ms", tick_ms), ("ticks", ticks), ("capacity", self.limit * ticks), ("tag", tag)):
            structs.force_setattr(self, name, value)


Buckets = tuple[Bucket, ...]
Costs = tuple[int, ...]


class Taken(Struct, frozen=True):
    """What came of a `take`. `levels` are those after it, or as found when it was refused; see `Bucket`.

    `marks`, `births` and `dues` are the counters' own: where in a bucket's life the share lies, and of whose.
    """

    passed: bool
    buckets: Buckets
    costs: Costs
    levels: list[int]
    marks: list[int]
    births: list[int]
    dues: list[int]
    by: Counters | None = None


class Counters(Protocol):
    """Counts that several workers or replicas share. A take is all or nothing, over all its buckets at one instant."""

    async def take(self, buckets: Buckets, costs: Costs) -> Taken:
        """Take costs[i] from buckets[i], each bucket named once; raises Problem (503) when the counts are out of reach
        and nothing may pass uncounted."""

    def settle(self, taken: Taken, costs: Costs) -> None:
        """Put what was taken right: `costs` are what they should have been, 0 for what is given back; call it once.

        What was taken first drains first, and what has drained is not given back again. Returns at once; never raises.
        """

    async def close(self) -> None:
        """Finish what is under way and let go."""
