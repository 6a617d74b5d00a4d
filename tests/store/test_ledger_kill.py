"""kill -9 of a process that holds and settles: see `ledger_kill` for what must be true after."""

from __future__ import annotations

import pytest
from tests.store.ledger_kill import OPEN, empty, kill_often


@pytest.mark.parametrize("store", OPEN)
def test_a_kill_loses_and_doubles_nothing(store: str) -> None:
    with empty(store) as where:
        calls, _ = kill_often(store, where, 1, seed=1)
    assert calls > 0


@pytest.mark.slow
@pytest.mark.parametrize("store", OPEN)
def test_ten_kills_lose_and_double_nothing(store: str) -> None:
    with empty(store) as where:
        calls, dangling = kill_often(store, where, 10, seed=2)
    assert calls > 100
    assert dangling > 0, "no kill hit a request: they prove nothing"
