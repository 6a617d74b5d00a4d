"""kill -9 of the whole gateway under load: what was answered is metered, once, and nothing dangles."""

from __future__ import annotations

import asyncio

import pytest
from tests.replicas.fleet import STORES
from tests.replicas.kill import kill_often


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_killed_with_all_its_workers(store: str) -> None:
    told = asyncio.run(kill_often(store, 2, seed=1))
    assert told.kills == 2
    assert sum(told.done.values()) > 20
