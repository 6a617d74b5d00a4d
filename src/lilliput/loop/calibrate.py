"""How far a confidence can be believed: Platt's scaling of its logit, and the measures of what comes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from msgspec import Struct

from lilliput.loop.confidence import LEAST

RIDGE = 1e-3
"""Pull of the slope towards 1: where all raw confidences are equal, the slope stays there."""
BINS = 10


class Bin(Struct, frozen=True):
    """Answers of about the same confidence: how many, how sure on average, and what share was right."""

    items: int
    confidence: float
    right: float


def logit(p: float) -> float:
    """Kept within `confidence.LEAST` of 0 and 1, as `confidence.calibrated` keeps it."""
    p = min(max(p, LEAST), 1.0 - LEAST)
    return math.log(p) - math.log1p(-p)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def platt(raw: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of the logit, by maximum likelihood (Platt 1999, with his smoothed targets).

    The slope is never negative: scaling never turns the order of confidences round. Of no items it changes nothing.
    """
    if not raw:
        return (1.0, 0.0)
    xs = [logit(p) for p in raw]
    good = sum(right)
    high, low = (good + 1.0) / (good + 2.0), 1.0 / (len(right) - good + 2.0)
    ys = [high if r else low for r in right]
    slope, intercept = _newton(xs, ys)
    if slope < 0.0:
        return (0.0, logit(sum(ys) / len(ys)))
    return (slope, intercept)


def _newton(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    a, b = 1.0, 0.0
    loss = _loss(xs, ys, a, b)
    for _ in range(100):
        ga, gb, haa, hab, hbb = RIDGE * (a - 1.0), 0.0, RIDGE, 0.0, 1e-9
        for x, y in zip(xs, ys, strict=True):
            p = sigmoid(a * x + b)
            w = p * (1.0 - p)
            ga += (p - y) * x
            gb += p - y
            haa += w * x * x
            hab += w * x
            hbb += w
        det = haa * hbb - hab * hab
        if det <= 0.0:
            break
        da, db = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
        step = 1.0
        while step > 1e-6 and (tried := _loss(xs, ys, a - step * da, b - step * db)) > loss:
            step /= 2
        if step <= 1e-6 or loss - tried < 1e-12 * len(xs):
            break
        a, b, loss = a - step * da, b - step * db, tried
    return a, b


def _loss(xs: Sequence[float], ys: Sequence[float], a: float, b: float) -> float:
    total = RIDGE / 2 * (a - 1.0) ** 2
    for x, y in zip(xs, ys, strict=True):
        z = a * x + b
        total += max(z, 0.0) - y * z + math.log1p(math.exp(-abs(z)))
    return total


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Bins of equal width; empty ones are left out."""
    kept: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for c, r in zip(confidences, right, strict=True):
        kept[min(bins - 1, int(c * bins))].append((c, r))
    return [
        Bin(len(each), sum(c for c, _ in each) / len(each), sum(r for _, r in each) / len(each))
        for each in kept
        if each
    ]


def ece(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: how far confidence and share right lie apart, averaged over answers (Naeini et al.
    2015)."""
    found = reliability(confidences, right, bins)
    return sum(b.items * abs(b.confidence - b.right) for b in found) / max(len(confidences), 1)


def brier(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Mean squared distance of confidence from what came of it."""
    return sum((c - r) ** 2 for c, r in zip(confidences, right, strict=True)) / max(len(confidences), 1)


def auroc(confidences: Sequence[float], right: Sequence[bool], delta: float = 0.05) -> tuple[float, float, float]:
    """The chance that a right answer is surer than a wrong one (ties count half), with its interval at confidence
    1 - `delta` (DeLong et al. 1988); 0.5 (0 to 1) where all are right or all are wrong."""
    good = [c for c, r in zip(confidences, right, strict=True) if r]
    bad = [c for c, r in zip(confidences, right, strict=True) if not r]
    if not good or not bad:
        return (0.5, 0.0, 1.0)
    both = _midranks(good + bad)
    m, n = len(good), len(bad)
    mine, theirs = _midranks(good), _midranks(bad)
    area = (sum(both[:m]) - m * (m + 1) / 2) / (m * n)
    over_bad = [(both[i] - mine[i]) / n for i in range(m)]
    under_good = [1.0 - (both[m + j] - theirs[j]) / m for j in range(n)]
    error = math.sqrt(_variance(over_bad, area) / m + _variance(under_good, area) / n)
    z = NormalDist().inv_cdf(1.0 - delta / 2)
    return (area, max(0.0, area - z * error), min(1.0, area + z * error))


def _variance(values: Sequence[float], mean: float) -> float:
    return sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)


def _midranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and values[order[j + 1]] == values[order[i]]:
            j += 1
        for k in range(i, j + 1):
            ranks[order[k]] = (i + j) / 2 + 1.0
        i = j + 1
    return ranks
