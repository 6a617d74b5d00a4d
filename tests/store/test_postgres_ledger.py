from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.store.ledger_contract import cost, hold, sums
from tests.store.postgres_place import Wire, url
from tests.store.test_ledger_race import CALLS, EACH, WORTH

from lilliput.money import Account
from lilliput.neutral import Problem
from lilliput.store.journal_ledger import JournalLedger
from lilliput.store.postgres import open_postgres
from lilliput.store.postgres_ledger import PostgresBooks
from lilliput.store.postgres_pool import PAUSE_S

__all__ = ["url"]


@asynccontextmanager
async def opened(url: str, clock: Callable[[], float] | None = None) -> AsyncIterator[JournalLedger]:
    """As a replica has it: on a machine of its own, by the database's clock."""
    with tempfile.TemporaryDirectory() as folder:
        store = await open_postgres(url)
        ledger = JournalLedger(PostgresBooks(store.pool, clock=clock), Path(folder), clock=clock)
        try:
            yield ledger
        finally:
            await ledger.close()
            await store.close()


def test_two_replicas_never_admit_a_sixth(url: str) -> None:
    async def story() -> None:
        async with opened(url) as one, opened(url) as other:
            for seed in range(5):
                await one.put_account(Account(id=f"org{seed}", kind="organisation", limit_nusd=WORTH * EACH))
                for n in range(4):
                    await one.put_account(Account(id=f"k{n}-{seed}", kind="key", parent=f"org{seed}"))
                holds = [hold(f"{seed}-{n}", EACH, f"k{n % 4}-{seed}") for n in range(CALLS)]
                calls = ((one, other)[n % 2].hold(h) for n, h in enumerate(holds))
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert answers.count(None) == WORTH
                assert {a.code for a in answers if isinstance(a, Problem)} == {"budget_exceeded"}
                assert await sums(other, f"org{seed}") == (None, 0, WORTH * EACH)
                assert await other.check() == []

    asyncio.run(story())


# -- a database that goes away -----------------------------------------------------------------------------------------


def test_a_ledger_whose_database_goes_away_refuses_and_goes_on(url: str) -> None:
    async def story() -> None:
        wire = Wire(url)
        await wire.mend()
        async with opened(wire.url) as ledger:
            await ledger.hold(hold("r1"))
            await wire.cut()
            began = time.monotonic()
            answers = await asyncio.gather(*(ledger.hold(hold(f"d{n}")) for n in range(50)), return_exceptions=True)
            assert {a.status for a in answers if isinstance(a, Problem)} == {503}
            assert len([a for a in answers if isinstance(a, Problem)]) == 50
            assert ledger.settle_now("r1", cost(7)), "what was admitted is written down"
            assert time.monotonic() - began < 5
            with pytest.raises(Problem):
                await ledger.check()
            await wire.mend()
            await asyncio.sleep(PAUSE_S)
            assert await sums(ledger) == (None, 7, 0)
            assert await ledger.check() == []
        await wire.close()

    asyncio.run(story())


def test_a_hold_whose_commit_nobody_heard_is_given_back(url: str) -> None:
    """The server commits and its answer is lost: the caller is told that it holds nothing, so it must not."""

    async def story() -> None:
        wire = Wire(url)
        await wire.mend()
        async with opened(wire.url) as ledger:
            await ledger.hold(hold("first"))
            await ledger.settle("first", cost(1))
            wire.deaf_after = b"COMMIT"
            lost = asyncio.create_task(ledger.hold(hold("lost")))
            async with opened(url) as other:
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
        async with opened(url) as ledger:
            await asyncio.gather(*(ledger.hold(hold(f"r{n}")) for n in range(3)))
            ends = [ledger.settle("r0", cost(1)), ledger.settle("r1", cost(-1)), ledger.settle("r2", cost(2))]
            answers = await asyncio.gather(*ends, ledger.hold(hold("r3")), return_exceptions=True)
            assert [isinstance(a, Problem) for a in answers] == [False, True, False, False]
            assert await sums(ledger) == (None, 3, 20)
            assert await ledger.check() == []

    asyncio.run(story())


def test_the_check_sees_one_moment(url: str) -> None:
    async def story() -> None:
        async with opened(url) as ledger, opened(url) as other:

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
