"""Routes that ask for care: the second call of a late stream, what both cost, and limits on slow answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

from msgspec import structs
from tests.gateway.rig import STREAM, STREAM_HEAD, Provider, Rig, Script, by_wish, chunk, framed, run
from tests.gateway.test_routing import ROUTE, two
from tests.gateway.test_till import PRICE

from lilliput.gateway import hedge
from lilliput.gateway.routing import Routing
from lilliput.gateway.till import Till
from lilliput.money import Hold, Settlement
from lilliput.neutral import Usage
from lilliput.router.health import FIRSTS_LEAST, Outcome
from lilliput.router.routes import Route


class Book:
    """A ledger that says yes and remembers: hold -> how it ended."""

    def __init__(self) -> None:
        self.ended: dict[str, Usage | None] = {}
        self.costs: dict[str, int | None] = {}
        self.held: list[str] = []

    def hold_now(self, hold: Hold) -> bool:
        self.held.append(hold.id)
        return True

    def settle_now(self, id: str, told: Settlement) -> bool:
        assert id not in self.ended
        self.ended[id], self.costs[id] = told.usage, told.cost_nusd
        return True

    release_now = settle_now

    def is_unlimited(self, account: str) -> bool:
        return True


async def silent(p: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A role, then nothing until the gateway hangs up."""
    writer.write(STREAM_HEAD + framed(STREAM[0], end=False))
    await reader.read(1)
    p.gone.set()


HEDGED = structs.replace(ROUTE, hedge=True, hedge_share=0.5)


@contextlib.asynccontextmanager
async def hedged(
    first: Script, second: Script = by_wish, route: Route = HEDGED
) -> AsyncIterator[tuple[Rig, Rig, Book]]:
    """The route `careful`, with what is known of how quick the first place is, two hedges and a ledger."""
    async with two(first, second, careful=route) as (r, other):
        routing, book = r.gate.routing, Book()
        assert routing is not None
        r.gate.till = Till(ledger=book, price=lambda _: PRICE, clock=time.time)  # type: ignore[arg-type]
        for _ in range(FIRSTS_LEAST):
            routing.world.health.note("p/m", Outcome(first_token_s=0.01), 0.0)
        routing._cares["careful"].hedges.left = 2.0
        yield r, other, book


def load(routing: Routing | None) -> dict[str, int]:
    assert routing is not None
    return {id: d.in_flight for id, d in routing.world.health.known.items()}


def test_a_late_stream_is_asked_for_in_the_next_place_and_both_are_metered() -> None:
    async def main() -> None:
        async with hedged(silent) as (r, _, book):
            got = await r.chat(model="careful", stream=True)
            assert (got.status, got.events[-1], got.is_whole) == (200, "[DONE]", True)
            assert got.headers["x-lilliput-route"] == "q/m; tries=2; why=priority"
            await asyncio.wait_for(r.provider.gone.wait(), 1)
            first, second = book.held
            assert (got.headers["x-request-id"], second) == (first, first + "-2")
            lost = book.ended[first]
            assert lost is not None
            assert (lost.doubts, lost.input > 0) == (("estimated",), True)
            assert book.costs == {first: 0, second: 7000}
            assert book.ended[second] == Usage(input=3, output=2, given=book.ended[second].given)  # type: ignore[union-attr]
            assert load(r.gate.routing) == {"p/m": 0, "q/m": 0}
            assert r.gate.routing is not None
            assert r.gate.routing.budget.spent == 1

    run(main())


def test_a_first_call_that_still_comes_first_wins() -> None:
    async def slow(p: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await by_wish(p, body, reader, writer)

    async def main() -> None:
        async with hedged(slow, silent) as (r, other, book):
            got = await r.chat(model="careful", stream=True)
            assert got.headers["x-lilliput-route"] == "p/m; tries=1; why=priority"
            assert got.events[-1] == "[DONE]"
            await asyncio.wait_for(other.provider.gone.wait(), 1)
            doubts = [usage.doubts for usage in book.ended.values() if usage is not None]
            assert sorted(doubts) == [(), ("estimated",)]
            assert load(r.gate.routing) == {"p/m": 0, "q/m": 0}

    run(main())


def test_a_caller_that_leaves_ends_both_and_pays_for_neither() -> None:
    async def main() -> None:
        async with hedged(silent, silent) as (r, other, book):
            task = asyncio.ensure_future(r.chat(model="careful", stream=True))
            while not other.provider.bodies:
                await asyncio.sleep(0.01)
            for writer in r.writers:
                writer.close()
            await asyncio.wait_for(asyncio.gather(r.provider.gone.wait(), other.provider.gone.wait()), 1)
            await asyncio.wait({task})
            while len(book.ended) < 2:
                await asyncio.sleep(0.01)
            assert list(book.ended.values()) == [None, None]
            assert load(r.gate.routing) == {"p/m": 0, "q/m": 0}

    run(main())


def test_no_more_than_its_share_is_hedged() -> None:
    async def main() -> None:
        route = structs.replace(HEDGED, first_token_timeout_s=0.2, hedge_share=0.01)
        async with hedged(silent, silent, route) as (r, other, _):
            routing = r.gate.routing
            assert routing is not None
            routing._cares["careful"].hedges.left = 0.5
            assert (await r.chat(model="careful", stream=True)).status == 504
            assert [len(x.provider.bodies) for x in (r, other)] == [1, 1], "not both at once: one after the other"
            assert routing._cares["careful"].hedges.spent == 0

    run(main())


def test_no_output_in_time_goes_to_the_next_place() -> None:
    async def main() -> None:
        route = structs.replace(ROUTE, first_token_timeout_s=0.1)
        async with hedged(silent, by_wish, route) as (r, _, book):
            got = await r.chat(model="careful", stream=True)
            assert (got.status, got.headers["x-lilliput-route"]) == (200, "q/m; tries=2; why=priority")
            await asyncio.wait_for(r.provider.gone.wait(), 1)
            assert len(book.held) == 1

    run(main())


def test_an_answer_in_one_piece_has_the_time_that_its_longest_takes() -> None:
    async def main() -> None:
        route = structs.replace(ROUTE, min_tokens_per_s=100.0)
        async with hedged(silent, by_wish, route) as (r, _, __):
            got = await r.chat(model="careful", max_tokens=10)
            assert got.headers["x-lilliput-route"] == "q/m; tries=2; why=priority"

    run(main())


def test_a_stream_below_the_floor_is_cut_with_an_error() -> None:
    async def trickles(p: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + framed(STREAM[0], end=False))
        for _ in range(8):
            writer.write(framed(chunk({"content": "a"}), end=False))
            await asyncio.sleep(0.03)
        await reader.read(1)

    async def main() -> None:
        route = structs.replace(ROUTE, cut_below_events_per_s=10.0)
        async with hedged(trickles, by_wish, route) as (r, other, book):
            got = await r.chat(model="careful", stream=True)
            assert json.loads(got.events[-1])["error"]["code"] == "upstream_stalled"
            assert got.body.count(b'"content":"a"') == 8
            assert other.provider.bodies == []
            assert [usage.output for usage in book.ended.values() if usage is not None] == [8]

    window_s, hedge.WINDOW_S = hedge.WINDOW_S, 0.2
    try:
        run(main())
    finally:
        hedge.WINDOW_S = window_s
