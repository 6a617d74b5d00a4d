"""What only several processes on one database can show."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from tests.store.fake import finish, start

from lilliput.neutral import Key
from lilliput.store.keys import KeyRing, open_ring
from lilliput.store.port import KeyRow
from lilliput.store.sqlite import SqliteStore

REVOKE = """
import asyncio, sys
from pathlib import Path
from lilliput.store.keys import open_ring
from lilliput.store.sqlite import SqliteStore

async def main(home: Path) -> None:
    store = SqliteStore(home / "lilliput.db")
    ring = await open_ring(store, home / "pepper")
    await ring.revoke(sys.argv[2])
    await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""


class CountingStore(SqliteStore):
    lookups = 0

    def find_key(self, digest: bytes) -> KeyRow | None:
        self.lookups += 1
        return super().find_key(digest)


def test_a_key_revoked_by_another_process_is_refused_at_the_next_call(tmp_path: Path) -> None:
    async def story() -> None:
        store = CountingStore(tmp_path / "lilliput.db")
        ring = await open_ring(store, tmp_path / "pepper", lambda: 1000.0)
        key, token = await ring.create("laptop")
        _, other = await ring.create("other")
        for _ in range(3):
            assert ring.find(token.reveal()) == key
            assert ring.find(other.reveal())
        assert store.lookups == 2, "the clock stands still, so they are kept"
        finish(start(REVOKE, tmp_path, "laptop"))
        assert ring.find(token.reveal()) is None
        assert ring.find(other.reveal())
        await store.close()

    asyncio.run(story())


ADD = """
import asyncio, sys
from pathlib import Path
from lilliput.neutral import Key
from lilliput.store.port import KeyRow
from lilliput.store.sqlite import SqliteStore

async def main(path: Path, who: int, many: int) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    store = SqliteStore(path)
    for n in range(many):
        assert await store.add_key(KeyRow(Key(id=f"{who}-{n}"), (who * 10**6 + n).to_bytes(32, "big")))
        print(n, flush=True)
    await store.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


def go_when_ready(*processes: subprocess.Popen[str]) -> None:
    """Let them all go on at once, when the last has reached its start line."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_processes_that_open_and_write_together_lose_nothing(tmp_path: Path) -> None:
    path, many = tmp_path / "lilliput.db", 25
    running = [start(ADD, path, str(who), str(many)) for who in range(4)]
    go_when_ready(*running)
    for process in running:
        finish(process)

    async def story() -> None:
        store = SqliteStore(path)
        assert len(await store.keys()) == 4 * many
        assert store.epoch() == 2 * 4 * many, "each commit moved it, none was lost to another's"
        await store.close()

    asyncio.run(story())


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "lilliput.db"
    process = start(ADD, path, "1", "100000")
    go_when_ready(process)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    rest, _ = process.communicate(timeout=60)
    acknowledged = 20 + rest.count("\n")

    async def story() -> None:
        store = SqliteStore(path)
        stored = len(await store.keys())
        assert acknowledged <= stored <= acknowledged + 1
        assert not store.epoch() & 1
        await store.close()

    asyncio.run(story())


DIE = """
import os, sys
from pathlib import Path
from lilliput.store.epoch import Epoch

epoch = Epoch(Path(sys.argv[1]))
with epoch.lock(5.0), epoch.change():
    os._exit(9)
"""


@pytest.mark.parametrize("heal", ["a write", "an opening"])
def test_a_writer_that_died_in_its_commit_costs_the_memory_until(heal: str, tmp_path: Path) -> None:
    async def story() -> None:
        store = CountingStore(tmp_path / "lilliput.db")
        ring = KeyRing(store, bytes(32), lambda: 1000.0)
        key, token = await ring.create("k")
        process = start(DIE, tmp_path / "lilliput.db.epoch")
        process.communicate(timeout=60)
        assert process.returncode == 9
        for _ in range(3):
            assert ring.find(token.reveal()) == key
        assert store.lookups == 3
        if heal == "a write":
            await ring.create("next")
        else:
            await SqliteStore(tmp_path / "lilliput.db").close()
        for _ in range(3):
            assert ring.find(token.reveal()) == key
        assert store.lookups == 4
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("changes", [1, 3])
def test_two_stores_in_one_process_see_each_other(changes: int, tmp_path: Path) -> None:
    async def story() -> None:
        one, two = SqliteStore(tmp_path / "lilliput.db"), SqliteStore(tmp_path / "lilliput.db")
        for n in range(changes):
            before = two.epoch()
            await one.add_key(KeyRow(Key(id=f"k{n}"), bytes([n]) * 32))
            assert two.epoch() != before
            assert two.find_key(bytes([n]) * 32)
        await one.close()
        assert await two.add_key(KeyRow(Key(id="z"), b"z" * 32))
        await two.close()

    asyncio.run(story())
