"""Intervals and paired tests against independent judges."""

from __future__ import annotations

import numpy as np
import pytest

from lilliput.studio import stats

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(("events", "items"), [(0, 10), (7, 10), (480, 600), (600, 600)])
def test_wilson(events: int, items: int) -> None:
    judge = scipy_stats.binomtest(events, items).proportion_ci(0.95, "wilson")
    found = stats.wilson(events, items)
    assert (found.low, found.high) == pytest.approx((judge.low, judge.high), abs=1e-12)
    assert stats.wilson(0, 0) == stats.Estimate(0.0, 0.0, 1.0, 0)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (61, 20), (20, 61), (5, 5), (12, 30)])
def test_mcnemar_is_the_exact_binomial(a: int, b: int) -> None:
    judge = scipy_stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert stats.mcnemar(a, b) == pytest.approx(judge, rel=1e-9)


def test_bootstrap_is_seeded_and_near_the_normal() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 400)
    found = stats.bootstrap(values, stats.mean)
    assert found == stats.bootstrap(values, stats.mean)
    assert found != stats.bootstrap(values, stats.mean, seed=1)
    error = values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.02
    )


def test_paired_gap_is_narrower_than_unpaired() -> None:
    dice = np.random.default_rng(2)
    hard = dice.random(500)
    a = (hard < 0.85).astype(float)
    b = np.where(dice.random(500) < 0.04, 1 - a, (hard < 0.80).astype(float))
    found = stats.paired(a.tolist(), b.tolist())
    assert found.gap.value == pytest.approx(a.mean() - b.mean())
    assert found.gap.low > 0
    assert found.p < 0.01
    assert found.only_a - found.only_b == round(500 * found.gap.value)
    assert found.gap.high - found.gap.low < 2 * 1.96 * (2 * 0.15 * 0.85 / 500) ** 0.5


def test_micro_f1_by_hand() -> None:
    found = stats.bootstrap([(1, 2, 2), (3, 3, 4), (0, 0, 0)], stats.micro_f1)
    assert found.value == pytest.approx(2 * 4 / (5 + 6))
    assert stats.bootstrap([(0, 0, 0)], stats.micro_f1).value == 1.0
    assert stats.bootstrap([], stats.mean) == stats.Estimate(0.0, 0.0, 1.0, 0)
