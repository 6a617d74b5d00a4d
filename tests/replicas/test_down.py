"""The database gone in the middle, or its disk full: nothing is sold that cannot be put on record, and then again."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.live import Live
from tests.replicas.caller import Answer, Caller
from tests.replicas.fleet import landed, place, told, usage
from tests.replicas.upstream import ENV, Upstream, provider
from tests.store.postgres_place import Wire

pytestmark = pytest.mark.slow

CONFIG = '[ledger]\non = true\n[models."up/m".price]\nper_request = 0.01\n'
BACK_S, ASKED = 20.0, 20


async def ask(live: Live, mark: str, times: int = 1) -> list[Answer]:
    async def one(n: int) -> Answer:
        seat = Caller(live.base, live.key)
        try:
            return await seat.ask("up/m", f"{mark}-{n}", stream=bool(n % 2))
        finally:
            seat.close()

    return await asyncio.gather(*(one(n) for n in range(times)))


async def until(live: Live, wanted: Callable[[int], bool]) -> list[Answer]:
    """Asks until an answer is as wanted; all that came."""
    began, seen = time.monotonic(), list[Answer]()
    while time.monotonic() - began < BACK_S:
        seen += await ask(live, "again")
        if wanted(seen[-1].status):
            return seen
        await asyncio.sleep(0.1)
    raise AssertionError(f"for {BACK_S:g} s: {[(a.status, a.code) for a in seen[-3:]]}")


async def refused_then_back(
    live: Live, up: Upstream, breaks: Callable[[], object], mends: Callable[[], object]
) -> list[Answer]:
    """Good, then 503 and not a call upstream, then good again: all that was answered."""
    seen = await ask(live, "before", ASKED)
    assert {a.status for a in seen} == {200}
    result = breaks()
    if asyncio.iscoroutine(result):
        await result
    seen += await until(live, lambda status: status == 503)
    calls = up.calls
    refused = await ask(live, "meanwhile", ASKED)
    assert {a.status for a in refused} == {503}, [(a.status, a.code) for a in refused]
    assert up.calls == calls, "a call went out that could not be put on record"
    result = mends()
    if asyncio.iscoroutine(result):
        await result
    seen += await until(live, lambda status: status == 200)
    return seen + await ask(live, "after", ASKED)


async def sums(live: Live, seen: list[Answer]) -> None:
    """Whatever was answered is on record at its price, and the database is sound."""
    answered = sum(a.status == 200 for a in seen)
    requests, problems, cost = (await usage(live, "model"))["up/m"]
    assert requests - problems == answered, (requests, problems, answered)
    assert cost == answered * 10**7
    assert json.loads(await told(live, "db", "check", "--json"))["ok"]


def test_postgres_gone_and_back() -> None:
    async def main() -> None:
        async with place("postgres") as here, Upstream() as up, AsyncExitStack() as stack:
            wire = Wire(here.where)
            await wire.mend()
            here.env["LILLIPUT_STORE_URL"] = wire.url
            live = await here.start(stack, CONFIG + provider("up", up))
            seen = await refused_then_back(live, up, wire.cut, wire.mend)
            await landed(lambda: sums(live, seen))
            await wire.close()

    asyncio.run(main())


def test_disk_full_and_room_again(tmp_path: Path) -> None:
    """A file may not grow: what a full disk or quota does to a write, with no disk to fill."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def grow(live: Live, size: int) -> None:
        resource.prlimit(live.pid, resource.RLIMIT_FSIZE, (size, most[1]))

    async def main() -> None:
        async with Upstream() as up, AsyncExitStack() as stack:
            live = Live(CONFIG + provider("up", up), env=ENV, home=tmp_path)
            await asyncio.to_thread(live.__enter__)
            stack.push_async_callback(asyncio.to_thread, live.__exit__, None, None, None)
            seen = await refused_then_back(live, up, lambda: grow(live, 1024), lambda: grow(live, most[0]))
            await landed(lambda: sums(live, seen))

    asyncio.run(main())
