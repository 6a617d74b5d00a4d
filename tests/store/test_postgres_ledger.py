from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.store import ledger_kill
from tests.store.fake import finish, start
from tests.store.ledger_contract import CONTRACT, Clock, Story, cost, hold, keeps, sums
from tests.store.postgres_place import Wire, url
from tests.store.test_ledger_race import CALLS, EACH, WORTH, race

from lilliput.money import Account, Ledger
from lilliput.neutral import Problem
from lilliput.store.postgres import open_postgres
from lilliput.store.postgres_ledger import PostgresLedger
from lilliput.store.postgres_pool import PAUSE_S

__all__ = ["url"]


@asynccontextmanager
async def opened(url: str, clock: Callable[[], float]) -> AsyncIterator[Ledger]:
    store = await open_postgres(url)
    try:
        yield PostgresLedger(store.pool, clock=clock)
    finally:
        await store.close()


@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
def test_postgres_keeps_the_contract(story: Story, url: str) -> None:
    keeps(lambda clock: opened(url, clock), story)


# -- races -----------------------------------------------------------------------------------------------------------


def race_seeds(url: str, seeds: range) -> None:
    async def whole() -> None:
        async with opened(url, Clock()) as ledger:
            for seed in seeds:
                await race(ledger, seed)

    asyncio.run(whole())


def test_never_a_sixth(url: str) -> None:
    race_seeds(url, range(5))


@pytest.mark.slow
def test_never_a_sixth_in_a_hundred_seeds(url: str) -> None:
    race_seeds(url, range(100, 200))


RACER = """
import asyncio, random, sys
from lilliput.money import Hold
from lilliput.neutral import Problem
from lilliput.store.open import open_store

async def main(url: str, who: str, calls: int, each: int) -> None:
    opened = await open_store(url, None)
    print("ready", flush=True)
    for line in sys.stdin:
        seed, dice = line.strip(), random.Random(who + line)
        holds = [
            Hold(id=f"{seed}-{who}-{n}", account=f"k{dice.randrange(4)}-{seed}", amount_nusd=each, lease_s=600,
                 operation="chat", model="m")
            for n in range(calls)
        ]
        async def call(hold: Hold) -> None:
            await asyncio.sleep(dice.random() * 0.02)
            await opened.ledger.hold(hold)
        answers = await asyncio.gather(*(call(h) for h in holds), return_exceptions=True)
        odd = [a for a in answers if a is not None and getattr(a, "code", None) != "budget_exceeded"]
        assert not odd, odd
        print(answers.count(None), flush=True)
    await opened.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


def race_replicas(url: str, seeds: range) -> None:
    async def put(seed: int) -> None:
        async with opened(url, time.time) as ledger:
            await ledger.put_account(Account(id=f"org{seed}", kind="organisation", limit_nusd=WORTH * EACH))
            for n in range(4):
                await ledger.put_account(Account(id=f"k{n}-{seed}", kind="key", parent=f"org{seed}"))

    async def look(seed: int) -> None:
        async with opened(url, time.time) as ledger:
            assert await sums(ledger, f"org{seed}") == (None, 0, WORTH * EACH)
            assert await ledger.check() == []

    asyncio.run(put(seeds[0]))
    replicas = [start(RACER, url, str(who), str(CALLS // 2), str(EACH)) for who in range(2)]
    try:
        for r in replicas:
            assert r.stdout is not None
            assert r.stdout.readline() == "ready\n", r.communicate()
        for seed in seeds:
            asyncio.run(put(seed))
            for r in replicas:
                assert r.stdin is not None
                r.stdin.write(f"{seed}\n")
                r.stdin.flush()
            assert sum(int(r.stdout.readline() or 0) for r in replicas if r.stdout is not None) == WORTH
            asyncio.run(look(seed))
        for r in replicas:
            finish(r)
    finally:
        for r in replicas:
            r.kill()
            r.communicate()


def test_two_replicas_never_admit_a_sixth(url: str) -> None:
    race_replicas(url, range(3))


@pytest.mark.slow
def test_two_replicas_never_admit_a_sixth_in_a_hundred_seeds(url: str) -> None:
    race_replicas(url, range(100, 200))


# -- kills -----------------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, sys
from tests.store import ledger_kill, test_postgres_ledger

ledger_kill.OPEN["postgres"] = test_postgres_ledger.opened
asyncio.run(ledger_kill.work("postgres", sys.argv[1], sys.argv[2]))
"""


def kill_often(url: str, times: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Kill that many replicas at random moments, and verify after each; how many calls there were, how many dangled."""
    monkeypatch.setitem(ledger_kill.OPEN, "postgres", opened)
    dice = random.Random(seed)
    lines: list[str] = []
    dangling = calls = 0
    for n in range(times):
        began = time.time()
        process = start(WORKER, url, f"s{seed}r{n}")
        try:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
            time.sleep(dice.random() * 0.3)
        finally:
            process.kill()
            rest, _ = process.communicate(timeout=60)
        lines += rest.splitlines()
        time.sleep(0.05)  # the server still commits what it was sent
        calls, left = asyncio.run(ledger_kill.verify("postgres", url, lines, began))
        dangling += left
    return calls, dangling


def test_a_kill_loses_and_doubles_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, _ = kill_often(url, 1, 1, monkeypatch)
    assert calls > 0


@pytest.mark.slow
def test_ten_kills_lose_and_double_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, dangling = kill_often(url, 10, 2, monkeypatch)
    assert calls > 100
    assert dangling > 0, "no kill hit a request: they prove nothing"


# -- a database that goes away -----------------------------------------------------------------------------------------


def test_a_ledger_whose_database_goes_away_refuses_and_goes_on(url: str) -> None:
    async def story() -> None:
        wire = Wire(url)
        await wire.mend()
        async with opened(wire.url, time.time) as ledger:
            await ledger.hold(hold("r1"))
            await wire.cut()
            began = time.monotonic()
            answers = await asyncio.gather(*(ledger.hold(hold(f"d{n}")) for n in range(50)), return_exceptions=True)
            assert {a.status for a in answers if isinstance(a, Problem)} == {503}
            assert len([a for a in answers if isinstance(a, Problem)]) == 50
            with pytest.raises(Problem):
                await ledger.settle("r1", cost(7))
            assert time.monotonic() - began < 5
            await wire.mend()
            await asyncio.sleep(PAUSE_S)
            assert await ledger.settle("r1", cost(7))
            assert await sums(ledger) == (None, 7, 0)
            assert await ledger.check() == []
        await wire.close()

    asyncio.run(story())


def test_a_hold_whose_commit_nobody_heard_is_given_back(url: str) -> None:
    """The server commits and its answer is lost: the caller is told that it holds nothing, so it must not."""

    async def story() -> None:
        wire = Wire(url)
        await wire.mend()
        async with opened(wire.url, time.time) as ledger:
            await ledger.hold(hold("first"))
            await ledger.settle("first", cost(1))
            wire.deaf_after = b"COMMIT"
            lost = asyncio.create_task(ledger.hold(hold("lost")))
            async with opened(url, time.time) as other:
                async with asyncio.timeout(5):
                    while (await sums(other))[2] == 0:
                        await asyncio.sleep(0.01)
            wire.deaf_after = None
            await wire.cut()
            with pytest.raises(Problem):
                await lost
            await wire.mend()
            await asyncio.sleep(PAUSE_S)
            await ledger.hold(hold("next"))
            assert await sums(ledger) == (None, 1, 10), "the next one alone"
        await wire.close()

    asyncio.run(story())


def test_what_cannot_be_stored_fails_alone(url: str) -> None:
    async def story() -> None:
        async with opened(url, time.time) as ledger:
            await asyncio.gather(*(ledger.hold(hold(f"r{n}")) for n in range(3)))
            ends = [ledger.settle("r0", cost(1)), ledger.settle("r1", cost(-1)), ledger.settle("r2", cost(2))]
            answers = await asyncio.gather(*ends, ledger.hold(hold("r3")), return_exceptions=True)
            assert [isinstance(a, Problem) for a in answers] == [False, True, False, False]
            assert await sums(ledger) == (None, 3, 20)
            assert await ledger.check() == []

    asyncio.run(story())


def test_the_check_sees_one_moment(url: str) -> None:
    async def story() -> None:
        async with opened(url, time.time) as ledger, opened(url, time.time) as other:

            async def caller(number: int) -> None:
                for n in range(10_000):
                    await ledger.hold(hold(f"{number}-{n}"))
                    await ledger.settle(f"{number}-{n}", cost(7))

            callers = [asyncio.create_task(caller(n)) for n in range(8)]
            assert [await other.check() for _ in range(40)] == [[]] * 40
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    asyncio.run(story())
