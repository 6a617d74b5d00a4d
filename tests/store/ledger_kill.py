"""A process that holds, calls a counting upstream and settles until it is killed, and what must be true after.

    python -m tests.store.ledger_kill STORE WHERE RUN

STORE is a name in `OPEN`, WHERE what that opens, RUN makes ids of this run. The process writes `call <id>` when the
upstream is called and `done <id>` when the answer has gone out; the kernel keeps what it wrote.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from tests.store.fake import ENV
from tests.store.ledger_contract import cost, hold, put_aside
from tests.store.postgres_place import place

from lilliput.money import Account, UsageQuery
from lilliput.neutral import Problem
from lilliput.store import journal
from lilliput.store.journal_ledger import JournalLedger
from lilliput.store.ledger import SqliteBooks
from lilliput.store.postgres import open_postgres
from lilliput.store.postgres_ledger import PostgresBooks
from lilliput.store.sqlite import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 12
HELD, COST = 10, 7
LEASE_S = 3600.0
LIMIT = 10**9


@asynccontextmanager
async def _sqlite(where: str, clock: Callable[[], float]) -> AsyncIterator[JournalLedger]:
    store = SqliteStore(Path(where))
    books = SqliteBooks(store, clock=clock)
    ledger = JournalLedger(books, Path(f"{where}-journals"), clock=clock, steady=clock)
    try:
        yield ledger
    finally:
        await ledger.close()
        books.close()
        await store.close()


@asynccontextmanager
async def _postgres(where: str, clock: Callable[[], float]) -> AsyncIterator[JournalLedger]:
    store = await open_postgres(where)
    ledger = JournalLedger(PostgresBooks(store.pool, clock=clock), _journals(where), clock=clock, steady=clock)
    try:
        yield ledger
    finally:
        await ledger.close()
        await store.close()


def _journals(where: str) -> Path:
    return Path(tempfile.gettempdir()) / f"lilliput-journals-{sha256(where.encode()).hexdigest()[:16]}"


Open = Callable[[str, Callable[[], float]], AbstractAsyncContextManager[JournalLedger]]
OPEN: dict[str, Open] = {"sqlite": _sqlite, "postgres": _postgres}


@contextmanager
def empty(store: str) -> Iterator[str]:
    """Where an empty database of this kind is, for a while."""
    if store == "postgres":
        with place() as url:
            try:
                yield url
            finally:
                shutil.rmtree(_journals(url), ignore_errors=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"{folder}/lilliput.db"


async def work(store: str, where: str, run: str) -> None:
    """Requests without end, `WIDTH` at a time; some fail upstream, some are cancelled by their callers."""
    dice = random.Random(run)
    journal.SIZE_BYTES = 1 << 14  # so that it goes on in a new file now and then
    async with OPEN[store](where, time.time) as ledger:
        await ledger.put_account(Account(id="org", kind="organisation", limit_nusd=LIMIT))
        await ledger.put_account(Account(id="k", kind="key", parent="org"))

        async def caller(number: int) -> None:
            count = 0
            while True:
                count += 1
                id = f"{run}-{number}-{count}"
                await put_aside(ledger, hold(id, HELD, lease_s=LEASE_S, model=id))
                os.write(1, f"call {id}\n".encode())
                await asyncio.sleep(dice.random() * 0.002)
                if dice.random() < 0.1:
                    await ledger.release(id, cost(0, status=502))
                    os.write(1, f"fail {id}\n".encode())
                else:
                    await ledger.settle(id, cost(COST))
                    os.write(1, f"done {id}\n".encode())

        await asyncio.gather(*(caller(n) for n in range(WIDTH)))


def kill_once(store: str, where: str, run: str, after_s: float) -> list[str]:
    """Start the process, kill it `after_s` after its first call; the lines that it had written."""
    command = [sys.executable, "-W", "error", "-m", "tests.store.ledger_kill", store, where, run]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=ENV, stdout=said, stderr=subprocess.PIPE, text=True)
        while os.fstat(said.fileno()).st_size == 0 and process.poll() is None:
            time.sleep(0.002)
        time.sleep(after_s)
        process.kill()
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, err
        said.seek(0)
        return said.read().splitlines()


async def verify(store: str, where: str, lines: list[str], began: float) -> tuple[int, int]:
    """Assert that nothing was lost and nothing doubled; how many calls there were, and how many holds dangled."""
    said: dict[str, set[str]] = {"call": set(), "done": set(), "fail": set()}
    for line in lines:
        what, id = line.split()
        assert id not in said[what]
        said[what].add(id)
    async with OPEN[store](where, lambda: began + 2 * LEASE_S) as ledger:
        assert await ledger.check() == [], "before the sweep"
        dangling = await ledger.sweep()
        assert await ledger.sweep() == 0
        assert await ledger.check() == [], "after it"
        rows = {r.group[0]: r for r in await ledger.usage(UsageQuery(by=("model",), limit=10**6))}
        assert said["call"] <= set(rows), "an upstream call without a row"
        assert {r.requests for r in rows.values()} <= {1}, "metered twice"
        assert {rows[id].cost_nusd for id in said["done"]} <= {COST}, "answered and not metered"
        assert {rows[id].cost_nusd for id in said["fail"]} <= {0}
        assert {r.cost_nusd for r in rows.values()} <= {0, COST, HELD}
        total = sum(r.cost_nusd for r in rows.values())
        for account in await ledger.accounts():
            assert (account.spent_nusd, account.held_nusd) == (total, 0)
        assert not any(await asyncio.gather(*(ledger.settle(id, cost(COST)) for id in rows))), (
            "dangling after the sweep"
        )
        with pytest.raises(Problem, match="may not spend that much"):
            await ledger.hold(hold(f"over-{len(rows)}", LIMIT - total + 1))
    return len(said["call"]), dangling


def kill_often(store: str, where: str, times: int, seed: int) -> tuple[int, int]:
    """Kill that many processes on one database, each at a random moment, and verify after each."""
    dice = random.Random(seed)
    lines: list[str] = []
    dangling = 0
    for n in range(times):
        began = time.time()
        lines += kill_once(store, where, f"s{seed}r{n}", dice.random() * 0.3)
        calls, left = asyncio.run(verify(store, where, lines, began))
        dangling += left
    return calls, dangling


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
