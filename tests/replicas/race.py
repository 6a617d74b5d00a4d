"""Two hundred calls at once through real gateways, on a budget worth five and on limits that replicas share."""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from tests.live import Live
from tests.replicas.caller import Answer, Caller
from tests.replicas.fleet import landed, new_key, place, told, usage
from tests.replicas.upstream import Call, Upstream, good, provider, refusing
from tests.store.test_shared import Server

WORTH, CALLS, LATE, AT_ONCE, A_MINUTE = 5, 200, 20, 5, 20
USD = 0.01
SETTLED_S = 2.0
"""By when all that can be refused is."""
LEDGER = f'[ledger]\non = true\n[models."up/m".price]\nper_request = {USD}\n'
LIMITS = f"""[shared]
when_down = "refuse"
timeout_s = 10
[limits.teams.minute]
requests_per_minute = {A_MINUTE}
[limits.teams.busy]
in_flight = {AT_ONCE}
"""
LIMITED = {(429, "rate_limit_exceeded"), (503, "overloaded")}
REFUSED = {(402, "budget_exceeded"), (429, "budget_exceeded"), (402, "insufficient_credits"), (503, "overloaded")}
"""By the budget; or shed before it, on a machine that has no time for so many at once."""


async def burst(lives: list[Live], key: str, mark: str, dice: random.Random, calls: int = CALLS) -> list[Answer]:
    """All these calls at once, a connection each, shared out over the gateways."""

    async def one(n: int, after_s: float) -> Answer:
        caller = Caller(lives[n % len(lives)].base, key)
        try:
            await asyncio.sleep(after_s)
            return await caller.ask("up/m", f"{mark}-{n}", stream=n % 3 == 0)
        finally:
            caller.close()

    spread_s = dice.choice((0.0, 0.02, 0.2))
    return await asyncio.gather(*(one(n, dice.random() * spread_s) for n in range(calls)))


async def budget(lives: list[Live], up: Upstream, seed: int) -> None:
    """Exactly five are answered and paid for, whoever fails upstream on the way; prepaid or by a limit."""
    dice, team, before = random.Random(seed), f"t{seed}-{secrets.token_hex(3)}", up.calls
    key = await new_key(lives[0], team)
    if seed % 2:
        await told(lives[0], "credits", "grant", team, str(WORTH * USD))
    else:
        await told(lives[0], "credits", "limit", team, "--usd", str(WORTH * USD))
    failing = {n for n in range(CALLS) if dice.random() < 0.3}
    no = refusing(400)

    async def act(call: Call) -> None:
        await asyncio.sleep(dice.random() * 0.01)
        await (no if call.mark.startswith(f"{team}-") and int(call.mark.rpartition("-")[2]) in failing else good)(call)

    up.act = act
    answers = await burst(lives, key, team, dice)
    up.act = good
    answers += await burst(lives, key, f"{team}-late", dice, LATE)
    came = [a for a in answers if a.status == 200]
    failed = [a for a in answers if a.status == 400]
    odd = {(a.status, a.code) for a in answers if a.status not in (200, 400)} - REFUSED
    assert not odd, odd
    assert len(came) == WORTH, f"seed {seed}: {len(came)} answered on a budget worth {WORTH}"
    assert up.calls - before == len(came) + len(failed), "refused, and yet sent upstream"

    async def on_record() -> None:
        rows = [row for id, row in (await usage(lives[0], "key")).items() if id in key]
        assert rows == [(len(came) + len(failed), len(failed), round(WORTH * USD * 10**9))]

    await landed(on_record)


async def minute(lives: list[Live], up: Upstream, seed: int) -> None:
    """Of requests a minute no more pass than the minute's and those that come back meanwhile, and no fewer."""
    up.act, before = good, up.calls
    key, began = await new_key(lives[0], "minute"), time.monotonic()
    answers = await burst(lives, key, f"m{seed}", random.Random(seed))
    most = A_MINUTE * (1 + (time.monotonic() - began) / 60)
    passed = sum(a.status == 200 for a in answers)
    assert {(a.status, a.code) for a in answers} <= {(200, ""), *LIMITED}, Counter((a.status, a.code) for a in answers)
    assert A_MINUTE <= passed <= most, f"{passed} passed, at most {most:.1f} may"
    assert up.calls - before == passed


async def busy(lives: list[Live], up: Upstream, seed: int) -> None:
    """Never more at once than allowed, at the upstream's own count; and the places come back, all of them."""
    key = await new_key(lives[0], "busy")
    for round in range(2):
        free = asyncio.Event()

        async def act(call: Call, free: asyncio.Event = free) -> None:
            await free.wait()
            await good(call)

        up.act, up.most = act, 0
        asking = asyncio.create_task(burst(lives, key, f"b{seed}-{round}", random.Random(seed)))
        await asyncio.wait({asking}, timeout=SETTLED_S)
        assert up.now == up.most == AT_ONCE, (up.now, up.most)
        free.set()
        answers = await asking
        assert sum(a.status == 200 for a in answers) == up.most == AT_ONCE
        await asyncio.sleep(0.2)  # the counts are put right after the answer went out


async def budgets(store: str, seeds: range) -> None:
    async with place(store) as here, Upstream() as up, AsyncExitStack() as stack:
        lives = await here.fleet(stack, LEDGER + provider("up", up))
        for seed in seeds:
            await budget(lives, up, seed)
        await told(lives[0], "db", "check")


async def limits(seeds: range) -> None:
    """Two replicas over a Redis of their own for each seed: a minute's share is taken but once."""
    for seed in seeds:
        with redis() as url:
            async with place("postgres") as here, Upstream() as up, AsyncExitStack() as stack:
                lives = await here.fleet(stack, LIMITS + provider("up", up), LILLIPUT_REDIS_URL=url)
                await minute(lives, up, seed)
                await busy(lives, up, seed)


@contextmanager
def redis() -> Iterator[str]:
    """The address of a new server."""
    with tempfile.TemporaryDirectory(prefix="lil") as folder:
        server = Server(Path(folder))
        try:
            yield server.url
        finally:
            server.kill()
