"""Platt's scaling, ECE, Brier and AUROC against known values and independent judges."""

from __future__ import annotations

import random

import pytest

from lilliput.loop import calibrate
from lilliput.loop.confidence import calibrated


def drawn(items: int, seed: int, slope: float, intercept: float) -> tuple[list[float], list[bool]]:
    dice = random.Random(seed)
    raw = [dice.uniform(0.02, 0.999) for _ in range(items)]
    return raw, [dice.random() < calibrated(p, (slope, intercept)) for p in raw]


def test_platt_finds_what_the_confidences_were_made_with() -> None:
    slope, intercept = calibrate.platt(*drawn(20_000, 1, 0.5, 1.0))
    assert slope == pytest.approx(0.5, abs=0.03)
    assert intercept == pytest.approx(1.0, abs=0.05)


def test_platt_is_the_regression_of_others() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    raw, right = drawn(3000, 2, 0.7, -0.4)
    judge = linear.LogisticRegression(C=1e9, tol=1e-10).fit([[calibrate.logit(p)] for p in raw], right)
    assert calibrate.platt(raw, right) == pytest.approx((judge.coef_[0][0], judge.intercept_[0]), abs=0.01)


def test_platt_never_turns_the_order_and_bears_edges() -> None:
    raw, right = drawn(500, 3, 0.7, 0.0)
    assert calibrate.platt(raw, [not r for r in right])[0] == 0.0
    assert calibrate.platt([], []) == (1.0, 0.0)
    for extreme in ([0.0, 1.0] * 50, [0.5] * 100, [1.0] * 100):
        slope, intercept = calibrate.platt(extreme, [p > 0.4 for p in extreme])
        assert slope >= 0.0
        assert 0.9 < calibrated(1.0, (slope, intercept)) <= 1.0


def test_scaling_mends_the_calibration_of_other_items() -> None:
    scale = calibrate.platt(*drawn(1000, 4, 0.4, 0.8))
    raw, right = drawn(4000, 5, 0.4, 0.8)
    after = [calibrated(p, scale) for p in raw]
    assert calibrate.ece(after, right) < 0.03 < calibrate.ece(raw, right) / 3
    assert calibrate.brier(after, right) < calibrate.brier(raw, right)


def test_ece_and_bins_by_hand() -> None:
    sure, right = [0.95, 0.95, 0.65, 0.05, 1.0], [True, False, True, False, True]
    found = calibrate.reliability(sure, right)
    assert [b.items for b in found] == [1, 1, 3]
    assert calibrate.ece(sure, right) == pytest.approx((0.05 + 0.35 + abs(2.9 - 2)) / 5)
    assert calibrate.brier([0.5, 1.0], [True, False]) == pytest.approx(0.625)
    assert calibrate.ece([], []) == 0.0


def test_auroc_counts_pairs_and_its_interval_holds() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    dice = random.Random(6)
    right = [dice.random() < 0.8 for _ in range(500)]
    sure = [round(dice.gauss(1.0 if r else 0.0, 1.0), 1) for r in right]
    area, low, high = calibrate.auroc(sure, right)
    assert area == pytest.approx(metrics.roc_auc_score(right, sure))
    assert low < area < high
    # Two normals a standard deviation apart: the true area is Phi(1 / sqrt 2) = 0.7602.
    covered = 0
    for seed in range(200):
        dice = random.Random(seed)
        right = [i < 90 for i in range(150)]
        found = calibrate.auroc([dice.gauss(1.0 if r else 0.0, 1.0) for r in right], right)
        covered += found[1] <= 0.7602 <= found[2]
    assert 180 <= covered <= 198, covered
    assert calibrate.auroc([0.1, 0.2], [True, True]) == (0.5, 0.0, 1.0)
