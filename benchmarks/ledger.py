"""How many requests a second a ledger meters, each a hold, a turn of the loop and a settlement, and the CPU time that
it costs, until all of it is in the database.

    python -m benchmarks.ledger [--requests N] [--rounds N] [STORE ...]

All requests are on one account below one organisation, which has a limit, a period and credits: the worst case for
locks. STORE is sqlite or postgres (the server of LILLIPUT_TEST_POSTGRES); without any, all of them. The CPU time is
this process's: a database server's own is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Iterator
from statistics import median

import uvloop
from tests.store.ledger_contract import put_aside
from tests.store.ledger_kill import OPEN, empty

from lilliput.money import Account, Hold, Ledger, Settlement
from lilliput.neutral import Usage

WIDTHS = (1, 8, 64, 256)
ENOUGH_NUSD = 10**17


async def meter(ledger: Ledger, run: str, numbers: Iterator[int]) -> None:
    """One caller: it holds and settles as long as there are numbers."""
    for n in numbers:
        id = f"req_{run}{n:08x}"
        await put_aside(
            ledger,
            Hold(id=id, account="key", amount_nusd=1000, lease_s=600.0, operation="chat", model="openai/gpt-4o-mini"),
        )
        await asyncio.sleep(0)  # the provider's turn
        settlement = Settlement(
            cost_nusd=900,
            usage=Usage(input=1200, cache_read=64, output=250, reasoning=128),
            served="openai/gpt-4o-mini",
            price="2026-11-01",
            tries=1,
            status=200,
            latency_ms=812,
        )
        assert await ledger.settle(id, settlement)


async def measure(store: str, where: str, requests: int, rounds: int) -> None:
    async with OPEN[store](where, time.time) as ledger:
        await ledger.put_account(Account(id="org", kind="organisation", limit_nusd=ENOUGH_NUSD, period="day"))
        await ledger.put_account(Account(id="key", kind="key", parent="org"))
        await ledger.grant("org", ENOUGH_NUSD, "benchmark")
        for width in WIDTHS:
            count = max(requests * width // max(WIDTHS), 200)
            rates, costs = [], []
            for _ in range(rounds):
                numbers, run = iter(range(count)), uuid.uuid4().hex[:12]
                wall, cpu = time.perf_counter(), time.process_time()
                await asyncio.gather(*(meter(ledger, run, numbers) for _ in range(width)))
                assert await ledger.account("key") is not None  # which lands what has not
                rates.append(count / (time.perf_counter() - wall))
                costs.append((time.process_time() - cpu) / count * 1e6)
            print(f"{store:10} {width:4} in flight {median(rates):8.0f}/s {median(costs):7.1f} us of CPU a request")
        assert await ledger.check() == []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40_000, help="for the greatest number in flight")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("stores", nargs="*", metavar="STORE", default=list(OPEN))
    asked = parser.parse_args()
    for store in asked.stores:
        with empty(store) as where:
            uvloop.run(measure(store, where, asked.requests, asked.rounds))


if __name__ == "__main__":
    main()
