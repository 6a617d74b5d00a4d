"""What takes too long for every day (`make soak`): fifty random kills for each store, and a hundred races for a budget.

    python scripts/soak.py [--kills N] [--races N] [--seed N] [STORE ...]

STORE is sqlite or postgres (the server of LILLIPUT_TEST_POSTGRES); without any, all of them. Killed are a process that
does nothing but meter, and whole gateways (two workers on SQLite, two replicas on Postgres) under real calls. Races are
two hundred calls at once through such gateways on a budget worth five; rate limits are raced over Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.replicas import kill, race
from tests.store import ledger_kill


def say(store: str, what: str) -> None:
    print(f"{store}: {what}", flush=True)


def kills(store: str, times: int, seed: int) -> None:
    nothing = "0 without a row, 0 metered twice, 0 answered and not metered"
    with ledger_kill.empty(store) as where:
        calls, dangling = ledger_kill.kill_often(store, where, times, seed)
    end = "0 after the sweep; every sum exact"
    say(store, f"{times} kills of a ledger (seed {seed}), {calls} calls: {nothing}; {dangling} holds dangled, {end}")
    told = asyncio.run(kill.kill_often(store, times, seed))
    calls, done = told.calls.total(), told.done.total()
    counted = f"{calls} upstream calls, {done} answered, {told.doubt.total()} cut off"
    say(store, f"{times} kills of gateways (seed {seed}), {counted}: {nothing}; {told.unknown} holds dangled, {end}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; else the time, which is printed")
    parser.add_argument("stores", nargs="*", metavar="STORE", default=list(ledger_kill.OPEN))
    asked = parser.parse_args()
    seed = int(time.time()) if asked.seed is None else asked.seed
    for store in asked.stores:
        if asked.kills:
            kills(store, asked.kills, seed)
        if asked.races:
            asyncio.run(race.budgets(store, range(seed, seed + asked.races)))
            worth = f"{race.WORTH} of {race.CALLS} answered"
            say(store, f"{asked.races} races through gateways (seeds from {seed}): {worth}, each time; overshoot 0")
    if asked.races and "postgres" in asked.stores:
        rounds = max(1, asked.races // 10)
        asyncio.run(race.limits(range(seed, seed + rounds)))
        say("redis", f"{rounds} races of two replicas for requests a minute and in flight: never one too many")


if __name__ == "__main__":
    main()
