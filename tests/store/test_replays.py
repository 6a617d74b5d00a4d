"""What every store of answers and of idempotency keys keeps: one contract, over SQLite, Postgres and Redis."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from redis import Redis
from tests.store.postgres_place import place
from tests.store.store_contract import Clock
from tests.store.test_shared import Server

from lilliput.neutral import Problem
from lilliput.store.open import Answers, Claims, open_store
from lilliput.store.postgres import PostgresStore
from lilliput.store.postgres_replays import PostgresAnswers, PostgresClaims
from lilliput.store.replays import EVERY, TOUCH_S, Room, SqliteAnswers, SqliteClaims
from lilliput.store.shared import Shared
from lilliput.store.shared_replays import SharedAnswers
from lilliput.store.sqlite import SqliteStore

WIDE = Room(1000, 1 << 20)
ONE, TWO = b"1" * 32, b"2" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("r"))
    yield one
    one.kill()


@contextmanager
def somewhere(kind: str, tmp_path: Path, server: Server) -> Iterator[str]:
    if kind == "postgres":
        with place() as url:
            yield url
    elif kind == "sqlite":
        yield f"sqlite://{tmp_path}/lilliput.db"
    else:
        with Redis.from_url(server.url) as client:
            client.flushall()
        yield server.url


@asynccontextmanager
async def kept(url: str, folder: Path, room: Room, clock: Clock) -> AsyncIterator[tuple[Answers, Claims | None]]:
    if url.startswith("unix:"):
        shared = Shared(url)
        yield SharedAnswers(shared, room, clock=clock), None
        await shared.close()
        return
    opened = await open_store(url, folder / "l.db")
    try:
        if isinstance(opened.store, PostgresStore):
            pool = opened.store.pool
            yield PostgresAnswers(pool, room, clock=clock), PostgresClaims(pool, clock=clock)
        else:
            assert isinstance(opened.store, SqliteStore)
            answers = SqliteAnswers(opened.store, room, clock=clock)
            yield answers, SqliteClaims(opened.store, clock=clock)
            answers.close()
    finally:
        await opened.close()


async def answers_are_found_by_their_tenant_alone(answers: Answers, clock: Clock) -> None:
    await answers.keep("key:a", ONE, b"\x00one\xff", 60)
    assert await answers.find("key:a", ONE) == b"\x00one\xff"
    for tenant, digest in (("key:b", ONE), ("team:a", ONE), ("key:a", TWO), ("key:", ONE), ("%", ONE), ("*", ONE)):
        assert await answers.find(tenant, digest) is None, tenant
    await answers.keep("key:b", ONE, b"two", 60)
    await answers.keep("key:a", ONE, b"three", 60)
    assert [await answers.find(f"key:{x}", ONE) for x in "ab"] == [b"three", b"two"]
    assert await answers.shelves() == [("key:a", 1, 5), ("key:b", 1, 3)]


async def what_is_old_is_gone(answers: Answers, clock: Clock) -> None:
    await answers.keep("key:a", ONE, b"one", 60, b"g", b"v")
    clock.now += 59.9
    assert await answers.find("key:a", ONE) == b"one"
    clock.now += 0.2
    assert await answers.find("key:a", ONE) is None
    assert await answers.shelves() == []
    await answers.keep("key:a", TWO, b"two", 60)
    assert await answers.clear() == 1, "the old one was swept away"


async def a_group_is_its_tenants_own_the_latest_first(answers: Answers, clock: Clock) -> None:
    vectors = [array("f", [float(n), 1.0]).tobytes() for n in range(4)]
    for n, vector in enumerate(vectors[:3]):
        clock.now += 1
        await answers.keep("key:a", bytes([n]) * 32, b"x", 60, b"g", vector)
    await answers.keep("key:b", ONE, b"x", 60, b"g", vectors[3])
    await answers.keep("key:a", TWO, b"x", 60, b"other", vectors[3])
    await answers.keep("key:a", ONE, b"x", 60)
    latest = [(bytes([n]) * 32, vectors[n]) for n in (2, 1, 0)]
    assert await answers.near("key:a", b"g", 9) == latest
    assert await answers.near("key:a", b"g", 2) == latest[:2]
    assert await answers.near("key:c", b"g", 9) == []


async def a_tenant_is_cleared_alone(answers: Answers, clock: Clock) -> None:
    for tenant in ("key:a", "key:ab", "team:a"):
        await answers.keep(tenant, ONE, b"x", 60, b"g", b"v" * 4)
        await answers.keep(tenant, TWO, b"y", 60)
    assert await answers.clear("key:") == 0
    assert await answers.clear("key:a") == 2
    assert await answers.find("key:a", ONE) is None
    assert await answers.near("key:a", b"g", 9) == []
    assert await answers.find("key:ab", ONE) == b"x"
    assert await answers.clear() == 4
    assert await answers.shelves() == []


ANSWERS = [
    answers_are_found_by_their_tenant_alone,
    what_is_old_is_gone,
    a_group_is_its_tenants_own_the_latest_first,
    a_tenant_is_cleared_alone,
]


def run(
    kind: str,
    room: Room,
    tmp_path: Path,
    server: Server,
    story: Callable[[Answers, Claims | None, Clock], Awaitable[None]],
) -> None:
    async def tell(url: str) -> None:
        clock = Clock()
        async with kept(url, tmp_path, room, clock) as (answers, claims):
            await story(answers, claims, clock)

    with somewhere(kind, tmp_path, server) as url:
        asyncio.run(tell(url))


@pytest.mark.parametrize("story", ANSWERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_each_store_keeps_answers(
    kind: str, story: Callable[[Answers, Clock], Awaitable[None]], tmp_path: Path, server: Server
) -> None:
    run(kind, WIDE, tmp_path, server, lambda answers, _, clock: story(answers, clock))


@pytest.mark.parametrize(("room", "left"), [(Room(8, 1 << 20), 8), (Room(1000, 500), 5)], ids=["entries", "bytes"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_what_was_used_longest_ago_makes_room(kind: str, room: Room, left: int, tmp_path: Path, server: Server) -> None:
    async def story(answers: Answers, _: Claims | None, clock: Clock) -> None:
        for n in range(2 * EVERY + 1):
            clock.now += TOUCH_S + 1
            await answers.keep("key:a", bytes([n]) * 32, b"x" * 100, 1e6)
            await answers.find("key:a", bytes(32))  # the first one stays in use
        ((_tenant, entries, size),) = await answers.shelves()
        assert (entries, size) == (left, 100 * left)
        assert await answers.find("key:a", bytes(32)) == b"x" * 100
        assert await answers.find("key:a", bytes([1]) * 32) is None

    run(kind, room, tmp_path, server, story)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_idempotency_key_is_had_by_one_process(kind: str, tmp_path: Path, server: Server) -> None:
    async def story(_: Answers, claims: Claims | None, clock: Clock) -> None:
        assert claims is not None
        name = ("k1", ONE)
        assert await claims.claim(name, b"body", "p", 30) is None
        assert await claims.claim(name, b"other", "q", 30) == (b"body", None)
        assert await claims.claim(("k2", ONE), b"other", "q", 30) is None, "another key's own"
        assert await claims.claim(name, b"body", "p", 30) is None, "what it left unanswered itself"
        clock.now += 29
        await claims.renew([name], "p", 30)
        clock.now += 29
        assert await claims.claim(name, b"body", "q", 30) == (b"body", None)
        await claims.finish(name, "q", b"not its own", 86_400)
        await claims.drop(name, "q")
        await claims.finish(name, "p", b"answer", 86_400)
        await claims.drop(name, "p")
        for by in "pq":
            assert await claims.claim(name, b"body", by, 30) == (b"body", b"answer")
        clock.now += 86_399
        assert await claims.claim(name, b"body", "q", 30) == (b"body", b"answer")
        clock.now += 2
        assert await claims.claim(name, b"new", "q", 30) is None, "after a day it is forgotten"
        clock.now += 31
        assert await claims.claim(name, b"new", "p", 30) is None, "the lease of a process that died has run out"
        await claims.finish(name, "q", b"late", 86_400)
        await claims.drop(name, "p")
        assert await claims.claim(name, b"newer", "q", 30) is None
        await claims.finish(name, "q", b"x", 86_400)
        assert [await claims.forget(owner) for owner in ("k2", "k", "k1")] == [0, 0, 1]

    run(kind, WIDE, tmp_path, server, story)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_many_that_ask_at_once_one_has_the_key(kind: str, tmp_path: Path, server: Server) -> None:
    async def story(_: Answers, claims: Claims | None, clock: Clock) -> None:
        assert claims is not None
        got = await asyncio.gather(*(claims.claim(("k", ONE), b"body", str(n), 30) for n in range(40)))
        assert sorted(got, key=str) == [(b"body", None)] * 39 + [None]

    run(kind, WIDE, tmp_path, server, story)


def test_a_server_out_of_reach_is_a_problem_to_who_must_know() -> None:
    async def tell() -> None:
        shared = Shared("unix:///nowhere/at/all", timeout_s=0.1)
        answers = SharedAnswers(shared, WIDE)
        for call in (answers.find("a", ONE), answers.clear("a"), answers.shelves()):
            with pytest.raises(Problem) as caught:
                await call
            assert caught.value.status == 503
        await shared.close()

    asyncio.run(tell())
