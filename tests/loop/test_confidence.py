"""One number of how sure an answer is, and its calibration."""

from __future__ import annotations

import math

import pytest

from lilliput.loop.confidence import calibrated, raw
from lilliput.tasks import Kind

CASES: list[tuple[str, Kind, list[tuple[str, float]], float]] = [
    ("a label's probability", "label", [(" A", 0.8)], 0.8),
    ("nothing written", "extract", [], 0.0),
    ("a doubtful value", "extract", [("|", 0.9), ("a", 0.8), (" Main", 0.5), ("", 0.7)], 0.252),
    ("a field that may be another", "extract", [("|", 0.9), ("a", 0.4), (" Main", 0.5), ("", 0.7)], 0.126),
    ("an end that may be none", "extract", [("|", 0.9), ("a", 0.8), (" Main", 0.5), ("", 0.3)], 0.108),
    ("a text of one doubt", "text", [("a", 1.0), ("b", 0.25)], 0.5 * 0.5),
    ("a long text of the same doubt", "text", [("a", 0.25)] * 50, 0.25 * 0.5),
    ("no probability is above one", "label", [(" A", 1.0000002)], 1.0),
]


@pytest.mark.parametrize(("name", "kind", "tokens", "sure"), CASES, ids=[c[0] for c in CASES])
def test_raw(name: str, kind: Kind, tokens: list[tuple[str, float]], sure: float) -> None:
    assert raw(kind, tokens) == pytest.approx(sure)


def test_calibrated() -> None:
    assert calibrated(0.8, (1.0, 0.0)) == pytest.approx(0.8)
    assert calibrated(0.8, (2.0, -1.0)) == pytest.approx(1 / (1 + math.exp(-(2 * math.log(4) - 1))))
    assert 0.0 <= calibrated(0.0, (900.0, 0.0)) < 1e-9
    assert 1.0 - 1e-9 < calibrated(1.0, (900.0, 0.0)) <= 1.0
