from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.store.postgres_place import Wire, url
from tests.store.store_contract import row, soon

from lilliput.neutral import Problem
from lilliput.store import postgres, postgres_pool
from lilliput.store.keys import KeyRing
from lilliput.store.migrate import steps
from lilliput.store.open import open_store, sqlite_path, store_url
from lilliput.store.postgres import PostgresStore, open_postgres
from lilliput.store.postgres_migrate import SCHEMA, missing, upgrade
from lilliput.store.postgres_pool import Pool
from lilliput.store.postgres_responses import PostgresResponses

__all__ = ["url"]


def run(url: str, story: Callable[[PostgresStore], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = await open_postgres(url)
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(whole())


def on_a_wire(url: str, story: Callable[[Wire, PostgresStore], Awaitable[None]]) -> None:
    async def whole() -> None:
        wire = Wire(url)
        await wire.mend()
        store = await open_postgres(wire.url)
        try:
            await story(wire, store)
        finally:
            await store.close()
            await wire.close()

    asyncio.run(whole())


async def refused(work: Awaitable[object]) -> Problem:
    with pytest.raises(Problem) as e:
        await work
    assert (e.value.fault, e.value.status) == ("server", 503)
    assert e.value.retry_after_s
    return e.value


# -- a database that goes away -------------------------------------------------------------------------------------


def test_a_database_that_is_down_is_a_problem_at_once_and_works_again(url: str) -> None:
    async def story(wire: Wire, store: PostgresStore) -> None:
        await store.add_key(row(1))
        await wire.cut()
        began = time.monotonic()
        for _ in range(20):
            assert (await refused(store.noted("a"))).code == "store_unreachable"
        await asyncio.gather(*(refused(store.add_key(row(n))) for n in range(50)))
        assert wire.turned_away <= 2 + (time.monotonic() - began) / postgres_pool.PAUSE_S, (
            "most were told without a try"
        )
        assert store.find_key(row(1).digest) == row(1), "what is in memory is believed for a while"
        await wire.mend()
        await asyncio.sleep(postgres_pool.PAUSE_S)
        assert await store.add_key(row(2))
        assert store.find_key(row(2).digest) == row(2)

    on_a_wire(url, story)


def test_idle_connections_that_the_server_closed_cost_nobody_a_call(url: str) -> None:
    async def story(store: PostgresStore) -> None:
        await asyncio.gather(*(store.noted("a") for _ in range(20)))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lilliput' "
                "AND pid <> pg_backend_pid() AND query NOT LIKE 'LISTEN%%' AND state = 'idle' AND pid = ANY (%s)",
                ([db.info.backend_pid for db in store.pool._idle],),
            )
        await asyncio.sleep(0.1)
        assert await store.noted("a") is None

    run(url, story)


@pytest.mark.slow
def test_a_server_that_says_nothing_is_given_up_on(url: str) -> None:
    async def story(wire: Wire, _: PostgresStore) -> None:
        pool = Pool(wire.url, connect_s=0.3, wait_s=0.3)
        store = PostgresStore(pool)
        assert await store.noted("a") is None
        wire.muted = True
        began = time.monotonic()
        await refused(store.noted("a"))
        await refused(store.noted("a"))
        assert time.monotonic() - began < 10
        wire.muted = False
        await asyncio.sleep(postgres_pool.PAUSE_S)
        assert await store.noted("a") is None
        await store.close()

    on_a_wire(url, story)


def test_keys_are_not_believed_for_ever(url: str) -> None:
    async def story(wire: Wire, store: PostgresStore) -> None:
        now = time.monotonic()
        other = PostgresStore(store.pool, stale_s=10.0, monotonic=lambda: now)
        async with store.pool.borrow() as db:
            await other._refresh(db)
        await store.add_key(row(1))
        async with store.pool.borrow() as db:
            await other._refresh(db)
        await wire.cut()
        now += 9.9
        assert other.find_key(row(1).digest) == row(1)
        now += 0.2
        with pytest.raises(Problem) as e:
            other.find_key(row(1).digest)
        assert e.value.status == 503

    on_a_wire(url, story)


def test_a_listener_that_lost_its_connection_listens_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "POLL_S", 60.0)

    async def story(wire: Wire, store: PostgresStore) -> None:
        other = await open_postgres(url)
        await other.add_key(row(1))
        await soon(lambda: store.find_key(row(1).digest) is not None)
        await wire.cut()
        await other.add_key(row(2))
        await asyncio.sleep(0.1)
        assert store.find_key(row(2).digest) is None
        await wire.mend()
        await soon(lambda: store.find_key(row(2).digest) is not None)
        await other.add_key(row(3))
        await soon(lambda: store.find_key(row(3).digest) is not None)
        await other.close()

    on_a_wire(url, story)


def test_a_change_whose_signal_is_lost_is_seen_at_the_next_look(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "TELL", "SELECT 1")

    async def story(store: PostgresStore) -> None:
        other = await open_postgres(url)
        await other.add_key(row(1))
        await soon(lambda: store.find_key(row(1).digest) is not None)
        await other.close()

    run(url, story)


def test_a_key_revoked_elsewhere_is_refused_by_the_ring(url: str) -> None:
    async def story(store: PostgresStore) -> None:
        other = await open_postgres(url)
        ring, far = KeyRing(store, bytes(32), lambda: 1000.0), KeyRing(other, bytes(32), lambda: 1000.0)
        key, token = await far.create("laptop")
        await soon(lambda: ring.find(token.reveal()) == key)
        await far.revoke(key.id)
        assert far.find(token.reveal()) is None
        await soon(lambda: ring.find(token.reveal()) is None)
        await other.close()

    run(url, story)


def test_a_look_that_comes_late_undoes_none_that_came_before(url: str) -> None:
    async def story(store: PostgresStore) -> None:
        late = PostgresStore(store.pool)
        await store.add_key(row(1))
        async with store.pool.borrow() as db:
            old = await (await db.execute(postgres.KEYS, (-1,))).fetchall()
            await late._refresh(db)
            await store.revoke_key("id000001", 5.0)
            await late._refresh(db)
        late._take_in(old)
        found = late.find_key(row(1).digest)
        assert found is not None
        assert found.key.revoked_at == 5.0

    run(url, story)


def test_a_closed_store_says_so(url: str) -> None:
    async def story(store: PostgresStore) -> None:
        await store.close()
        with pytest.raises(Problem):
            store.find_key(bytes(32))
        with pytest.raises(Problem) as e:
            await store.add_key(row(1))
        assert e.value.code == "store_closed"

    run(url, story)


def test_more_callers_than_connections_take_turns(url: str) -> None:
    async def story(store: PostgresStore) -> None:
        responses = PostgresResponses(store.pool)
        await asyncio.gather(*(responses.keep("k", f"r{n}", b"%d" % n, [f"m{n}"]) for n in range(100)))
        found = await asyncio.gather(*(responses.find_item("k", f"m{n}") for n in range(100)))
        assert found == [b"%d" % n for n in range(100)]
        async with await psycopg.AsyncConnection.connect(url) as other:
            held = await other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)",
                ([db.info.backend_pid for db in store.pool._idle],),
            )
            assert 1 <= (await held.fetchall())[0][0] <= 8

    run(url, story)


# -- its errors ----------------------------------------------------------------------------------------------------

STATES = [
    ("08006", "store_unreachable", True),
    ("28P01", "store_denied", False),
    ("3D000", "store_missing", False),
    ("40P01", "store_locked", True),
    ("42501", "store_denied", False),
    ("53100", "store_full", True),
    ("53300", "store_busy", True),
    ("55P03", "store_locked", True),
    ("57014", "store_locked", True),
    ("57P01", "store_unreachable", True),
    ("25006", "store_unwritable", False),
    ("58030", "store_io", False),
    ("XX001", "store_corrupt", False),
    ("22P02", "store_failed", False),
    ("", "store_unreachable", True),
]


@pytest.mark.parametrize(("state", "code", "passing"), STATES)
def test_each_state_has_its_problem(state: str, code: str, passing: bool) -> None:
    async def story() -> Problem:
        error = psycopg.errors.lookup(state)("as it says") if state else psycopg.OperationalError("as it says")
        return Pool("postgresql://u:canary@h:1/d").problem(error)

    p = asyncio.run(story())
    assert (p.fault, p.status, p.code, p.retry_after_s is not None) == ("server", 503, code, passing)
    assert "postgresql://h:1/d" in p.say
    assert "as it says" in p.say
    assert "canary" not in p.say


BAD_URLS = ["http://h/d", "postgresql:///?nonsense=1", "sqlite://nowhere", "mysql://x", "host=h password=canary"]


@pytest.mark.parametrize("bad", BAD_URLS)
def test_a_url_that_names_no_store_is_the_configurations_fault(bad: str, tmp_path: Path) -> None:
    with pytest.raises(Problem) as e:
        asyncio.run(open_store(bad, tmp_path / "x.db"))
    assert (e.value.status, e.value.code) == (400, "store_url")
    assert "canary" not in e.value.say


def test_which_store_a_url_names(tmp_path: Path) -> None:
    here = tmp_path / "a b.db"
    assert sqlite_path("", here) == here
    assert sqlite_path(str(here), Path()) == here
    assert sqlite_path(f"sqlite://{tmp_path}/a%20b.db", Path()) == here
    assert sqlite_path("postgresql://h/d", here) is None
    assert sqlite_path("postgres://h/d", here) is None
    assert store_url({"LILLIPUT_STORE_URL": " a "}, "b") == "a"
    assert store_url({}, "b") == "b"


def test_a_password_is_in_no_text(url: str) -> None:
    async def story() -> None:
        info = conninfo_to_dict(url)
        bad = f"postgresql://nobody:canary@{info['host']}:{info['port']}/no_such_database"
        with pytest.raises(Problem) as e:
            await open_postgres(bad)
        assert e.value.status == 503
        assert "canary" not in e.value.say + repr(e.value)
        pool = Pool(bad)
        assert pool.password == "canary"
        assert "canary" not in pool.public + pool.where

    asyncio.run(story())


# -- migrations ----------------------------------------------------------------------------------------------------


def folder(where: Path, **files: str) -> Path:
    where.mkdir()
    for name, text in files.items():
        (where / f"{name.removeprefix('n')}.sql").write_text(text)
    return where


ONE, TWO = "CREATE TABLE a (x text);\n", "CREATE TABLE b (x text); INSERT INTO b VALUES ('a; -- %s');\n"


def with_pool(url: str, story: Callable[[Pool], Awaitable[None]]) -> None:
    async def whole() -> None:
        pool = Pool(url)
        try:
            await story(pool)
        finally:
            await pool.close()

    asyncio.run(whole())


def test_each_file_is_applied_once_and_in_order(url: str, tmp_path: Path) -> None:
    one = folder(tmp_path / "1", n0001_a=ONE)
    both = folder(tmp_path / "2", n0001_a=ONE, n0002_b=TWO)

    async def story(pool: Pool) -> None:
        told: list[str] = []
        assert await upgrade(pool, one, told.append) == told == ["0001_a.sql"]
        assert await missing(pool, both) == ["0002_b.sql"]
        assert await upgrade(pool, both) == ["0002_b.sql"]
        assert await upgrade(pool, both) == await missing(pool, both) == []
        async with pool.borrow() as db:
            records = await (await db.execute("SELECT version, name, checksum FROM schema_version")).fetchall()
        assert records == [(s.version, s.name, s.checksum) for s in steps(both)]

    with_pool(url, story)


REFUSED: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("a changed file", {"n0001_a": ONE}, {"n0001_a": ONE + "-- edited\n"}, "store_changed"),
    ("a newer database", {"n0001_a": ONE, "n0002_b": TWO}, {"n0001_a": ONE}, "store_newer"),
]


@pytest.mark.parametrize(("name", "then", "now", "code"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_database_made_otherwise_is_refused(
    name: str, then: dict[str, str], now: dict[str, str], code: str, url: str, tmp_path: Path
) -> None:
    async def story(pool: Pool) -> None:
        await upgrade(pool, folder(tmp_path / "then", **then))
        other = folder(tmp_path / "now", **now)
        for refuse in (upgrade, missing):
            with pytest.raises(Problem) as e:
                await refuse(pool, other)
            assert (e.value.fault, e.value.status, e.value.code) == ("server", 503, code)

    with_pool(url, story)


def test_a_database_of_something_else_is_left_alone(url: str) -> None:
    async def story(pool: Pool) -> None:
        async with pool.borrow() as db:
            await db.execute("CREATE TABLE photos (x text)")
        with pytest.raises(Problem) as e:
            await upgrade(pool)
        assert e.value.code == "store_foreign"

    with_pool(url, story)


def test_a_failing_migration_leaves_the_version_before_it(url: str, tmp_path: Path) -> None:
    async def story(pool: Pool) -> None:
        bad = folder(tmp_path / "bad", n0001_a=ONE, n0002_c="CREATE TABLE c (x text); CREATE TABEL d;\n")
        with pytest.raises(Problem, match=r"0002_c.sql did not go through and left version 1"):
            await upgrade(pool, bad)
        assert await upgrade(pool, folder(tmp_path / "good", n0001_a=ONE, n0002_b=TWO)) == ["0002_b.sql"]
        async with pool.borrow() as db:
            assert (await (await db.execute("SELECT to_regclass('c')")).fetchall()) == [(None,)]

    with_pool(url, story)


def test_replicas_that_start_together_apply_each_file_once(url: str) -> None:
    async def story() -> None:
        stores = await asyncio.gather(*(open_postgres(url) for _ in range(6)))
        async with stores[0].pool.borrow() as db:
            ((count,),) = await (await db.execute("SELECT count(*) FROM schema_version")).fetchall()
        assert count == len(steps(SCHEMA))
        for store in stores:
            await store.close()

    asyncio.run(story())
