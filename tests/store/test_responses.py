"""Responses in the SQLite store: by owner, for a while, swept a little at each write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lilliput.neutral import Problem
from lilliput.store.responses import KEEP_S, SWEPT, ResponseStore
from lilliput.store.sqlite import SqliteStore


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def on_a_store(path: Path, use: Callable[[ResponseStore, Clock], Awaitable[None]]) -> None:
    async def run() -> None:
        store, clock = SqliteStore(path), Clock()
        responses = ResponseStore(store, clock=clock)
        try:
            await use(responses, clock)
        finally:
            responses.close()
            await store.close()

    asyncio.run(run())


def rows(path: Path, table: str = "response") -> int:
    db = sqlite3.connect(path)
    try:
        (n,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    finally:
        db.close()
    return int(n)


def test_what_is_kept_is_found_by_its_owner_alone(tmp_path: Path) -> None:
    async def use(responses: ResponseStore, clock: Clock) -> None:
        await responses.keep("key", "r1", b"one")
        assert await responses.find("key", "r1") == b"one"
        for owner, id in (("other", "r1"), ("", "r1"), ("KEY", "r1"), ("key", "r2"), ("key%", "r1")):
            assert await responses.find(owner, id) is None
            assert await responses.drop(owner, id) is False
        await responses.keep("other", "r1", b"two")
        assert await responses.find("key", "r1") == b"one"
        await responses.keep("key", "r1", b"three")
        assert await responses.find("key", "r1") == b"three"
        assert await responses.drop("key", "r1") is True
        assert await responses.find("key", "r1") is None
        assert await responses.drop("key", "r1") is False
        assert await responses.find("other", "r1") == b"two"

    on_a_store(tmp_path / "db", use)


def test_items_are_found_by_their_owner_and_go_with_their_response(tmp_path: Path) -> None:
    async def use(responses: ResponseStore, clock: Clock) -> None:
        await responses.keep("key", "r1", b"one", ["msg_1", "fc_1"])
        await responses.keep("other", "r1", b"two", ["msg_1"])
        assert await responses.find_item("key", "fc_1") == b"one"
        assert await responses.find_item("other", "msg_1") == b"two"
        assert await responses.find_item("other", "fc_1") is None
        await responses.drop("key", "r1")
        assert await responses.find_item("key", "msg_1") is None
        await responses.keep("key", "r1", b"again")
        assert await responses.find_item("key", "msg_1") is None
        assert await responses.find_item("other", "msg_1") == b"two"
        clock.now += KEEP_S
        assert await responses.find_item("other", "msg_1") is None

    on_a_store(tmp_path / "db", use)


def test_it_is_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    async def keep(responses: ResponseStore, clock: Clock) -> None:
        await responses.keep("key", "r1", b"one")

    async def find(responses: ResponseStore, clock: Clock) -> None:
        assert await responses.find("key", "r1") == b"one"

    on_a_store(tmp_path / "db", keep)
    on_a_store(tmp_path / "db", find)


def test_what_is_old_is_gone_and_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "db"

    async def use(responses: ResponseStore, clock: Clock) -> None:
        await asyncio.gather(*(responses.keep("key", f"r{n}", b"x", [f"m{n}"]) for n in range(3 * SWEPT)))
        clock.now += KEEP_S
        assert await responses.find("key", "r0") is None
        assert await responses.drop("key", "r0") is False
        assert rows(path) == 3 * SWEPT
        await responses.keep("key", "new", b"x")
        assert rows(path) == 2 * SWEPT + 1  # a write sweeps so many, and no more
        await responses.keep("key", "newer", b"x")
        await responses.keep("key", "newest", b"x")
        assert rows(path) == 3
        assert rows(path, "response_item") == 0
        assert await responses.find("key", "new") == b"x"

    on_a_store(path, use)


def test_many_read_at_once(tmp_path: Path) -> None:
    async def use(responses: ResponseStore, clock: Clock) -> None:
        await asyncio.gather(*(responses.keep("key", f"r{n}", b"%d" % n) for n in range(100)))
        found = await asyncio.gather(*(responses.find("key", f"r{n % 100}") for n in range(400)))
        assert found == [b"%d" % (n % 100) for n in range(400)]

    on_a_store(tmp_path / "db", use)


def test_a_database_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    async def use(responses: ResponseStore, clock: Clock) -> None:
        responses.close()
        with pytest.raises(Problem) as failed:
            await responses.find("key", "r1")
        assert failed.value.status == 503

    on_a_store(tmp_path / "db", use)
