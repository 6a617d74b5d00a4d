"""What an outage may cost, whatever the dice: calls upstream, answers lost, time to come back."""

from __future__ import annotations

import pytest
from tests.router.storms import STORMS, crowd, play

BY_NAME = {storm.name: storm for storm in STORMS}


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_retry_never_multiplies_an_outage(name: str, seed: int) -> None:
    r = play(BY_NAME[name], seed, 90.0 if seed == 1 else 40.0)
    assert r.calls <= 1.2 * r.requests + 3


def test_one_of_three_dead_is_not_noticed() -> None:
    r = play(BY_NAME["one of three dead"], 3)
    assert r.success >= 0.999
    assert r.calls <= 1.02 * r.requests


def test_all_dead_is_probed_and_comes_back() -> None:
    r = play(BY_NAME["all dead"], 4)
    assert r.calls < r.requests * 0.5
    assert r.recovered_s is not None
    assert r.recovered_s < 61


def test_flapping_costs_little() -> None:
    assert play(BY_NAME["one flapping, 5 s up, 5 s down"], 5).success >= 0.999


@pytest.mark.parametrize("dead_s", [0.001, 0.05, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_one_of_three_dead_from_the_start_under_64_callers(dead_s: float, seed: int) -> None:
    r = crowd(seed, dead_s)
    assert r.requests == 3000
    assert r.success >= 0.999
    assert r.calls <= 1.2 * r.requests + 3
