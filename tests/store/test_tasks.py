from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import psycopg
import pytest
from tests.store.postgres_place import url
from tests.store.tasks_contract import CONTRACT, Story, keeps, row, task

from lilliput.neutral import Problem
from lilliput.store.open import open_store
from lilliput.store.sqlite import SqliteStore
from lilliput.tasks import TaskStore

__all__ = ["url"]


@asynccontextmanager
async def opened(where: str, folder: Path) -> AsyncIterator[TaskStore]:
    one = await open_store(where, folder / "lilliput.db")
    try:
        yield one.tasks
    finally:
        await one.close()


@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
def test_sqlite_keeps_the_contract(story: Story, tmp_path: Path) -> None:
    keeps(lambda: opened("", tmp_path), story)


@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
def test_postgres_keeps_the_contract(story: Story, url: str, tmp_path: Path) -> None:
    keeps(lambda: opened(url, tmp_path), story)


def held(path: Path, text: bytes) -> int:
    """How often the text is in the database's files."""
    return sum(file.read_bytes().count(text) for file in path.parent.glob(f"{path.name}*") if file.is_file())


def test_a_message_is_kept_once_and_an_erased_one_is_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lilliput.db"

    async def story() -> None:
        one = await open_store("", path)
        store = one.tasks
        assert isinstance(one.store, SqliteStore)
        try:
            await store.put(task())
            await store.add([row("r0", "CANARY-KEPT", key="k2"), row("r1", "CANARY-KEPT", key="k1")])
            for n in range(60):  # pages are split and merged, and rows move between them
                await one.store.write(lambda db: db.execute("PRAGMA secure_delete = OFF"))  # as some builds have it
                some = [row(f"r{n}-{i}", f"CANARY-GONE-{n}-{i} " * (i + 1), key=f"k{i % 3}") for i in range(20)]
                await store.add(some)
                if n % 10 == 9:
                    await store.erase(key="k0")
            assert held(path, b"CANARY-KEPT") == 1, "kept once"
            assert held(path, b"CANARY-GONE-59-1 ") > 0
            await store.erase(key="k1")
            await store.erase(key="k2" if held(path, b"CANARY-KEPT") == 1 else "")
            assert held(path, b"CANARY") == 0
            assert Path(f"{path}-wal").stat().st_size == 0
        finally:
            await one.close()

    asyncio.run(story())


def test_erasing_says_so_while_another_reads_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lilliput.store.tasks._WAIT_S", 0.05)
    path = tmp_path / "lilliput.db"

    async def story() -> None:
        async with opened("", tmp_path) as store:
            await store.add([row("r1", "CANARY")])
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM task_row").fetchone()
                with pytest.raises(Problem) as e:
                    await store.erase(key="k1")
                assert (e.value.status, e.value.code) == (503, "store_locked")
            assert await store.erase(key="k1") == {}
            assert held(path, b"CANARY") == 0

    asyncio.run(story())


def test_an_erased_message_is_in_no_table_of_postgres(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(url, tmp_path) as store:
            await store.add([row("r1", "CANARY"), row("r2", "kept", key="k2")])
            await store.erase(key="k1")

    asyncio.run(story())
    with psycopg.connect(url) as db:
        assert db.execute("SELECT count(*) FROM task_message").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM task_message WHERE position('CANARY' in body::text) > 0").fetchone()
