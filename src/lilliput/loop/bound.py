"""From which confidence on a student may answer: exact binomial bounds, tested from the surest answers down.

The theorem, its assumptions and its sources stand in docs/deferral.md. Numbers alone; how a confidence is made is
`confidence`, how it is recalibrated `calibrate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from lilliput.neutral import Problem
from lilliput.tasks import Threshold

NOTHING = 2.0
"""A threshold that no confidence reaches."""
STEP = 0.025
"""Share of the held-out items between two looks."""
LEAST = 0.2
"""Share of them in the first look: serving less is not worth a student, and a look at few is easily failed."""
SPARE = 2
"""Disagreements that the first look can bear, where there are items enough: a first look that bears none is failed by
a single one, and with it all that follow."""
METHOD = "clopper-pearson, fixed sequence"


def tail(most: int, items: int, rate: float) -> float:
    """P(X <= most) of X ~ Binomial(items, rate)."""
    if most >= items or rate <= 0.0:
        return 1.0
    if most < 0 or rate >= 1.0:
        return 0.0
    mode = math.floor((items + 1) * rate)
    if most > mode:  # the shorter, falling side, so that no term is lost beside 1
        return 1.0 - tail(items - most - 1, items, 1.0 - rate)
    term = math.exp(
        math.lgamma(items + 1)
        - math.lgamma(most + 1)
        - math.lgamma(items - most + 1)
        + most * math.log(rate)
        + (items - most) * math.log1p(-rate)
    )
    total, k = term, most
    while k > 0 and term > total * 1e-17:
        term *= k / (items - k + 1) * (1.0 - rate) / rate
        total += term
        k -= 1
    return min(total, 1.0)


def upper(events: int, items: int, delta: float) -> float:
    """Clopper and Pearson's upper bound on a rate at confidence 1 - `delta`: the rate at which so few events have
    probability `delta`."""
    if events >= items:
        return 1.0
    low, high = events / items, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if tail(events, items, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def lower(events: int, items: int, delta: float) -> float:
    """The lower bound at confidence 1 - `delta`."""
    return 0.0 if items == 0 else 1.0 - upper(items - events, items, delta)


def interval(events: int, items: int, delta: float = 0.05) -> tuple[float, float]:
    """Both bounds, together at confidence 1 - `delta`; (0, 1) of no items."""
    return (lower(events, items, delta / 2), upper(events, items, delta / 2)) if items else (0.0, 1.0)


@lru_cache(maxsize=256)
def least_items(events: int, alpha: float, delta: float) -> int:
    """The fewest items of which `events` may disagree while `upper` is still at most `alpha`."""
    items = events + 1
    while tail(events, items, alpha) > delta:
        items *= 2
    low = items // 2
    while items - low > 1:
        middle = (low + items) // 2
        if tail(events, middle, alpha) > delta:
            low = middle
        else:
            items = middle
    return items


def items_needed(rate: float, alpha: float, delta: float, most: int = 100_000) -> int | None:
    """About how many served items it takes to show that a true `rate` is under `alpha`; None where `most` is not
    enough."""
    items = least_items(0, alpha, delta)
    while items <= most:
        if tail(math.ceil(rate * items), items, alpha) <= delta:
            return items
        items += max(1, items // 50)
    return None


def looks(items: int, alpha: float, delta: float) -> list[int]:
    """How many of the surest items each look takes in: fixed by these three numbers before any answer is seen."""
    starts = [least_items(spare, alpha, delta) for spare in range(SPARE, -1, -1)]
    first = next((start for start in starts if start <= items / 2), starts[-1])
    first = max(first, round(items * LEAST))
    step = max(1, round(items * STEP))
    return [*range(first, items, step), items] if first <= items else []


def threshold(
    confidences: Sequence[float],
    agrees: Sequence[bool],
    alpha: float,
    delta: float,
    grid: Sequence[float] | None = None,
) -> Threshold:
    """The lowest confidence reached while every look's bound on the disagreement at or above it was within `alpha`.

    One entry for each held-out item. Equal confidences are served together or not at all; one that is no number is
    never served. `grid`, where given, are the confidences to look at, chosen without these answers: the bound then
    holds even where surer answers are not likelier to agree (docs/deferral.md).
    """
    if not (0.0 < alpha < 1.0 and 0.0 < delta < 1.0):
        raise Problem("client", f"alpha {alpha!r} and delta {delta!r} must lie between 0 and 1")
    if len(confidences) != len(agrees):
        raise Problem("client", f"{len(confidences)} confidences stand beside {len(agrees)} answers: give one each")
    pairs = sorted(((c, a) for c, a in zip(confidences, agrees, strict=True) if c == c), key=lambda p: -p[0])
    wrong = [0]
    for _, agree in pairs:
        wrong.append(wrong[-1] + (not agree))
    items = len(confidences)
    if grid is None:
        wanted = [pairs[k - 1][0] for k in looks(items, alpha, delta) if k <= len(pairs)]
    else:
        least = least_items(0, alpha, delta)
        wanted = [c for c in sorted(set(grid), reverse=True) if least <= len(pairs) and pairs[least - 1][0] >= c]
    chosen, served = NOTHING, 0
    for confidence in wanted:
        count = _reached(pairs, confidence)
        if tail(wrong[count], count, alpha) > delta:
            break
        chosen, served = confidence, count
    return Threshold(
        confidence=chosen,
        alpha=alpha,
        delta=delta,
        items=items,
        coverage=served / items if items else 0.0,
        bound=upper(wrong[served], served, delta) if served else 1.0,
        method=METHOD,
    )


def _reached(pairs: Sequence[tuple[float, bool]], confidence: float) -> int:
    """How many of the sorted pairs are at least so sure."""
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high) // 2
        if pairs[middle][0] >= confidence:
            low = middle + 1
        else:
            high = middle
    return low


def point_threshold(confidences: Sequence[float], agrees: Sequence[bool], alpha: float) -> float:
    """What `threshold` is there to replace: the lowest confidence whose share of disagreement is within `alpha` on
    these very items. Kept to show how often it misses."""
    pairs = sorted(zip(confidences, agrees, strict=True), key=lambda p: -p[0])
    chosen, wrong = NOTHING, 0
    for k, (confidence, agree) in enumerate(pairs, 1):
        wrong += not agree
        if (k == len(pairs) or pairs[k][0] != confidence) and wrong <= alpha * k:
            chosen = confidence
    return chosen
