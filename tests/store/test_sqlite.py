from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.store.fake import finish, start

from lilliput.neutral import Key, Problem
from lilliput.store.epoch import Epoch
from lilliput.store.keys import open_ring
from lilliput.store.port import KeyRow, Store
from lilliput.store.sqlite import FIND_KEY, SqliteStore


def row(n: int, name: str = "") -> KeyRow:
    return KeyRow(Key(id=f"id{n:06}", name=name, created_at=float(n)), n.to_bytes(32, "big"))


def run(path: Path, story: Callable[[SqliteStore], Awaitable[None]], wait_s: float = 5.0) -> None:
    async def whole() -> None:
        store = SqliteStore(path, clock=lambda: 7.0, wait_s=wait_s)
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(whole())


# -- the contract, which every store keeps -----------------------------------------------------------------------


async def keys_come_back_as_they_went(store: Store) -> None:
    full = Key(id="a", name="o'hara; --", models=("x/*", "y/z"), expires_at=9.5, created_at=1.5, local=True)
    assert await store.add_key(KeyRow(full, b"d" * 32))
    assert await store.add_key(row(1))
    assert store.find_key(b"d" * 32) == KeyRow(full, b"d" * 32)
    assert store.find_key(row(1).digest) == row(1)
    assert store.find_key(b"e" * 32) is None
    assert store.find_key(b"") is None
    assert await store.keys() == [row(1).key, full], "oldest first"


async def a_taken_id_or_digest_is_refused(store: Store) -> None:
    assert await store.add_key(row(1))
    assert not await store.add_key(row(1))
    assert not await store.add_key(KeyRow(row(2).key, row(1).digest))
    assert not await store.add_key(KeyRow(row(1).key, row(2).digest))
    assert await store.keys() == [row(1).key]


async def a_key_is_revoked_once(store: Store) -> None:
    await store.add_key(row(1))
    assert not await store.revoke_key("id' OR '1'='1", 5.0)
    assert await store.revoke_key("id000001", 5.0)
    assert not await store.revoke_key("id000001", 6.0)
    found = store.find_key(row(1).digest)
    assert found is not None
    assert found.key.revoked_at == 5.0


async def the_epoch_moves_with_the_keys_alone(store: Store) -> None:
    seen = [store.epoch()]
    await store.add_key(row(1))
    seen.append(store.epoch())
    await store.revoke_key("id000001", 5.0)
    seen.append(store.epoch())
    assert len(set(seen)) == 3
    assert not any(n & 1 for n in seen)
    await store.note("a", b"b")
    await store.keys()
    assert store.epoch() == seen[-1]


async def a_note_is_kept_as_first_written(store: Store) -> None:
    assert await store.noted("a") is None
    assert await store.note("a", b"\0one") == b"\0one"
    assert await store.note("a", b"two") == b"\0one"
    assert await store.noted("a") == b"\0one"
    assert await store.noted("b") is None


async def many_at_once_all_arrive(store: Store) -> None:
    assert all(await asyncio.gather(*(store.add_key(row(n)) for n in range(500))))
    assert [k.id for k in await store.keys()] == [f"id{n:06}" for n in range(500)]


CONTRACT = [
    keys_come_back_as_they_went,
    a_taken_id_or_digest_is_refused,
    a_key_is_revoked_once,
    the_epoch_moves_with_the_keys_alone,
    a_note_is_kept_as_first_written,
    many_at_once_all_arrive,
]


@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
def test_sqlite_keeps_the_contract(story: Callable[[Store], Awaitable[None]], tmp_path: Path) -> None:
    run(tmp_path / "lilliput.db", story)


# -- what is SQLite's own ----------------------------------------------------------------------------------------


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    async def first(store: SqliteStore) -> None:
        await store.add_key(row(1))

    async def second(store: SqliteStore) -> None:
        assert await store.keys() == [row(1).key]

    run(tmp_path / "lilliput.db", first)
    run(tmp_path / "lilliput.db", second)


def test_every_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lilliput.db"

    async def story(store: SqliteStore) -> None:
        await store.add_key(row(1))
        modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
        assert modes == {f"lilliput.db{end}": 0o600 for end in ("", "-wal", "-shm", ".epoch")}
        assert path.parent.stat().st_mode & 0o777 == 0o700

    run(path, story)
    path.chmod(0o644)
    run(path, story)


def test_neither_token_nor_pepper_is_in_any_file_of_the_database(tmp_path: Path) -> None:
    path, pepper_file = tmp_path / "data" / "lilliput.db", tmp_path / "pepper"

    async def story(store: SqliteStore) -> None:
        ring = await open_ring(store, pepper_file)
        _, token = await ring.create("canary")
        ring.find(token.reveal())
        await ring.revoke(token.reveal())
        pepper, text = pepper_file.read_bytes(), token.reveal()
        with sqlite3.connect(path) as other:
            dump = "\n".join(other.iterdump()).encode()
        other.close()
        held = dump + b"".join(p.read_bytes() for p in path.parent.iterdir())
        assert b"canary" in held, "the files do hold the row"
        for secret in (
            text.encode(),
            text[13:45].encode(),
            pepper,
            pepper.hex().encode(),
            pepper.hex().upper().encode(),
        ):
            assert secret not in held

    run(path, story)


def test_among_a_hundred_thousand_keys_one_is_found_by_index(tmp_path: Path) -> None:
    async def story(store: SqliteStore) -> None:
        insert = "INSERT INTO api_key VALUES (?, ?, '', '[]', 0, NULL, NULL, 0, '')"
        rows = [(f"id{n:06}", n.to_bytes(32, "big")) for n in range(100_000)]
        await store.write(lambda db: db.executemany(insert, rows).rowcount, changes_keys=True)
        explain = f"EXPLAIN QUERY PLAN {FIND_KEY}"
        (plan,) = await store.write(lambda db: db.execute(explain, (b"",)).fetchall())
        assert plan[3].startswith("SEARCH api_key USING INDEX")
        found = store.find_key(row(99_999).digest)
        assert found is not None
        assert found.key.id == "id099999"

    run(tmp_path / "lilliput.db", story)


def test_a_reader_waits_for_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "lilliput.db"

    async def story(store: SqliteStore) -> None:
        await store.add_key(row(1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE api_key SET revoked_at = 3")
        found = store.find_key(row(1).digest)
        assert found == row(1), "what was committed last"
        assert await store.keys() == [row(1).key]
        other.execute("ROLLBACK")
        other.close()

    run(path, story)


def test_the_request_path_cannot_write(tmp_path: Path) -> None:
    async def story(store: SqliteStore) -> None:
        (only,) = store._reader.execute("PRAGMA query_only").fetchone()
        assert only == 1

    run(tmp_path / "lilliput.db", story)


def test_a_locked_database_is_a_problem_and_works_again(tmp_path: Path) -> None:
    path = tmp_path / "lilliput.db"

    async def story(store: SqliteStore) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Problem) as e:
            await store.add_key(row(1))
        assert (e.value.fault, e.value.status, e.value.code) == ("server", 503, "store_locked")
        assert e.value.retry_after_s
        assert str(path) in e.value.say
        other.execute("ROLLBACK")
        other.close()
        assert await store.add_key(row(1))

    run(path, story, wait_s=0.05)


def test_opening_takes_the_lock_of_those_who_change_keys_but_not_the_databases(tmp_path: Path) -> None:
    path = tmp_path / "lilliput.db"

    async def story(store: SqliteStore) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await SqliteStore(path, wait_s=0.05).close()
        other.close()
        epoch = Epoch(tmp_path / "lilliput.db.epoch")
        with epoch.lock(1.0), pytest.raises(Problem) as e:
            SqliteStore(path, wait_s=0.05)
        assert e.value.code == "store_locked"
        epoch.close()

    run(path, story)


WRITE_PAST_A_LIMIT = """
import asyncio, resource, sys
from pathlib import Path
from lilliput.neutral import Key, Problem
from lilliput.store.port import KeyRow
from lilliput.store.sqlite import SqliteStore

async def main(path: Path) -> None:
    store = SqliteStore(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    stored, code = 0, None
    while code is None and stored < 1000:
        try:
            stored += await store.add_key(KeyRow(Key(id=f"{stored}"), stored.to_bytes(32, "big")))
        except Problem as p:
            code = p.code
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(await store.keys()) == stored
    assert await store.add_key(KeyRow(Key(id="after"), b"a" * 32))
    print(code)
    await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_write_that_the_system_refuses_is_a_problem_and_works_again(tmp_path: Path) -> None:
    assert finish(start(WRITE_PAST_A_LIMIT, tmp_path / "lilliput.db")) == "store_io\n"


def test_a_full_disk_is_a_problem_and_works_again(tmp_path: Path) -> None:
    async def story(store: SqliteStore) -> None:
        (pages,) = await store.write(lambda db: db.execute("PRAGMA page_count").fetchone())
        await store.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 4}").fetchone())
        answers = await asyncio.gather(*(store.add_key(row(n, "x" * 999)) for n in range(99)), return_exceptions=True)
        problems = [a for a in answers if isinstance(a, Problem)]
        assert problems
        assert {(p.fault, p.status, p.code) for p in problems} == {("server", 503, "store_full")}
        stored = {k.id for k in await store.keys()}
        assert stored == {f"id{n:06}" for n, a in enumerate(answers) if a is True}, "none half, none by mistake"
        await store.write(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
        assert await store.add_key(row(1000))

    run(tmp_path / "lilliput.db", story)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILT: list[tuple[str, str, Callable[[Path], object]]] = [
    ("not a database", "store_corrupt", lambda p: p.write_bytes(b"hello, this is no database\n" * 99)),
    ("a torn header", "store_corrupt", lambda p: p.write_bytes(b"\0" * 100 + p.read_bytes()[100:])),
    ("a folder", "store_unwritable", folder_instead),
]


@pytest.mark.parametrize(("name", "code", "spoil"), SPOILT, ids=[r[0] for r in SPOILT])
def test_a_spoilt_file_is_refused_at_the_start(
    name: str, code: str, spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "lilliput.db"

    async def story(store: SqliteStore) -> None:
        await store.add_key(row(1))

    run(path, story)
    spoil(path)
    with pytest.raises(Problem) as e:
        SqliteStore(path)
    assert (e.value.fault, e.value.status, e.value.code) == ("server", 503, code)
    assert str(path) in e.value.say


def test_damage_met_while_running_is_a_problem_for_that_call(tmp_path: Path) -> None:
    path = tmp_path / "lilliput.db"

    async def fill(store: SqliteStore) -> None:
        await asyncio.gather(*(store.add_key(row(n, "x" * 60)) for n in range(500)))

    run(path, fill)
    whole = path.read_bytes()
    half = len(whole) // 8192 * 4096
    path.write_bytes(whole[:half] + b"\xff" * (len(whole) - half))

    async def look(store: SqliteStore) -> None:
        codes = set()
        for n in range(500):
            try:
                store.find_key(row(n).digest)
            except Problem as p:
                codes.add(p.code)
        assert codes == {"store_corrupt"}

    run(path, look)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async def story(store: SqliteStore) -> None:
        await store.close()
        with pytest.raises(Problem):
            store.find_key(bytes(32))
        with pytest.raises(Problem) as e:
            await store.add_key(row(1))
        assert e.value.code == "store_closed"
        assert store.epoch() == 0

    run(tmp_path / "lilliput.db", story)


def test_a_path_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(Problem) as e:
        SqliteStore(tmp_path / "data" / "lilliput.db")
    assert e.value.code == "store_unwritable"
