"""`GET /v1/usage` and `/v1/credits`: a key sees its own account and those below it, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.gateway.rig import rig, run
from tests.gateway.test_till import COST, shop
from tests.store.ledger_contract import cost, hold

from lilliput.money import Account, Ledger
from lilliput.neutral import Usage


async def meter(ledger: Ledger) -> None:
    """A child of k1 and a stranger with one request each."""
    await ledger.put_account(Account(id="k1", kind="key"))
    await ledger.put_account(Account(id="child", kind="key", parent="k1"))
    for id in ("child", "stranger"):
        await ledger.hold(hold(f"r-{id}", 10**9, account=id, model="=cmd"))
        await ledger.settle(f"r-{id}", cost(5 * 10**8, usage=Usage(input=3, output=4)))


def test_a_key_sees_its_own_and_what_is_below(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            await meter(ledger)
            assert (await r.chat(max_tokens=5)).status == 200
            got = await r.ask("GET", "/v1/usage?by=key")
            assert {row["key"]: row["cost_usd"] for row in got.json["data"]} == {"child": "0.50", "k1": "0.000007"}
            (own,) = (await r.ask("GET", "/v1/usage?by=served,operation&account=k1&since=1h&limit=1")).json["data"]
            assert set(own) == {"served", "operation"} | {
                *("requests", "problems", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced")
            }
            assert (await r.ask("GET", "/v1/usage?until=1h")).json == {"object": "list", "data": []}
            (row,) = (await r.ask("GET", "/v1/usage?account=child")).json["data"]
            assert (row["model"], row["requests"], row["prompt_tokens"]) == ("=cmd", 1, 3)
            for other in ("stranger", "nobody", "x' OR '1'='1".replace(" ", "%20"), ""):
                got = await r.ask("GET", f"/v1/usage?account={other}")
                assert (got.status, got.error["code"]) == (404, "account_not_found")

    run(main())


def test_csv_carries_no_formula(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            await meter(ledger)
            got = await r.ask("GET", "/v1/usage?format=csv")
            assert got.headers["content-type"].startswith("text/csv")
            assert got.body.decode().splitlines() == [
                "model,requests,problems,prompt_tokens,completion_tokens,cost_usd,unpriced",
                "'=cmd,1,0,3,4,0.50,0",
            ]

    run(main())


BAD = ["by=colour", "since=yesterday", "until=7%20days", "limit=0", "limit=10001", "limit=x", "format=xml", "sinse=7d"]


@pytest.mark.parametrize("query", BAD)
def test_what_cannot_be_asked_is_refused(tmp_path: Path, query: str) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, _):
            got = await r.ask("GET", f"/v1/usage?{query}")
            assert (got.status, got.error["code"]) == (400, "invalid_value")

    run(main())


def test_credits_are_the_caller_s(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            bare: dict[str, Any] = (await r.ask("GET", "/v1/credits")).json
            assert (bare["id"], bare["spent_usd"], bare["limit_usd"], bare["credit_usd"]) == ("k1", "0.00", None, None)
            await ledger.put_account(Account(id="k1", kind="key", limit_nusd=10**9, period="day"))
            await ledger.grant("k1", 10**6, "")
            assert (await r.chat(max_tokens=5)).status == 200
            got = (await r.ask("GET", "/v1/credits")).json
            assert (got["limit_usd"], got["period"], got["held_usd"]) == ("1.00", "day", "0.00")
            assert (got["spent_usd"], got["credit_usd"]) == ("0.000007", "0.000993")
            assert COST == 7000

    run(main())


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/credits"])
def test_where_no_ledger_is_kept_it_says_so(path: str) -> None:
    async def main() -> None:
        async with rig() as r:
            got = await r.ask("GET", path)
            assert (got.status, got.error["code"]) == (404, "not_found")
            assert "[ledger]" in got.error["message"]
            assert (await r.ask("GET", path, headers={"Authorization": None})).status == 401

    run(main())
