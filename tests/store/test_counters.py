"""Limits counted on one machine: the contract, and what only several workers can show."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from tests.store import counting
from tests.store.counting import START_MS, Op, bucket
from tests.store.fake import finish, start

from lilliput.neutral import Problem
from lilliput.store.counters import REACH, LocalCounters


class Here:
    """A `World` of `LocalCounters`."""

    def __init__(self, workers: int = 1, rows: int = 64) -> None:
        self.now_ms = START_MS
        self.counters = LocalCounters(workers, rows=rows, clock=lambda: (self.now_ms + 0.5) / 1000)

    async def at(self, now_ms: int) -> None:
        self.now_ms = now_ms

    async def quiet(self) -> None:
        pass


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("story", counting.STORIES)
def test_the_contract(story: Callable[[counting.World], Awaitable[None]], workers: int) -> None:
    async def tell() -> None:
        world = Here(workers)
        await story(world)
        await world.counters.close()

    asyncio.run(tell())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(counting.LIMITS, counting.PERIODS, counting.OPS)
def test_never_more_than_the_limit_in_any_window(limit: int, period_s: int, ops: list[Op]) -> None:
    asyncio.run(counting.never_more_than_the_limit_in_any_window(Here(), limit, period_s, ops))


def test_a_clock_that_lags_drains_nothing_and_loses_nothing() -> None:
    """Workers read the clock before they wait for the lock, so they come in another order."""

    async def tell() -> None:
        world, one = Here(), bucket(60)
        await world.at(START_MS + 60_000)
        assert (await world.counters.take((one,), (60,))).passed
        for ms, cost, passes in [
            (0, 1, False),
            (60_999, 1, False),
            (61_000, 1, True),
            (60_500, 0, True),
            (61_999, 1, False),
        ]:
            await world.at(START_MS + ms)
            assert (await world.counters.take((one,), (cost,))).passed is passes, ms

    asyncio.run(tell())


def test_full_buckets_make_room_for_others_and_those_in_use_stay() -> None:
    async def tell() -> None:
        rows = 8
        world = Here(rows=rows)
        held = bucket(3, 0, "held")
        flight = await world.counters.take((held,), (1,))
        for minute in range(50):
            await world.at(START_MS + minute * 61_000)
            for n in range(rows):
                one = bucket(2, name=f"{minute} {n}")
                assert [(await world.counters.take((one,), (1,))).passed for _ in range(3)] == [True, True, False]
        seen = await world.counters.take((held,), (0,))
        assert seen.levels == [1], "in flight since the beginning"
        world.counters.settle(flight, (0,))
        assert (await world.counters.take((held,), (0,))).levels == [0]

    asyncio.run(tell())


def test_a_full_table_refuses_rather_than_forgets() -> None:
    async def tell() -> None:
        world = Here(rows=1)
        for n in range(REACH):
            assert (await world.counters.take((bucket(1, name=str(n)),), (1,))).passed
        with pytest.raises(Problem) as caught:
            await world.counters.take((bucket(1, name="one more"),), (1,))
        assert caught.value.status == 503
        assert caught.value.code == "limits_full"
        assert not (await world.counters.take((bucket(1, name="0"),), (1,))).passed
        await world.at(START_MS + 59_999)
        with pytest.raises(Problem):
            await world.counters.take((bucket(1, name="one more"),), (1,))
        await world.at(START_MS + 60_010)
        assert (await world.counters.take((bucket(1, name="one more"),), (1,))).passed

    asyncio.run(tell())


def test_a_bucket_made_in_a_take_never_displaces_another_of_the_same_take() -> None:
    async def tell() -> None:
        world = Here(rows=1)
        many = tuple(bucket(5, name=str(n)) for n in range(REACH))
        for round in range(3):
            await world.at(START_MS + round * 120_000)
            shuffled = many[round:] + many[:round]
            assert (await world.counters.take(shuffled, (1,) * REACH)).passed
            assert (await world.counters.take(shuffled, (0,) * REACH)).levels == [60_000] * REACH
        await world.at(START_MS + 9 * 120_000)
        for n in range(REACH // 2):
            pair = many[n], bucket(5, name=f"new {n}")
            assert (await world.counters.take(pair, (1, 2))).levels == [60_000, 120_000]
            assert (await world.counters.take(pair, (0, 0))).levels == [60_000, 120_000]

    asyncio.run(tell())


RACE = """
import asyncio, os, sys
from lilliput.limits_config import Bucket
from lilliput.store.counters import LocalCounters

workers, each = int(sys.argv[1]), int(sys.argv[2])
minute = Bucket(name="minute", limit=each * 2, unit="requests", period_s=60)
day = Bucket(name="day", limit=each * 3, unit="tokens", period_s=86400)
flight = Bucket(name="flight", limit=3, unit="in_flight")
counters = LocalCounters(workers, clock=lambda: 1000.0)

async def work() -> int:
    passed = 0
    for n in range(each):
        taken = await counters.take((minute, flight, day), (1, 1, 2))
        if taken.passed:
            assert taken.levels[1] <= 3
            counters.settle(taken, (1, 0, 1) if n % 2 else (0, 0, 0))
            passed += n % 2
        own = Bucket(name=f"own {n % 7}", limit=10**9, unit="requests", period_s=60)
        assert (await counters.take((own,), (1,))).passed
    return passed

pipes = []
for worker in range(workers):
    out, into = os.pipe()
    if os.fork() == 0:
        counters.attach(worker)
        os.write(into, b"%d" % asyncio.run(work()))
        os._exit(0)
    os.close(into)
    pipes.append(out)
passed = sum(int(os.read(out, 99)) for out in pipes)
statuses = [os.wait()[1] for _ in pipes]

async def total() -> list[int]:
    own = [(await counters.take((Bucket(name=f"own {n}", limit=10**9, unit="requests", period_s=60),), (0,))).levels[0]
           for n in range(7)]
    return [*(await counters.take((minute, flight, day), (0, 0, 0))).levels, sum(own)]

print(statuses, passed, asyncio.run(total()))
"""


def test_workers_lose_and_invent_nothing() -> None:
    workers, each = 4, 800
    statuses, rest = finish(start(RACE, str(workers), str(each))).split("] ", 1)
    assert statuses.lstrip("[").split(", ") == ["0"] * workers
    passed, levels = rest.split(" ", 1)
    assert levels.strip() == str([int(passed) * 60_000, 0, int(passed) * 86_400, workers * each * 60_000])
    assert 0 < int(passed) <= 2 * each


KILL = """
import asyncio, os, signal, sys
from lilliput.limits_config import Bucket
from lilliput.store.counters import LocalCounters

flight = Bucket(name="flight", limit=4, unit="in_flight")
minute = Bucket(name="minute", limit=10**9, unit="requests", period_s=60)
counters = LocalCounters(2, clock=lambda: 1000.0)

def fork(worker: int, dies: bool) -> int:
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        counters.attach(worker)
        async def work() -> None:
            for _ in range(2):
                assert (await counters.take((flight,), (1,))).passed
            os.write(said, b".")
            while dies:
                await counters.take((minute,), (1,))
            signal.pause()
        asyncio.run(work())
    os.close(said)
    assert os.read(heard, 1) == b"."
    return pid

def level() -> int:
    return asyncio.run(counters.take((flight,), (0,))).levels[0]

other = fork(0, False)
for round in range(20):
    pid = fork(1, True)
    assert level() == 4
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert level() == 4, "until its successor is there"
    assert asyncio.run(counters.take((minute,), (1,))).passed, "the lock is free"
os.kill(other, signal.SIGKILL)
print(level())
"""


def test_what_a_killed_worker_had_in_flight_is_freed_by_its_successor() -> None:
    assert finish(start(KILL)) == "4\n"


STUCK = """
import asyncio, os, time
from lilliput.limits_config import Bucket
from lilliput.neutral import Problem
from lilliput.store.counters import LocalCounters

one = Bucket(name="one", limit=9, unit="requests", period_s=60)
flight = Bucket(name="flight", limit=1, unit="in_flight")
counters = LocalCounters(2, wait_s=0.05)
taken = asyncio.run(counters.take((one, flight), (1, 1)))
heard, said = os.pipe()
pid = os.fork()
if pid == 0:
    with counters._lock:
        os.write(said, b".")
        time.sleep(60)
os.read(heard, 1)
try:
    asyncio.run(counters.take((one,), (1,)))
except Problem as problem:
    print(problem.status, problem.code)
counters.settle(taken, (0, 0))
os.kill(pid, 9)
os.waitpid(pid, 0)
print(asyncio.run(counters.take((one, flight), (1, 1))).passed)
"""


def test_a_worker_that_is_stopped_with_the_lock_costs_the_others_a_503_until_it_ends() -> None:
    assert finish(start(STUCK)) == "503 limits_locked\nTrue\n"
