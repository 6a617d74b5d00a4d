"""The policies: each puts the places that may serve in the order in which to ask them.

A policy is one function from places to places. It never leaves one out and never looks at what may serve: filters are
`plan`'s. Dice and time are arguments.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from lilliput.catalogue.rows import Model
from lilliput.neutral import Target
from lilliput.router.health import Health
from lilliput.router.routes import Deployment, Policy

UNKNOWN_NUSD = 1 << 62
"""Sorts a price that is not known behind all that are."""


class Place(Struct, frozen=True):
    """A deployment that may serve this request, and what the request would cost there at most by estimate."""

    target: Target
    model: Model | None
    deployment: Deployment
    cost_nusd: int | None


class Moment(Struct, frozen=True):
    """What a policy may look at besides the places: the request's size, its session, how hard it is, and now."""

    health: Health
    now: float
    dice: Callable[[], float]
    answer_tokens: int = 0
    session: str = ""
    difficulty: float = 0.0


Order = Callable[[Sequence[Place], Moment], list[Place]]


def weighted(places: Sequence[Place], at: Moment) -> list[Place]:
    """Drawn by weight without putting back (Efraimidis and Spirakis 2006), one throw of the dice for each."""
    return _drawn([(p, p.deployment.weight) for p in places], lambda _: at.dice())


def priority(places: Sequence[Place], at: Moment) -> list[Place]:
    """The lowest number first; the same number is drawn by weight."""
    return sorted(weighted(places, at), key=lambda p: p.deployment.priority)


def least_busy(places: Sequence[Place], at: Moment) -> list[Place]:
    """Fewest calls under way for its weight first; the same load is drawn by weight."""
    return sorted(weighted(places, at), key=lambda p: at.health.of(p.target.id).in_flight / p.deployment.weight)


def fastest(places: Sequence[Place], at: Moment) -> list[Place]:
    """Shortest time to the end of this answer first: peak-EWMA of the first token, tokens at the EWMA of their rate,
    times the calls under way."""
    return sorted(weighted(places, at), key=lambda p: at.health.expected_s(p.target.id, at.answer_tokens))


def throughput(places: Sequence[Place], at: Moment) -> list[Place]:
    """Most tokens a second first; one that is not measured yet comes last."""
    return sorted(weighted(places, at), key=lambda p: -(at.health.of(p.target.id).tokens_per_s or 0.0))


def cheapest(places: Sequence[Place], at: Moment) -> list[Place]:
    """Least estimated cost of this very request first; an unknown price comes last."""
    return sorted(weighted(places, at), key=_cost)


def quality(places: Sequence[Place], at: Moment) -> list[Place]:
    """Best first, the cheaper of two alike; what costs over the route's `max_usd` is not among the places."""
    return sorted(places, key=lambda p: (-p.deployment.quality, _cost(p)))


def sticky(places: Sequence[Place], at: Moment) -> list[Place]:
    """The same session to the same place, for its prompt cache: weighted rendezvous hashing, so that a place that
    comes or goes moves only its own share."""
    return _drawn([(p, p.deployment.weight) for p in places], lambda p: _hashed(at.session, p))


def auto(places: Sequence[Place], at: Moment) -> list[Place]:
    """The weakest place that is up to this difficulty first, the stronger ones next, the weaker last."""
    able = sorted(
        (p for p in places if p.deployment.up_to >= at.difficulty), key=lambda p: (p.deployment.up_to, _cost(p))
    )
    rest = sorted((p for p in places if p.deployment.up_to < at.difficulty), key=lambda p: -p.deployment.up_to)
    return [*able, *rest]


def balanced(places: Sequence[Place], at: Moment) -> list[Place]:
    """As OpenRouter does: those without an outage in the last 30 s, drawn by 1 / price squared; the rest as fallbacks,
    cheapest first. A free place is drawn before any that costs; an unknown price is a fallback."""
    good = [p for p in places if p.cost_nusd is not None and not at.health.is_shaky(p.target.id, at.now)]
    free = [p for p in good if p.cost_nusd == 0]
    paid = _drawn([(p, 1 / p.cost_nusd**2) for p in good if p.cost_nusd], lambda _: at.dice())
    first = [*weighted(free, at), *paid]
    chosen = {p.target.id for p in first}
    shaky = [p for p in places if p.target.id not in chosen]
    return [*first, *sorted(shaky, key=lambda p: (at.health.is_shaky(p.target.id, at.now), _cost(p)))]


ORDERS: Mapping[Policy, Order] = {
    "balanced": balanced,
    "weighted": weighted,
    "priority": priority,
    "least_busy": least_busy,
    "fastest": fastest,
    "throughput": throughput,
    "cheapest": cheapest,
    "quality": quality,
    "sticky": sticky,
    "auto": auto,
}


def _cost(place: Place) -> int:
    return UNKNOWN_NUSD if place.cost_nusd is None else place.cost_nusd


def _drawn(weights: Sequence[tuple[Place, float]], number: Callable[[Place], float]) -> list[Place]:
    """Ascending -ln(u) / weight for a `number` u of each place: each is first with its share of the probability."""
    if len(weights) == 1:
        return [weights[0][0]]
    scored = [(-math.log(number(p) or 1e-18) / w, i) for i, (p, w) in enumerate(weights)]
    return [weights[i][0] for _, i in sorted(scored)]


def _hashed(session: str, place: Place) -> float:
    """A number in (0, 1) of a session and a place, the same on every machine."""
    digest = hashlib.blake2b(f"{session}\0{place.target.id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / ((1 << 64) + 1)
