"""Never one too many, over HTTP: two workers on SQLite, two replicas on Postgres, two replicas counting on Redis."""

from __future__ import annotations

import asyncio

import pytest
from tests.replicas import race
from tests.replicas.fleet import STORES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("store", STORES)
def test_never_a_sixth(store: str) -> None:
    asyncio.run(race.budgets(store, range(3)))


def test_replicas_over_redis_limit_as_one() -> None:
    asyncio.run(race.limits(range(1)))
