"""Two hundred at once on a budget worth five: exactly five, in one process and in several."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import pytest
from tests.store.fake import finish, start
from tests.store.ledger_contract import Clock, cost, hold, put_aside, sums
from tests.store.ledger_kill import OPEN, empty

from lilliput.money import Account, Ledger
from lilliput.neutral import Problem

WORTH, EACH, CALLS, PROCESSES = 5, 10, 200, 4


async def race(ledger: Ledger, seed: int) -> None:
    """Callers that come at random, some of whom leave, fail or answer while others still ask."""
    dice = random.Random(seed)
    org, credits = f"org{seed}", seed % 2
    await ledger.put_account(
        Account(id=org, kind="organisation", limit_nusd=None if credits else WORTH * EACH, period="day")
    )
    if credits:
        await ledger.grant(org, WORTH * EACH, "")
    keys = [f"k{seed}-{n}" for n in range(dice.randint(1, 4))]
    for key in keys:
        await ledger.put_account(Account(id=key, kind="key", parent=org))
    admitted: list[str] = []
    spent = 0

    async def caller(n: int) -> None:
        nonlocal spent
        id = f"{seed}-{n}"
        for _ in range(dice.randint(0, 5)):
            await asyncio.sleep(0)
        try:
            await put_aside(ledger, hold(id, EACH, dice.choice(keys)))
        except Problem as problem:
            if problem.code not in ("budget_exceeded", "insufficient_credits"):
                raise
            return
        if dice.random() < 0.3:  # an upstream that failed: its place is free again
            assert await ledger.release(id, cost(0, status=502))
            return
        admitted.append(id)
        spent += EACH
        assert spent <= WORTH * EACH
        assert await ledger.settle(id, cost(EACH))

    tasks = [asyncio.create_task(caller(n)) for n in range(CALLS)]
    for task in dice.sample(tasks, 20):
        await asyncio.sleep(0)
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        assert end is None or isinstance(end, asyncio.CancelledError), end
    # Those who left at the last moment may have been settled, or may hold still; the rest of the budget is to be had.
    _, done, held = await sums(ledger, org)
    assert done + held <= WORTH * EACH
    late = [hold(f"{seed}-late{n}", EACH, keys[0]) for n in range(CALLS)]
    answers = await asyncio.gather(*(put_aside(ledger, h) for h in late), return_exceptions=True)
    assert answers.count(None) == WORTH - (done + held) // EACH
    assert await ledger.check() == []


def race_seeds(store: str, seeds: range) -> None:
    async def whole(where: str) -> None:
        async with OPEN[store](where, Clock()) as ledger:
            for seed in seeds:
                await race(ledger, seed)

    with empty(store) as where:
        asyncio.run(whole(where))


@pytest.mark.parametrize("store", OPEN)
def test_never_a_sixth(store: str) -> None:
    race_seeds(store, range(20))


@pytest.mark.slow
@pytest.mark.parametrize("store", OPEN)
def test_never_a_sixth_in_a_hundred_seeds(store: str) -> None:
    race_seeds(store, range(100, 200))


RACER = """
import asyncio, sys, time
from tests.store.ledger_contract import hold, put_aside
from tests.store.ledger_kill import OPEN, empty

async def main(store: str, where: str, who: str, calls: int, each: int) -> None:
    async with OPEN[store](where, time.time) as ledger:
        print("ready", flush=True)
        for seed in sys.stdin:
            key = "k" + seed.strip()
            holds = [hold(f"{key}-{who}-{n}", each, key) for n in range(calls)]
            answers = await asyncio.gather(*(put_aside(ledger, h) for h in holds), return_exceptions=True)
            print(answers.count(None), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
"""


@contextmanager
def racers(store: str, where: str) -> Iterator[list[Popen[str]]]:
    made = [start(RACER, store, where, str(who), str(CALLS // PROCESSES), str(EACH)) for who in range(PROCESSES)]
    try:
        for process in made:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield made
        for process in made:
            finish(process)
    finally:
        for process in made:
            process.kill()
            process.communicate()


def race_processes(store: str, where: str, seeds: range) -> None:
    async def put(seed: int) -> None:
        async with OPEN[store](where, time.time) as ledger:
            await ledger.put_account(Account(id=f"org{seed}", kind="organisation", limit_nusd=WORTH * EACH))
            await ledger.put_account(Account(id=f"k{seed}", kind="key", parent=f"org{seed}"))

    async def look(seed: int) -> None:
        async with OPEN[store](where, time.time) as ledger:
            assert await sums(ledger, f"org{seed}") == (None, 0, WORTH * EACH)
            assert await ledger.check() == []

    with racers(store, where) as running:
        for seed in seeds:
            asyncio.run(put(seed))
            for process in running:
                assert process.stdin is not None
                process.stdin.write(f"{seed}\n")
                process.stdin.flush()
            admitted = [int(process.stdout.readline()) for process in running if process.stdout is not None]
            assert sum(admitted) == WORTH, admitted
            asyncio.run(look(seed))


@pytest.mark.parametrize("store", OPEN)
def test_never_a_sixth_across_processes(store: str) -> None:
    with empty(store) as where:
        race_processes(store, where, range(5))


@pytest.mark.slow
@pytest.mark.parametrize("store", OPEN)
def test_never_a_sixth_across_processes_in_a_hundred_seeds(store: str) -> None:
    with empty(store) as where:
        race_processes(store, where, range(100))
