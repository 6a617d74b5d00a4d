"""The whole gateway killed under load, again and again on one database, and what must be true after.

The upstream counts the calls it gets, the callers what they sent and what was answered to its last byte; the rest is
asked of the command line. Each caller has a model of its own name and asks one thing at a time, so that at each kill
no more than one request of each model is in doubt.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial

from msgspec import Struct, field
from tests.live import Live
from tests.replicas.caller import Caller
from tests.replicas.fleet import Place, landed, place, usage
from tests.replicas.upstream import ANSWER_TOKENS, Call, Upstream, good, provider, refusing
from tests.store.ledger_kill import OPEN

WIDTH, LOAD_S = 12, 0.5
NUSD, LONGEST = 1000, 10
"""What a token of an answer costs, and how many are held for."""
MODELS = [f"m{n}" for n in range(WIDTH)]
_PRICES = "".join(
    f'[models."up/{m}"]\nmax_output_tokens = {LONGEST}\nprice = {{ output = {NUSD / 1000} }}\n' for m in MODELS
)
CONFIG = f"[ledger]\non = true\n{_PRICES}"


class Told(Struct):
    """What a run came to: what its callers and its upstream counted, and the rows of holds that no one ended."""

    kills: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    doubt: Counter[str] = field(default_factory=Counter)
    unknown: int = 0


async def kill_often(store: str, times: int, seed: int) -> Told:
    """Start, ask, kill at a random moment, start again and count; AssertionError for what was lost or doubled."""
    dice, told = random.Random(seed), Told()
    no = refusing(400)

    async def act(call: Call) -> None:
        told.calls[call.mark.partition("_")[0]] += 1
        await asyncio.sleep(dice.random() * 0.01)
        await (no if call.mark.endswith("-no") else good)(call)

    async with place(store) as here, Upstream(act) as up:
        config = CONFIG + provider("up", up)
        for _ in range(times):
            async with AsyncExitStack() as stack:
                lives = await here.fleet(stack, config)
                await landed(partial(_counted, lives[0], told))
                await _load(lives, told, dice)
                told.kills += 1
        async with AsyncExitStack() as stack:
            lives = await here.fleet(stack, config)
            await landed(partial(_counted, lives[0], told))
            seat = Caller(lives[0].base, lives[0].key)
            answer = await seat.ask(f"up/{MODELS[0]}", f"{MODELS[0]}_last")
            seat.close()
            told.sent[MODELS[0]] += 1
            told.done[MODELS[0]] += 1
            assert answer.status == 200, answer
        await _end(here, told, config)
    return told


async def _load(lives: list[Live], told: Told, dice: random.Random) -> None:
    """Callers that ask without end, until every process is killed at once."""
    killed = False

    async def caller(n: int) -> None:
        model, seat = MODELS[n], Caller(lives[n % len(lives)].base, lives[n % len(lives)].key)
        while not killed:
            told.sent[model] += 1
            no = "-no" if dice.random() < 0.1 else ""
            answer = await seat.ask(f"up/{model}", f"{model}_{told.sent[model]}{no}", dice.random() < 0.5)
            if answer.status == 200:
                told.done[model] += 1
            elif answer.status == 400:
                told.failed[model] += 1
            else:
                assert answer.status == 0, answer
                assert killed, "a connection broke before the kill"
                told.doubt[model] += 1
        seat.close()

    tasks = [asyncio.create_task(caller(n)) for n in range(WIDTH)]
    await asyncio.sleep(dice.random() * LOAD_S)
    killed = True
    for live in lives:
        live.kill()
    await asyncio.gather(*tasks)


async def _counted(live: Live, told: Told, *, is_swept: bool = False) -> None:
    """Every whole answer has one row at its own price; what was in doubt at a kill has one or none, and where nobody
    knows what it cost, at the amount that was held. A call that failed may be in doubt too: its caller is told at once.
    """
    rows = await usage(live, "model")
    told.unknown = 0
    for model in MODELS:
        requests, problems, cost = rows.get(f"up/{model}", (0, 0, 0))
        extra = requests - problems - told.done[model]
        assert extra >= 0, f"{model}: {-extra} answered and not metered"
        assert extra <= told.doubt[model], f"{model}: {extra - told.doubt[model]} metered twice"
        assert requests <= told.sent[model], f"{model}: {requests} rows of {told.sent[model]} requests"
        unknown, rest = divmod(cost - (requests - problems) * ANSWER_TOKENS * NUSD, LONGEST * NUSD)
        assert rest == 0, f"{model}: {cost} nano-dollars for {requests - problems} answers"
        assert 0 <= unknown <= problems, f"{model}: {unknown} at the amount held of {problems} that came to nothing"
        if is_swept:
            assert told.calls[model] <= requests, (
                f"{model}: {told.calls[model] - requests} upstream calls without a row"
            )
        told.unknown += unknown


async def _end(here: Place, told: Told, config: str) -> None:
    """Sweep as if every lease had run out, and count once more."""
    later = time.time() + 86_400
    async with OPEN[here.store](here.where, lambda: later) as ledger:
        await ledger.sweep()
        assert await ledger.sweep() == 0
        held = {account.id: account.held_nusd for account in await ledger.accounts() if account.held_nusd}
        assert not held, f"dangling after the sweep: {held}"
    async with AsyncExitStack() as stack:
        live = await here.start(stack, config)
        await landed(partial(_counted, live, told, is_swept=True))
        found = json.loads(live.lilliput("db", "check", "--json"))
        assert found["ok"], found
