"""Counts that replicas share: a real server of the tests' own, also stopped, killed and emptied."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection
from tests.store import counting
from tests.store.counting import START_MS, Op, bucket
from tests.store.fake import finish, start

from lilliput.limits_config import DAY_S, Counters
from lilliput.neutral import Problem
from lilliput.store import shared
from lilliput.store.counters import LocalCounters
from lilliput.store.shared import Shared, SharedCounters


class Server:
    """A Redis or Valkey on a socket of its own, which keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        assert binary, "these tests start a server of their own: install redis-server or valkey-server"
        self.command = [binary, "--port", "0", "--unixsocket", str(folder / "s"), "--save", "", "--dir", str(folder)]
        self.url = f"unix://{folder}/s"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        with Redis.from_url(self.url) as client:
            for _ in range(500):
                try:
                    client.ping()
                    return
                except NoConnection:
                    time.sleep(0.01)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="lil") as folder:
        one = Server(Path(folder))
        yield one
        one.kill()


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    with Redis.from_url(server.url) as client:
        client.flushall()


class There:
    """A `World` of `SharedCounters`, whose scripts read the time from a key."""

    def __init__(self, connection: Shared, counters: SharedCounters) -> None:
        self.connection, self.counters = connection, counters

    async def at(self, now_ms: int) -> None:
        seconds, ms = divmod(now_ms, 1000)
        await self.connection.redis.set("now", json.dumps([seconds, ms * 1000]))

    async def quiet(self) -> None:
        await asyncio.gather(*self.counters._tasks)


@asynccontextmanager
async def connected(
    server: Server, local: Counters | None = None, lease_s: float = 60.0
) -> AsyncIterator[tuple[Shared, SharedCounters]]:
    connection = Shared(server.url, timeout_s=5.0)
    counters = SharedCounters(connection, local=local, lease_s=lease_s)
    try:
        yield connection, counters
    finally:
        await counters.close()
        await connection.close()


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TAKE", "_SETTLE", "_RENEW"):
        script = getattr(shared, name)
        assert script.count("redis.call('TIME')") == 1
        monkeypatch.setattr(shared, name, script.replace("redis.call('TIME')", "cjson.decode(redis.call('GET','now'))"))


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("story", counting.STORIES)
def test_the_contract(story: Callable[[counting.World], Awaitable[None]], server: Server) -> None:
    async def tell() -> None:
        async with connected(server) as (connection, counters):
            await story(There(connection, counters))

    asyncio.run(tell())


@pytest.mark.usefixtures("by_hand")
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counting.LIMITS, counting.PERIODS, counting.OPS)
def test_never_more_than_the_limit_in_any_window(server: Server, limit: int, period_s: int, ops: list[Op]) -> None:
    async def tell() -> None:
        async with connected(server) as (connection, counters):
            await connection.redis.flushall()
            await counting.never_more_than_the_limit_in_any_window(There(connection, counters), limit, period_s, ops)

    asyncio.run(tell())


@pytest.mark.usefixtures("by_hand")
def test_a_clock_that_jumps_gives_at_most_a_bucketful_and_never_stands_still_for_long(server: Server) -> None:
    async def tell() -> None:
        async with connected(server) as (connection, counters):
            world, one = There(connection, counters), bucket(60)

            async def passes_at(ms: int, cost: int) -> bool:
                await world.at(START_MS + ms)
                return (await counters.take((one,), (cost,))).passed

            assert await passes_at(0, 60)
            assert not await passes_at(-30_000, 1), "back, by less than a period: it waits"
            assert not await passes_at(999, 1)
            assert await passes_at(1_000, 1)
            assert not await passes_at(-3_600_000, 1), "back by an hour: it goes on from there"
            assert not await passes_at(-3_600_000 + 998, 1)
            assert await passes_at(-3_600_000 + 1_000, 1)
            assert await passes_at(3_600_000, 60), "forward: the bucket is full, and no more than full"
            assert not await passes_at(3_600_000, 1)

    asyncio.run(tell())


RACE = """
import asyncio, sys
from lilliput.limits_config import Bucket
from lilliput.store.shared import Shared, SharedCounters

async def main(url: str, each: int, limit: int) -> None:
    many = [Bucket(name="day", limit=limit, unit="requests", period_s=86400),
            Bucket(name="tokens", limit=10**9, unit="tokens", period_s=86400),
            Bucket(name="flight", limit=5, unit="in_flight")]
    shared = Shared(url, timeout_s=20.0)
    counters = SharedCounters(shared)
    print("ready", flush=True)
    sys.stdin.readline()
    passed = refused = 0

    async def one() -> None:
        nonlocal passed, refused
        for _ in range(each // 8):
            taken = await counters.take(tuple(many), (1, 7, 1))
            if taken.passed:
                assert taken.levels[2] <= 5
                passed += 1
                counters.settle(taken, (1, 3, 0))
            else:
                refused += 1

    await asyncio.gather(*(one() for _ in range(8)))
    await counters.close()
    await shared.close()
    print(passed, refused)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def race(server: Server, replicas: int, each: int, limit: int) -> None:
    """Day buckets take over 86 s to fill by one request, here, so the time that passes adds none."""
    began = time.time()
    running = [start(RACE, server.url, str(each), str(limit)) for _ in range(replicas)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [[int(n) for n in finish(process).split()] for process in running]
    passed = sum(p for p, _ in told)
    assert sum(p + r for p, r in told) == replicas * each, "each was answered once"
    assert passed <= limit + (time.time() - began) * limit / 86_400 + 1

    async def look() -> None:
        async with connected(server) as (connection, counters):
            day, tokens, flight = (
                bucket(limit, DAY_S, "day"),
                bucket(10**9, DAY_S, "tokens"),
                bucket(5, 0, "flight"),
            )
            seen = await counters.take((day, tokens, flight), (0, 0, 0))
            assert seen.levels[2] == 0, "all came back"
            row = await connection.redis.hgetall("{lilliput:limits}:day")
            assert int(row[b"poured"]) == passed * day.ticks, "each that passed was counted once, and no other"

    asyncio.run(look())


def test_two_replicas_never_pass_more_than_the_limit(server: Server) -> None:
    race(server, 2, 400, 150)


@pytest.mark.slow
def test_four_replicas_with_thousands_of_takes(server: Server) -> None:
    race(server, 4, 4_000, 2_000)


def test_a_lease_is_renewed_while_its_replica_lives_and_ends_when_it_dies(server: Server) -> None:
    async def tell() -> None:
        one = bucket(1, 0)
        async with connected(server, lease_s=0.3) as (_, living), connected(server, lease_s=0.3) as (_, dying):
            taken = await living.take((one,), (1,))
            assert taken.passed
            for _ in range(8):
                await asyncio.sleep(0.1)
                assert not (await dying.take((one,), (1,))).passed, "past its lease, and renewed"
            living.settle(taken, (0,))
            await asyncio.gather(*living._tasks)
            assert (await dying.take((one,), (1,))).passed
            assert dying._renewing is not None
            dying._renewing.cancel()
            two = bucket(2, 0)
            assert (await living.take((two,), (1,))).passed
            assert not (await living.take((two,), (1,))).passed
            await asyncio.sleep(0.35)
            assert (await living.take((two,), (1,))).passed, "nobody renewed that of the dead"
            assert not (await living.take((two,), (1,))).passed

    asyncio.run(tell())


def test_a_server_that_lost_all_is_told_again_what_is_in_flight(server: Server) -> None:
    async def tell() -> None:
        one = bucket(1, 0)
        async with connected(server, lease_s=0.3) as (connection, counters):
            assert (await counters.take((one,), (1,))).passed
            await connection.redis.flushall()
            await asyncio.sleep(0.25)
            assert not (await counters.take((one,), (1,))).passed

    asyncio.run(tell())


def test_a_take_that_is_cancelled_leaves_nothing_in_flight(server: Server) -> None:
    async def tell() -> None:
        one = bucket(1, 0)
        async with connected(server) as (_, counters):
            assert (await counters.take((one,), (0,))).passed
            os.kill(server.process.pid, signal.SIGSTOP)
            task = asyncio.create_task(counters.take((one,), (1,)))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            os.kill(server.process.pid, signal.SIGCONT)
            await asyncio.gather(*counters._tasks)
            await asyncio.sleep(0.05)
            assert (await counters.take((one,), (0,))).levels == [0]

    asyncio.run(tell())


# -- without a server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [True, False], ids=["fail closed", "fail open"])
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_server_out_of_reach(how: str, closed: bool) -> None:
    """Costs one timeout and then nothing; limits are held by this process or nothing passes; it heals by itself."""

    async def tell(server: Server) -> None:
        now = 100.0
        local = None if closed else LocalCounters(rows=8, clock=lambda: now)
        connection = Shared(server.url, timeout_s=0.05, clock=lambda: now)
        counters, one = SharedCounters(connection, local=local), bucket(2)
        before = await counters.take((one,), (1,))
        assert before.passed
        if how == "killed":
            server.kill()
        else:
            os.kill(server.process.pid, signal.SIGSTOP)
        outcomes = []
        for _ in range(3):
            try:
                taken = await counters.take((one,), (1,))
                outcomes.append(str(taken.passed))
            except Problem as problem:
                outcomes.append(f"{problem.status} {problem.code} {problem.retry_after_s:g}")
        assert outcomes == (["503 shared_unreachable 1"] * 3 if closed else ["True", "True", "False"])
        assert connection.failures == 1, "the others did not wait for it"
        counters.settle(before, (0,))
        if not closed:
            counters.settle(taken, (0,))
        await asyncio.gather(*counters._tasks)
        now += 2
        tried = await asyncio.gather(*(connection.ask(connection.redis.ping) for _ in range(5)), return_exceptions=True)
        assert [type(t) for t in tried] == [Problem] * 5
        assert connection.failures == 2, "one tried"
        if how == "killed":
            server.start()
        else:
            os.kill(server.process.pid, signal.SIGCONT)
        now += 2
        after = await counters.take((bucket(2, name="after"),), (1,))
        assert after.passed
        assert after.by is counters
        await counters.close()
        await connection.close()

    with tempfile.TemporaryDirectory(prefix="lil") as folder:
        server = Server(Path(folder))
        try:
            asyncio.run(tell(server))
        finally:
            server.kill()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Problem, match="address"):
        Shared("localhost:6379")
