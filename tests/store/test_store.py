"""The contract of `store_contract` over every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.store.postgres_place import place
from tests.store.store_contract import CONTRACT, RESPONSES, Clock, ResponseStory, Story

from lilliput.store.open import Responses, open_store
from lilliput.store.postgres import PostgresStore
from lilliput.store.postgres_responses import PostgresResponses
from lilliput.store.responses import ResponseStore
from lilliput.store.sqlite import SqliteStore


@contextmanager
def somewhere(kind: str, tmp_path: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite://{tmp_path}/lilliput.db"
    else:
        with place() as url:
            yield url


@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_each_store_keeps_the_contract(kind: str, story: Story, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        one, two = await open_store(url, tmp_path), await open_store(url, tmp_path)
        try:
            await story(one.store, two.store)
        finally:
            await one.close()
            await two.close()
            await two.close()

    with somewhere(kind, tmp_path) as url:
        asyncio.run(run(url))


@asynccontextmanager
async def kept(url: str, tmp_path: Path, clock: Clock) -> AsyncIterator[Responses]:
    opened = await open_store(url, tmp_path)
    try:
        if isinstance(opened.store, PostgresStore):
            yield PostgresResponses(opened.store.pool, clock=clock)
        else:
            assert isinstance(opened.store, SqliteStore)
            responses = ResponseStore(opened.store, clock=clock)
            yield responses
            responses.close()
    finally:
        await opened.close()


@pytest.mark.parametrize("story", RESPONSES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_each_store_keeps_responses(kind: str, story: ResponseStory, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        clock = Clock()
        async with kept(url, tmp_path, clock) as responses:
            await story(responses, clock)

    with somewhere(kind, tmp_path) as url:
        asyncio.run(run(url))
