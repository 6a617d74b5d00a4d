"""Intervals and paired tests over items, seeded. The finite-sample bound of a threshold is `loop.bound`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from lilliput.loop import bound

TIMES = 2000
"""Bootstrap draws."""


class Estimate(Struct, frozen=True):
    """A figure with its interval."""

    value: float
    low: float
    high: float
    items: int


class Paired(Struct, frozen=True, kw_only=True):
    """Two answers to each of the same items: the gap of their mean scores (a - b) with its bootstrap interval, how
    often a alone and b alone was right, and McNemar's exact p."""

    a: float
    b: float
    gap: Estimate
    only_a: int
    only_b: int
    p: float


class Resplits(Struct, frozen=True, kw_only=True):
    """What became of a threshold chosen again and again, of `times`. `held` is the share of draws in which the true
    disagreement among the served (in the population that was drawn from) stayed within alpha; `realised` the share in
    which the items left over, few and noisy, showed it too; `missed` that in which they were over it by more than
    two points."""

    times: int
    held: float
    realised: float
    missed: float
    coverage: float
    nothing: float


def wilson(events: int, items: int, delta: float = 0.05) -> Estimate:
    """A share with Wilson's interval (1927)."""
    if not items:
        return Estimate(0.0, 0.0, 1.0, 0)
    z = NormalDist().inv_cdf(1.0 - delta / 2)
    share = events / items
    centre = share + z * z / (2 * items)
    reach = z * math.sqrt(share * (1.0 - share) / items + z * z / (4 * items * items))
    scale = 1.0 + z * z / items
    return Estimate(share, max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale), items)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p of McNemar's test: whether a coin decides which of the two is right where one alone is."""
    return min(1.0, 2.0 * bound.tail(min(only_a, only_b), only_a + only_b, 0.5))


def bootstrap(
    rows: Sequence[Any] | NDArray[Any],
    figure: Callable[[NDArray[Any]], NDArray[Any]],
    delta: float = 0.05,
    times: int = TIMES,
    seed: int = 0,
) -> Estimate:
    """The percentile interval of a figure over items drawn with replacement.

    `figure` takes (draws, items, columns) and gives (draws,): see `mean` and `micro_f1`.
    """
    if not len(rows):
        return Estimate(0.0, 0.0, 1.0, 0)
    table = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    dice = np.random.default_rng(seed)
    block = max(1, 2_000_000 // table.size)
    drawn = [
        figure(table[dice.integers(0, len(table), (min(block, times - done), len(table)))])
        for done in range(0, times, block)
    ]
    low, high = np.quantile(np.concatenate(drawn), [delta / 2, 1.0 - delta / 2])
    return Estimate(float(figure(table[None])[0]), float(low), float(high), len(table))


def mean(draws: NDArray[Any]) -> NDArray[Any]:
    """Of the only column."""
    return np.asarray(draws[..., 0].mean(axis=1))


def gap(draws: NDArray[Any]) -> NDArray[Any]:
    """Mean of the first column less that of the second."""
    return np.asarray((draws[..., 0] - draws[..., 1]).mean(axis=1))


def micro_f1(draws: NDArray[Any]) -> NDArray[Any]:
    """Of columns right, given and wanted; 1 where nothing was given nor wanted."""
    right, given, wanted = (draws[..., i].sum(axis=1) for i in range(3))
    return np.asarray(np.where(given + wanted > 0, 2 * right / np.maximum(given + wanted, 1), 1.0))


def paired(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Paired:
    """Scores of 0 to 1 on the same items; right is a score of 1."""
    only_a = sum(x >= 1.0 > y for x, y in zip(a, b, strict=True))
    only_b = sum(y >= 1.0 > x for x, y in zip(a, b, strict=True))
    return Paired(
        a=sum(a) / max(len(a), 1),
        b=sum(b) / max(len(b), 1),
        gap=bootstrap(list(zip(a, b, strict=True)), gap, seed=seed),
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(only_a, only_b),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """0 of none."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), share)) if len(values) else 0.0


def resplits(
    confidences: Sequence[float],
    agrees: Sequence[bool],
    alpha: float,
    delta: float,
    *,
    items: int = 0,
    times: int = 500,
    seed: int = 0,
    point: bool = False,
) -> Resplits:
    """Choose a threshold `times` times and see how it fares; by `point` the naive one instead of the bound.

    The pool of all items is taken for the population: each time `items` of it (half, unless told) are drawn with
    replacement to choose on, as the theorem has it, and the threshold's disagreement in the whole pool is the truth.
    `realised` and `missed` look at those items that were not drawn.
    """
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(agrees, dtype=bool)
    size, dice = items or len(sure) // 2, np.random.default_rng(seed)
    held = realised = missed = nothing = 0
    coverage: list[float] = []
    for _ in range(times):
        drawn = dice.integers(0, len(sure), size)
        c, a = sure[drawn].tolist(), right[drawn].tolist()
        least = bound.point_threshold(c, a, alpha) if point else bound.threshold(c, a, alpha, delta).confidence
        served = sure >= least
        rest = served.copy()
        rest[drawn] = False
        truth = 1.0 - float(right[served].mean()) if served.any() else 0.0
        seen = 1.0 - float(right[rest].mean()) if rest.any() else 0.0
        held += truth <= alpha
        realised += seen <= alpha
        missed += seen > alpha + 0.02
        nothing += not bool(served.any())
        coverage.append(float(served.mean()))
    return Resplits(
        times=times,
        held=held / times,
        realised=realised / times,
        missed=missed / times,
        coverage=float(np.median(coverage)),
        nothing=nothing / times,
    )
