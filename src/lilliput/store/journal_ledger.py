"""The ledger as a process has it: requests are held and ended in memory and in its journal, and land in the database
some hundred at a time.

An amount that covers many requests, an *allotment*, is held on an account and all above it, and requests are admitted
against it without asking anybody. Where that would keep others from what is left, each request's own amount is asked
for; the database decides on it, as on any allotment, for all processes. What nobody uses goes back within a second.
Every request is in the journal before it goes out and again before its caller knows that it is over; the journal of a
process that died is landed by the next sweep on its machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct

from lilliput.money import Account, Hold, Outcome, Settlement, UsageQuery, UsageRow
from lilliput.neutral import Problem
from lilliput.store import journal
from lilliput.store.allotment import IDLE, LEASE_S, NEVER, Allotment
from lilliput.store.book import Books, Landed, Landing, Row, Want, already_held
from lilliput.store.budget import MOST_NUSD
from lilliput.store.journal_rows import LOST, encode, ended, replayed, running

FLUSH_S = 0.25
"""How long what ended waits for others before it lands."""
ENOUGH = 256
"""Ends that wait for no more."""


class _Open(Struct, eq=False):
    """A request that runs."""

    hold: Hold
    on: Allotment
    chain: int
    began_at: float
    lease_ends: float
    record: bytes


class _Waiting(Struct, eq=False):
    """A request whose amount is asked for. `again`: what this process kept has been given back for it."""

    hold: Hold
    future: asyncio.Future[None]
    again: bool = False


_Lines = list[tuple[Allotment, list[_Waiting]]]


class JournalLedger:
    """`money.Ledger` over the books of a database, with journals in `folder`, which belongs to that database alone.

    One for each process, used from one loop. `clock` tells Unix seconds, None takes them from the database; leases go
    by `steady`, which no change of the clock moves.
    """

    def __init__(
        self,
        books: Books,
        folder: Path,
        *,
        clock: Callable[[], float] | None = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._books, self._folder, self._steady = books, folder, steady
        self._ahead_s = 0.0
        self._clock = clock or (lambda: self._steady() + self._ahead_s)
        self._journal = journal.Journal(folder)
        self._allotments: dict[str, Allotment] = {}
        self._former: list[Allotment] = []
        """Of accounts that have moved, while requests run on them."""
        self._made = 0
        self._open: dict[str, _Open] = {}
        self._ended: list[Row] = []
        self._landed = 0
        self._waiting: list[_Waiting] = []
        self._asked: set[str] = set()
        self._shut, self._is_closed = 0, False
        self._problem: Problem | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._landing: asyncio.Task[None] | None = None

    # -- a request -------------------------------------------------------------------------------------------------

    def hold_now(self, hold: Hold) -> bool:
        on = self._allotments.get(hold.account)
        if on is None or not 0 <= hold.amount_nusd <= on.free_nusd:
            return False
        now = self._steady()
        if now >= on.until or hold.id in self._open:
            return False
        self._begin(on, hold, now)
        on.free_nusd -= hold.amount_nusd
        return True

    async def hold(self, hold: Hold) -> None:
        if not 0 <= hold.amount_nusd <= MOST_NUSD:
            raise Problem("client", f"the request may cost {hold.amount_nusd} nano-dollars: ask for fewer tokens")
        running(hold, 0, 0.0)
        if "\0" in hold.id + hold.account:
            raise Problem("client", "an account's name holds a zero byte: leave that out")
        if hold.id in self._open or hold.id in self._asked:
            raise already_held(hold.id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.add(hold.id)
        self._wait([_Waiting(hold, future)])
        try:
            await future
        except asyncio.CancelledError:
            self._end(hold.id, "released", LOST)  # nobody is left to settle it
            raise
        finally:
            self._asked.discard(hold.id)

    def settle_now(self, id: str, settlement: Settlement) -> bool:
        return self._end(id, "settled", settlement)

    def release_now(self, id: str, settlement: Settlement) -> bool:
        return self._end(id, "released", settlement)

    async def settle(self, id: str, settlement: Settlement) -> bool:
        return self._end(id, "settled", settlement)

    async def release(self, id: str, settlement: Settlement) -> bool:
        return self._end(id, "released", settlement)

    def is_unlimited(self, account: str) -> bool:
        on = self._allotments.get(account)
        return on is not None and on.is_unlimited and self._steady() < on.until

    def _begin(self, on: Allotment, hold: Hold, now: float) -> None:
        """The request is on record as one that runs; raises Problem (400, 503), and it is not."""
        began_at = self._clock()
        record = running(hold, on.chain, began_at)
        if not self._journal.append(record, begins=True):
            self._rewrite()
            if not self._journal.append(record, begins=True):
                raise Problem("client", "the request's tags are too long for the ledger: use shorter ones")
        self._open[hold.id] = _Open(hold, on, on.chain, began_at, now + hold.lease_s, record)
        on.open_nusd += hold.amount_nusd
        if hold.amount_nusd > on.most_nusd:
            on.most_nusd = hold.amount_nusd
        on.is_used = True

    def _end(self, id: str, state: Outcome, s: Settlement) -> bool:
        ends = self._open.get(id)
        if ends is None:
            return False
        hold, on = ends.hold, ends.on
        amount_nusd = hold.amount_nusd
        cost_nusd = s.cost_nusd if state == "settled" else 0 if state == "released" else amount_nusd
        if cost_nusd is not None and not 0 <= cost_nusd <= MOST_NUSD:
            raise Problem("server", f"request {id!r} cannot have cost {cost_nusd} nano-dollars: see its price")
        row, record = ended(hold, ends.chain, state, self._clock(), ends.began_at, cost_nusd, s)
        if not self._journal.append(record, begins=False):
            self._rewrite(record)
        del self._open[id]
        on.open_nusd -= amount_nusd
        if amount_nusd:
            on.free_nusd += amount_nusd - min(cost_nusd or 0, amount_nusd)
        on.is_used = True
        self._ended.append(row)
        if len(self._ended) >= ENOUGH:
            self._flush_soon()
        elif self._timer is None:
            self._rearm()
        return True

    def _rewrite(self, *more: bytes) -> None:
        """A new file for the journal, with what has not landed."""
        runs = [r.record for r in self._open.values()]
        self._journal.rewrite(self._landed, [*map(encode, self._ended), *runs, *more])

    # -- many at once ----------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _tick(self) -> None:
        self._timer = None
        for on in self._allotments.values():
            on.idle = 0 if on.is_used else on.idle + 1
        self._drop()
        self._flush()
        self._rearm()

    def _flush(self) -> None:
        """Land what there is, at once or in a task of its own; while one is under way the next waits for it."""
        self._soon = False
        if self._landing is not None:
            return
        landing, lines = self._told()
        if landing is None:
            return
        began = self._steady()
        try:
            landed = self._books.land_now(landing)
        except Problem as problem:
            self._failed(lines, problem)
            return
        if landed is not None:
            self._is_landed(landing, landed, lines, began)
        else:
            self._landing = asyncio.get_running_loop().create_task(self._land(landing, lines, began))

    async def _land(self, landing: Landing, lines: _Lines, began: float) -> None:
        problem: Problem | None = Problem("server", "the ledger was closed: start lilliput again", code="store_closed")
        try:
            landed = await self._books.land(landing)
            problem = None
        except Problem as p:
            problem = p
        finally:
            self._landing = None
            if problem is not None:
                self._failed(lines, problem)
        if problem is None:
            self._is_landed(landing, landed, lines, began)
        if self._waiting or len(self._ended) >= ENOUGH:
            self._flush_soon()

    def _told(self) -> tuple[Landing | None, _Lines]:
        """What there is to land, the allotments of its lines and who waits on each."""
        waiting, self._waiting = [w for w in self._waiting if not w.future.done()], []
        is_quiet = self._shut > 0 or any(w.again for w in waiting)
        if is_quiet:
            self._give_back()
        by_account: dict[str, list[_Waiting]] = {}
        for w in waiting:
            by_account.setdefault(w.hold.account, []).append(w)
        for account in by_account.keys() - self._allotments.keys():
            self._made += 1
            self._allotments[account] = Allotment(f"{self._journal.id}-{self._made}", account)
        soon = self._steady() + LEASE_S / 2
        lines: _Lines = []
        for on in [*self._allotments.values(), *self._former]:
            mine = by_account.get(on.account, []) if on is self._allotments.get(on.account) else []
            if on.idle >= IDLE or mine:
                on.is_used |= on.idle == IDLE
                on.give_back()
            if on.is_used or mine or on.lease_ends < soon:
                lines.append((on, mine))
        if not lines and not self._ended:
            return None, lines
        told = [on.tell([Want(w.hold.id, w.hold.amount_nusd) for w in who], is_quiet) for on, who in lines]
        return Landing(self._journal.id, self._landed, list(self._ended), told), lines

    def _give_back(self) -> None:
        """Nothing is kept for requests to come."""
        for on in [*self._allotments.values(), *self._former]:
            on.give_back()

    def _failed(self, lines: _Lines, problem: Problem) -> None:
        self._problem = problem
        for on, waiting in lines:
            on.is_used = True
            for w in waiting:
                if not w.future.done():
                    w.future.set_exception(problem)
        self._rearm()

    def _is_landed(self, landing: Landing, landed: Landed, lines: _Lines, began: float) -> None:
        self._problem = None
        self._ahead_s = landed.now - self._steady()
        self._landed += len(landing.rows)
        del self._ended[: len(landing.rows)]
        is_kept = any(a.spare_nusd for a in self._allotments.values())
        for (on, who), allotted in zip(lines, landed.lines, strict=True):
            on.hear(allotted, began, self._shut > 0)
            if allotted.has_moved:
                if self._allotments.get(on.account) is on:
                    del self._allotments[on.account]
                    self._former.append(on)
                self._wait(who)
            for w, refusal in zip(who, allotted.answers, strict=False):
                self._answer(on, w, refusal, is_kept)
        self._rearm()

    def _drop(self) -> None:
        """Forget what nobody uses."""
        kept = {k: on for k, on in self._allotments.items() if on.idle < IDLE or not on.is_over}
        self._allotments = kept
        self._former = [on for on in self._former if not on.is_over]

    def _answer(self, on: Allotment, w: _Waiting, refusal: Problem | None, is_kept: bool) -> None:
        """Let it go on, or tell it why not: unless what this process keeps may be all that is in its way."""
        if refusal is not None:
            if refusal.fault == "limit" and not w.again and is_kept:
                w.again = True
                self._wait([w])
            elif not w.future.done():
                w.future.set_exception(refusal)
            return
        if not w.future.done():
            try:
                self._begin(on, w.hold, self._steady())
                w.future.set_result(None)
                return
            except Problem as problem:
                w.future.set_exception(problem)
        if not on.is_unlimited:  # nobody is left to use it
            on.free_nusd += w.hold.amount_nusd
            on.is_used = True

    def _wait(self, waiting: list[_Waiting]) -> None:
        self._waiting += waiting
        if waiting:
            self._flush_soon()

    def _rearm(self) -> None:
        if self._timer is None and (self._allotments or self._former or self._ended) and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._tick)

    # -- everything else ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _settled(self) -> AsyncIterator[None]:
        """All that ended has landed, nothing is kept for requests to come, and none is admitted unasked meanwhile."""
        self._shut += 1
        try:
            for on in self._allotments.values():
                on.until = NEVER
            await self._quiet()
            self._problem = None
            self._flush()
            await self._quiet()
            if self._problem is not None:
                raise self._problem
            yield
        finally:
            self._shut -= 1

    async def _quiet(self) -> None:
        """No landing is under way."""
        while self._landing is not None:
            await asyncio.wait({self._landing})

    async def sweep(self) -> int:
        over = [id for id, r in self._open.items() if r.lease_ends <= self._steady()]
        swept = sum(self._end(id, "unknown", LOST) for id in over)
        for id in journal.ids(self._folder):
            with journal.orphan(self._folder, id) as found:
                if found is not None:
                    landing, runs = replayed(id, *found)
                    swept += runs if (await self._books.land(landing)).counts else 0
                    journal.forget(self._folder, id)
        await self._books.free(journal.alive(self._folder))
        return swept

    async def put_account(self, account: Account) -> None:
        async with self._settled():
            await self._books.put_account(account)

    async def grant(self, account: str, amount_nusd: int, note: str) -> Account:
        if abs(amount_nusd) > MOST_NUSD:
            raise Problem("client", f"{amount_nusd} nano-dollars are more than an account can hold")
        async with self._settled():
            return await self._books.grant(account, amount_nusd, note)

    async def account(self, id: str) -> Account | None:
        async with self._settled():
            return await self._books.account(id)

    async def accounts(self) -> list[Account]:
        async with self._settled():
            return await self._books.accounts()

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        async with self._settled():
            return await self._books.usage(query)

    async def check(self) -> list[str]:
        async with self._settled():
            return await self._books.check()

    async def close(self) -> None:
        """Land what there is. What cannot be landed now is by the next sweep of any process on this machine, as is what
        still runs. Calling it again does nothing."""
        if self._is_closed:
            return
        is_done = False
        with suppress(Problem):
            async with self._settled():
                is_done = not self._open
            if is_done and self._made:
                await self._books.land(Landing(self._journal.id, self._landed, [], [], closes=True))
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._journal.close(is_done=is_done)
