"""Limits and the ledger around a request: held before it goes out, settled once before its caller knows it is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.gateway.rig import (
    CHAT,
    DONE,
    KEY,
    STREAM,
    STREAM_HEAD,
    Rig,
    Script,
    answering,
    by_wish,
    framed,
    json_answer,
    rig,
    run,
    until,
)
from tests.gateway.test_routing import DOWN, ROUTE, two

from lilliput.catalogue.rows import Price
from lilliput.gateway.exchange import Operation, Visit
from lilliput.gateway.limits import Limiter
from lilliput.gateway.observe import Record
from lilliput.gateway.till import Till
from lilliput.gateway.witness import Witness
from lilliput.limits_config import Caps, Limits
from lilliput.money import Account, Hold, UsageQuery
from lilliput.neutral import Key
from lilliput.store import faults
from lilliput.store.counters import LocalCounters
from lilliput.store.journal_ledger import JournalLedger
from lilliput.store.ledger import SqliteBooks
from lilliput.store.sqlite import SqliteStore

PRICE = Price(input=1_000_000_000, output=2_000_000_000)
"""Dollars 1 and 2 per million tokens: `whole()` and `STREAM` cost 3 * 1000 + 2 * 2000 nano-dollars."""
COST = 7000
EVERYTHING = UsageQuery(by=("served",))


@contextlib.asynccontextmanager
async def shop(
    place: Path, script: Script = by_wish, limits: Limits | None = None, price: Price | None = PRICE
) -> AsyncIterator[tuple[Rig, JournalLedger]]:
    """A gateway with a ledger, and with limits when they are given."""
    store = SqliteStore(place / "l.db")
    books = SqliteBooks(store)
    ledger = JournalLedger(books, place / "journals")
    limiter = Limiter(limits, LocalCounters(), lambda key: (key.team,) if key.team else ()) if limits else None
    async with rig(script) as r:
        r.gate.till = Till(limiter=limiter, ledger=ledger, price=lambda id: price, clock=time.time)
        try:
            yield r, ledger
        finally:
            await ledger.close()
            books.close()
            await store.close()


async def spent(ledger: JournalLedger, account: str = "k1") -> tuple[int, int]:
    found = await ledger.account(account)
    return (0, 0) if found is None else (found.spent_nusd, found.held_nusd)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_a_request_is_on_record_before_its_caller_knows_that_it_is_over(
    tmp_path: Path, stream: bool, path: str
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            body: dict[str, Any] = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
            got = await r.ask("POST", path, {**body, "stream": stream})
            assert got.status == 200
            assert await spent(ledger) == (COST, 0)
            if not stream:
                assert got.headers["x-lilliput-cost"] == "0.000007"
            (row,) = await ledger.usage(EVERYTHING)
            assert (row.group, row.requests, row.prompt_tokens, row.completion_tokens) == (("p/m",), 1, 3, 2)
            assert await ledger.check() == []

    run(main())


def test_what_came_to_nothing_costs_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, answering(json_answer(b'{"error":{"message":"no"}}', 500))) as (r, ledger):
            assert (await r.chat(max_tokens=5)).status == 502
            assert await spent(ledger) == (0, 0)
            (row,) = await ledger.usage(EVERYTHING)
            assert (row.requests, row.problems, row.cost_nusd) == (1, 1, 0)

    run(main())


class Look(Witness):
    """What is held each time that the caller is told something, and at the end."""

    def __init__(self, visit: Visit, till: Till) -> None:
        super().__init__(visit)
        self.till, self.holds = till, list[int]()

    def heard(self, data: bytes) -> None:
        self.holds.append(self.till.holds)

    async def closed(self, record: Record) -> None: ...


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_put_aside_is_back_before_its_caller_knows_of_the_failure(tmp_path: Path, stream: bool) -> None:
    looks: list[Look] = []

    class Receipts:
        def __init__(self, till: Till) -> None:
            self.till = till

        def open(self, visit: Visit, op: Operation, record: Record) -> Look:
            looks.append(Look(visit, self.till))
            return looks[0]

    async def main() -> None:
        async with shop(tmp_path, answering(STREAM_HEAD + framed(*STREAM[:3])) if stream else DOWN) as (r, _):
            assert r.gate.till is not None
            r.gate.receipts = Receipts(r.gate.till)
            await r.chat(stream=stream, max_tokens=5)
            (look,) = looks
            assert (look.holds[-1], max(look.holds)) == (0, int(stream))

    run(main())


def test_a_stream_that_breaks_is_paid_as_far_as_it_came(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, answering(STREAM_HEAD + framed(*STREAM[:3]))) as (r, ledger):
            got = await r.chat(stream=True, max_tokens=5)
            assert "upstream_truncated" in got.body.decode()
            cost, held = await spent(ledger)
            assert held == 0
            assert 0 < cost <= 200_000

    run(main())


def test_a_caller_that_leaves_leaves_no_hold(tmp_path: Path) -> None:
    async def main() -> None:
        async def silent(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
            await reader.read()

        async with shop(tmp_path, silent) as (r, ledger):
            _, writer = await r.connect()
            body = json.dumps({"model": "p/m", "messages": [], "max_tokens": 5}).encode()
            head = (
                f"POST {CHAT} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await until(lambda: r.provider.bodies)
            assert (await spent(ledger))[1] > 0
            writer.close()
            for _ in range(100):
                if await spent(ledger) == (0, 0):
                    break
                await asyncio.sleep(0.02)
            assert await spent(ledger) == (0, 0)

    run(main())


def test_a_budget_that_is_used_up_says_so_before_anything_goes_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            await ledger.put_account(Account(id="k1", kind="key", limit_nusd=COST + 300_000))
            assert (await r.chat(max_tokens=50)).status == 200
            got = await r.chat(max_tokens=5000)
            assert (got.status, got.error["code"]) == (402, "budget_exceeded")
            assert "max_tokens" in got.error["message"]
            assert len(r.provider.bodies) == 1
            assert (await r.chat(max_tokens=50)).status == 200

    run(main())


def test_a_team_pays_for_its_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            await ledger.put_account(Account(id="blue", kind="team"))
            await ledger.put_account(Account(id="k1", kind="key", parent="blue"))
            await ledger.grant("blue", 250_000, "")
            assert (await r.chat(max_tokens=50)).status == 200
            assert await spent(ledger, "blue") == (COST, 0)
            got = await r.chat(max_tokens=5000)
            assert (got.status, got.error["code"]) == (402, "insufficient_credits")

    run(main())


def test_a_price_that_is_not_known_is_refused_where_there_is_a_budget(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, price=None) as (r, ledger):
            assert (await r.chat()).status == 200
            (row,) = await ledger.usage(EVERYTHING)
            assert (row.cost_nusd, row.unpriced) == (0, 1)
            await ledger.put_account(Account(id="k1", kind="key", limit_nusd=10**9))
            got = await r.chat()
            assert (got.status, got.error["code"]) == (400, "price_unknown")

    run(main())


@contextlib.asynccontextmanager
async def two_prices(place: Path, limit_nusd: int, **prices: Price) -> AsyncIterator[tuple[Rig, Rig, JournalLedger]]:
    """The route `careful`: p, which is down, then q, at these prices; a key with this limit."""
    async with shop(place) as (_, ledger), two(DOWN, careful=ROUTE) as (r, other):
        r.gate.till = Till(ledger=ledger, price=lambda id: prices.get(id[0]), clock=time.time)
        if limit_nusd:
            await ledger.put_account(Account(id="k1", kind="key", limit_nusd=limit_nusd))
        yield r, other, ledger


DEAR = Price(input=10 * PRICE.input, output=10 * PRICE.output)


def test_failing_over_to_a_dearer_place_never_passes_the_budget(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_prices(tmp_path, 1_000_000, p=PRICE, q=DEAR) as (r, other, ledger):
            got = await r.chat(model="careful", max_tokens=50)
            assert (got.status, got.error["code"]) == (402, "budget_exceeded")
            assert r.provider.bodies == other.provider.bodies == []
            await ledger.put_account(Account(id="k1", kind="key", limit_nusd=10_000_000))
            assert (await r.chat(model="careful", max_tokens=50)).status == 200
            assert await spent(ledger) == (10 * COST, 0)

    run(main())


def test_a_budget_is_not_spent_where_the_price_is_not_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_prices(tmp_path, 10_000_000, p=PRICE) as (r, other, _):
            assert (await r.chat(model="careful", max_tokens=50)).status == 502
            assert other.provider.bodies == []
        async with two_prices(tmp_path / "unlimited", 0, p=PRICE) as (r, _, _):
            assert (await r.chat(model="careful", max_tokens=50)).status == 200
        async with two_prices(tmp_path / "dear", 10_000_000, q=DEAR) as (r, _, _):
            assert (await r.chat(model="careful", max_tokens=50)).status == 200
            assert r.provider.bodies == []

    run(main())


class Broken:
    """A ledger whose database is away."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def hold_now(self, hold: Hold) -> bool:
        raise faults.problem(sqlite3.OperationalError("disk I/O error"), self.path)


def test_this_machine_s_own_models_go_on_without_the_ledger_where_that_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        for goes_on, name, price, status in (
            (True, "lilliput/m", None, 200),
            (True, "lilliput/m", PRICE, 503),
            (True, "p/m", Price(input=0, output=0), 503),
            (False, "lilliput/m", None, 503),
        ):
            async with rig() as r:
                ledger, find = Broken(tmp_path), r.gate.target
                there = structs.replace(find("p/m"), provider=name.partition("/")[0])
                r.gate.target = partial(lambda it, _: it, there)
                r.gate.till = Till(
                    ledger=ledger,  # type: ignore[arg-type]
                    price=lambda _, it=price: it,  # type: ignore[misc]
                    clock=time.time,
                    goes_on=goes_on,
                )
                assert (await r.chat(model=name, max_tokens=5)).status == status, name
                assert len(r.provider.bodies) == (status == 200)
                assert r.gate.till.holds == 0

    run(main())


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_where_the_store_is_stands_in_the_log_alone(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with rig() as r:
            r.gate.till = Till(ledger=Broken(tmp_path), price=lambda _: PRICE, clock=time.time)  # type: ignore[arg-type]
            got = await r.ask("POST", path, {"model": "p/m", "messages": [], "max_tokens": 5})
            assert got.status == 503
            assert str(tmp_path) not in got.body.decode()
            assert "store" in got.body.decode()
            assert str(tmp_path) in caplog.text

    run(main())


def test_limits_are_told_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(key=Caps(requests_per_minute=2), teams={"blue": Caps(in_flight=5)})
        async with shop(tmp_path, limits=limits) as (r, ledger):
            key = Key(id="k1", team="blue")
            r.gate.find_key = lambda token: key if token == KEY else None
            first = await r.chat()
            assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == (
                "2",
                "1",
            )
            assert (await r.chat(stream=True)).headers["x-ratelimit-remaining-requests"] == "0"
            third = await r.chat()
            assert (third.status, third.error["code"]) == (429, "rate_limit_exceeded")
            assert int(third.headers["retry-after"]) > 0
            assert third.headers["x-ratelimit-remaining-requests"] == "0"
            assert len(r.provider.bodies) == 2
            (row,) = await ledger.usage(EVERYTHING)
            assert row.requests == 2, "what a limit keeps out is not held"

    run(main())


def test_tokens_are_put_right_once_they_are_known(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(key=Caps(tokens_per_minute=100))
        async with shop(tmp_path, limits=limits) as (r, _):
            for _ in range(5):  # each may come to 50 and more, and comes to 5
                assert (await r.chat(max_tokens=30)).status == 200
            assert (await r.chat(max_tokens=101)).status == 429

    run(main())


def test_a_provider_that_tells_no_usage_is_paid_by_estimate(tmp_path: Path) -> None:
    async def main() -> None:
        untold = STREAM_HEAD + framed(*STREAM[:4], DONE)
        async with shop(tmp_path, answering(untold)) as (r, ledger):
            assert (await r.chat(stream=True)).status == 200
            cost, held = await spent(ledger)
            assert held == 0
            assert cost > 0

    run(main())


def test_two_hundred_at_once_never_spend_more_than_there_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            body = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
            each = (len(json.dumps(body)) * 1000) + 2 * 2000
            await ledger.put_account(Account(id="k1", kind="key", limit_nusd=each * 2))
            got = await asyncio.gather(*(r.ask("POST", CHAT, body) for _ in range(200)))
            found = await ledger.account("k1")
            assert found is not None
            assert found.spent_nusd == COST * sum(a.status == 200 for a in got) <= each * 2
            assert {a.status for a in got} == {200, 402}
            assert structs.asdict(found)["held_nusd"] == 0

    run(main())


@pytest.mark.parametrize("config", [None, [], "x", 5, {"maxOutputTokens": "many"}])
def test_an_odd_generation_config_is_the_caller_s_fault_or_no_bound(tmp_path: Path, config: Any) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, _):
            contents = [{"role": "user", "parts": [{"text": "hi"}]}]
            body = {"contents": contents, "generationConfig": config}
            assert (await r.ask("POST", "/v1beta/models/p/m:generateContent", body)).status in (200, 400)

    run(main())
