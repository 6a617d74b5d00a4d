"""The ledger over each of its books: the contract, what is admitted unasked, and what a process leaves behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from zlib import crc32

import pytest
from tests.store.ledger_contract import (
    CONTRACT,
    Clock,
    Story,
    an_id_is_held_once,
    cost,
    hold,
    keeps,
    put_aside,
    sums,
)
from tests.store.ledger_kill import OPEN, empty

from lilliput.money import Account, Hold, UsageQuery
from lilliput.neutral import Problem, Usage
from lilliput.store import journal, journal_ledger
from lilliput.store.allotment import FRESH_S
from lilliput.store.journal_ledger import JournalLedger


@pytest.mark.parametrize("store", OPEN)
@pytest.mark.parametrize("story", CONTRACT, ids=lambda s: s.__name__)
def test_it_keeps_the_contract(story: Story, store: str) -> None:
    with empty(store) as where:
        keeps(lambda clock: OPEN[store](where, clock), story)


@pytest.mark.parametrize("store", OPEN)
@pytest.mark.parametrize("story", [s for s in CONTRACT if s is not an_id_is_held_once], ids=lambda s: s.__name__)
def test_it_keeps_the_contract_unasked(story: Story, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = JournalLedger.hold

    async def as_the_till(self: JournalLedger, h: Hold) -> None:
        if not self.hold_now(h):
            await asked(self, h)

    monkeypatch.setattr(JournalLedger, "hold", as_the_till)
    with empty(store) as where:
        keeps(lambda clock: OPEN[store](where, clock), story)


Two = Callable[[JournalLedger, JournalLedger, Clock], Awaitable[None]]


def told(store: str, story: Two) -> None:
    """Run the story with two processes' ledgers on one database; every sum is right at its end."""

    async def whole(where: str) -> None:
        clock = Clock()
        async with OPEN[store](where, clock) as one, OPEN[store](where, clock) as other:
            await story(one, other, clock)
            assert await one.check() == []
            assert await other.check() == []

    with empty(store) as where:
        asyncio.run(whole(where))


@pytest.fixture(params=OPEN)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_few_requests_ask_the_database(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.put_account(Account(id="k", kind="key", limit_nusd=10**6))
        asked = 0
        for n in range(1000):
            if not one.hold_now(hold(f"r{n}")):
                asked += 1
                await one.hold(hold(f"r{n}"))
            assert one.settle_now(f"r{n}", cost(7))
        assert asked <= 2
        assert await sums(one) == (None, 7000, 0)
        assert await sums(other) == (None, 7000, 0), "nothing is kept"

    told(store, story)


def test_a_process_keeps_a_part_of_what_is_left_and_gives_it_back(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.put_account(Account(id="org", kind="organisation", limit_nusd=16_000))
        for key in ("k", "j"):
            await one.put_account(Account(id=key, kind="key", parent="org"))
        await one.hold(hold("r1", 10))
        assert await sums(other, "org") == (None, 0, 10 + (16_000 - 10) // 16)
        await other.hold(hold("r2", 10_000, "j"))
        await other.hold(hold("r3", 4900, "j"))
        with pytest.raises(Problem) as e:
            await other.hold(hold("r4", 500, "j"))
        assert e.value.retry_after_s == 1.0
        await one.check()
        await other.hold(hold("r4", 500, "j"))

    told(store, story)


def test_nobody_is_refused_for_what_his_own_process_keeps(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.put_account(Account(id="org", kind="organisation", limit_nusd=16_000))
        for key in ("k", "j"):
            await one.put_account(Account(id=key, kind="key", parent="org"))
        await one.hold(hold("r1", 10))
        await one.hold(hold("r2", 15_990, "j"))
        with pytest.raises(Problem):
            await one.hold(hold("r3", 1, "j"))

    told(store, story)


def test_what_nobody_uses_goes_back_by_itself(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_ledger, "FLUSH_S", 0.005)

    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.put_account(Account(id="k", kind="key", limit_nusd=16_000))
        await one.hold(hold("r1", 10))
        one.settle_now("r1", cost(7))
        assert (await sums(other))[2] > 0
        async with asyncio.timeout(5):
            while await sums(other) != (None, 7, 0):
                await asyncio.sleep(0.005)

    told(store, story)


def test_a_limit_that_another_sets_binds_within_a_second(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.hold(hold("r1", 10))
        assert one.is_unlimited("k")
        await other.put_account(Account(id="k", kind="key", limit_nusd=20))
        clock.now += FRESH_S
        assert not one.is_unlimited("k")
        await put_aside(one, hold("r2", 10))
        with pytest.raises(Problem):
            await put_aside(one, hold("r3", 1))

    told(store, story)


def test_an_id_that_two_requests_have_is_metered_twice(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        odd = cost(7, usage=Usage(input=-(2**70)), served="\0\ud800")
        for n in range(3):  # once landed already, and twice in one landing
            await one.hold(hold(f"r{n}"))
            assert one.hold_now(hold("again"))
            assert one.settle_now("again", odd)
            if not n:
                await one.check()
        (row,) = await one.usage(UsageQuery())
        assert (row.requests, row.cost_nusd) == (3, 21)

    told(store, story)


def test_a_clock_that_jumps_settles_nothing_that_runs(store: str) -> None:
    """The clock of a machine goes, and with it what others think of leases; requests that run are their process's."""

    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        still = clock.now
        one._steady = other._steady = lambda: still
        await one.put_account(Account(id="k", kind="key", limit_nusd=1000))
        await one.hold(hold("r1", 10))
        for jump in (10**6, -(10**6)):
            clock.now += jump
            assert await other.sweep() == 0
            assert (await sums(other))[2] >= 10, "nor is it free"
            assert await one.sweep() == 0
        assert await one.settle("r1", cost(7))
        assert await sums(one) == (None, 7, 0)
        (row,) = await other.usage(UsageQuery())
        assert (row.requests, row.problems) == (1, 0)

    told(store, story)


def test_the_journal_of_the_dead_lands_once(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.put_account(Account(id="k", kind="key", limit_nusd=16_000))
        await one.hold(hold("r1", 10))
        await one.hold(hold("r2", 10))
        assert one.settle_now("r2", cost(7))
        path = one._folder / one._journal.id
        left = path.read_bytes()
        one._journal._let_go()
        one._open.clear()
        one._allotments.clear()
        one._ended.clear()
        one._made = 0
        assert await other.sweep() == 1
        path.write_bytes(left)  # as when the one who landed it was killed before it was removed
        assert await other.sweep() == 0
        assert not path.exists()
        assert await sums(other) == (None, 17, 0)

    told(store, story)


def test_what_a_lost_machine_held_is_free_after_its_lease(store: str) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.put_account(Account(id="k", kind="key", limit_nusd=1000))
        await one.hold(hold("r1", 10))
        (path,) = [p for p in one._folder.iterdir() if p.name == one._journal.id]
        path.unlink()
        assert await other.sweep() == 0
        assert await sums(other) == (None, 0, 10)
        clock.now += 61
        assert await other.sweep() == 0
        assert await sums(other) == (None, 0, 0)
        assert one.settle_now("r1", cost(7)), "it was not lost after all"
        assert await sums(one) == (None, 7, 0)

    told(store, story)


def test_a_full_disk_is_told_before_anything_goes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(one: JournalLedger, other: JournalLedger, clock: Clock) -> None:
        await one.hold(hold("r1", 10))
        room = 3 * one._journal._room // 4
        while one._journal._at < room:
            assert one.hold_now(hold(f"n{one._journal._at}", 10, model="m" * 9999))
        running = list(one._open)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "rename", full)
        with pytest.raises(Problem) as e:
            [one.hold_now(hold(f"full{n}", 10, model="m" * 9999)) for n in range(30)]
        assert e.value.status == 503
        for id in running[: len(running) // 4]:
            assert one.settle_now(id, cost(7)), "there is room for what was admitted"
        monkeypatch.undo()

    told("sqlite", story)


def test_a_record_that_was_cut_is_none() -> None:
    record = b"\x93\x01\x02\x03"
    framed = journal._FRAME.pack(len(record), crc32(record)) + record
    whole = journal._HEAD.pack(journal._MAGIC, 7) + framed + framed
    for cut in range(len(whole)):
        count = max(0, cut - journal._HEAD.size) // len(framed)
        assert journal.read(whole[:cut].ljust(len(whole) + 20, b"\0")) == (7 if cut > 8 else 0, [[1, 2, 3]] * count)
    assert journal.read(whole) == (7, [[1, 2, 3]] * 2)
