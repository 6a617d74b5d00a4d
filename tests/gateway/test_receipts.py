"""Receipts of requests through a running gateway: what was asked, sent, received and delivered, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.rig import (
    ASK,
    CHAT,
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
    whole,
)
from tests.gateway.test_till import COST, shop

from lilliput.gateway.receipts import Receipts
from lilliput.neutral import Problem
from lilliput.store import receipts as stored

SECRET = "canary-5a1e"


class Folder:
    """The receipts of one gateway, on disk."""

    def __init__(self, place: Path) -> None:
        key = stored.signing_key(place / "keys" / "receipts.key")
        self.folder = place / "receipts"
        self.chain = stored.Chain(self.folder, key, boot="a0", worker=0, keep_days=0, clock=lambda: 1e9)

    @property
    def found(self) -> list[dict[str, Any]]:
        """What they say, after all were verified."""
        paths = stored.files(self.folder)
        assert [v.faults for v in stored.verify(paths)] == [[]] * len(paths)
        return [stored.record_of(line) for path in paths for line in stored.receipts(path)]

    async def only(self) -> dict[str, Any]:
        await until(lambda: self.found)
        (one,) = self.found
        return one


@contextlib.asynccontextmanager
async def kept(place: Path, script: Script = by_wish, **target: Any) -> AsyncIterator[tuple[Rig, Folder]]:
    folder = Folder(place)
    async with rig(script, **target) as r:
        r.gate.receipts = Receipts(folder.chain, "prices 1")
        yield r, folder


def told(data: bytes) -> dict[str, object]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


BODY = {**ASK, "messages": [{"role": "user", "content": SECRET}]}


@pytest.mark.parametrize("stream", [False, True])
def test_every_byte_on_its_way_is_on_record(tmp_path: Path, stream: bool) -> None:
    async def main() -> None:
        async with kept(tmp_path) as (r, folder):
            body = {**BODY, "stream": stream}
            got = await r.ask("POST", CHAT, body)
            one = await folder.only()
            assert got.headers["x-lilliput-receipt"] == one["id"] == got.headers["x-request-id"]
            assert one["asked"] == told(json.dumps(body).encode())
            assert one["sent"] == told(r.provider.bodies[0])
            assert one["received"] == told(b"".join(STREAM) if stream else whole())
            assert one["delivered"] == told(got.body)
            assert (one["account"], one["operation"], one["dialect"], one["stream"]) == (
                *("k1", "chat", "openai_chat", stream),
            )
            assert (one["model"], one["served"], one["provider"], one["tries"], one["policy"]) == (
                *("p/m", "p/m", "p", 1, "named"),
            )
            assert one["transforms"] == ["pass openai_chat"]
            assert (one["usage"], one["price"], one["cost_nusd"]) == ({"input": 3, "output": 2}, "prices 1", None)
            assert (one["status"], one["problem"], one["ended"], one["left_early"]) == (200, None, True, False)
            (path,) = stored.files(folder.folder)
            assert SECRET.encode() not in path.read_bytes()
            assert b"hello" not in path.read_bytes()

    run(main())


HINTED = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}


def test_a_translated_answer_says_so_and_what_was_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(tmp_path) as (r, folder):
            body = {"model": "p/m", "max_tokens": 5, "messages": [{"role": "user", "content": [HINTED]}]}
            got = await r.ask("POST", "/v1/messages", body)
            assert got.status == 200
            one = await folder.only()
            assert one["transforms"][0] == "translate anthropic to openai_chat"
            assert got.headers.get("x-lilliput-dropped", "").split(", ") == [
                t.removeprefix("drop ") for t in one["transforms"][1:]
            ]
            assert one["received"] == told(whole())
            assert one["delivered"] == told(got.body) != one["received"]

    run(main())


def test_of_several_tries_it_tells_the_one_that_served(tmp_path: Path) -> None:
    async def main() -> None:
        async def second(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
            first = len(provider.bodies) == 1
            writer.write(json_answer(b'{"error":{"message":"no"}}', 500) if first else json_answer(whole()))

        async with kept(tmp_path, second) as (r, folder):
            assert (await r.chat()).status == 200
            one = await folder.only()
            assert (one["tries"], one["received"], one["status"]) == (2, told(whole()), 200)

    run(main())


def test_an_answer_that_is_cut_is_on_record_as_it_was_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(tmp_path, answering(STREAM_HEAD + framed(*STREAM[:3]))) as (r, folder):
            got = await r.chat(stream=True)
            one = await folder.only()
            assert one["problem"] == "upstream_truncated"
            assert one["received"] == told(b"".join(STREAM[:3]))
            assert one["delivered"] == told(got.body)

    run(main())


def test_a_request_that_is_refused_has_its_receipt(tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(tmp_path) as (r, folder):
            got = await r.ask("POST", CHAT, {**ASK, "model": "q/none"})
            one = await folder.only()
            assert (one["status"], one["problem"], one["tries"]) == (got.status, "model_not_found", 0)
            assert (one["sent"], one["received"], one["delivered"]) == (None, None, told(got.body))
            assert one["model"] == "q/none"
            assert one["transforms"] == []

    run(main())


def test_a_caller_that_leaves_is_on_record(tmp_path: Path) -> None:
    async def main() -> None:
        async def endless(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
            writer.write(STREAM_HEAD + framed(*STREAM[:2], end=False))
            await reader.read()

        async with kept(tmp_path, endless) as (r, folder):
            reader, writer = await r.connect()
            body = json.dumps({**ASK, "stream": True}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer lil_test\r\ncontent-length: {len(body)}"
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await reader.readuntil(b"hel")
            writer.close()
            one = await folder.only()
            assert (one["left_early"], one["ended"]) == (True, False)
            assert one["delivered"] == one["received"] == told(b"".join(STREAM[:2]))

    run(main())


def test_many_at_once_are_one_chain_without_gaps(tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(tmp_path) as (r, folder):
            got = await asyncio.gather(*(r.chat(stream=bool(n % 2)) for n in range(60)))
            await until(lambda: len(folder.found) == 60)
            assert [one["n"] for one in folder.found] == list(range(1, 61))
            bodies = {one["id"]: one["delivered"] for one in folder.found}
            assert all(bodies[a.headers["x-lilliput-receipt"]] == told(a.body) for a in got)

    run(main())


class Full:
    """A book whose disk is full until it is not."""

    def __init__(self) -> None:
        self.is_full = True
        self.written: list[Mapping[str, object]] = []

    def add(self, fields: Mapping[str, object]) -> None:
        if self.is_full:
            raise Problem("server", "the disk is full", code="store_unwritable")
        self.written.append(fields)

    def close(self) -> None: ...


def test_while_receipts_cannot_be_written_nothing_is_served_and_none_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        book = Full()
        async with rig() as r:
            r.gate.receipts = Receipts(book, "")
            first = await r.chat()
            got = await r.chat()
            assert (first.status, got.status, got.error["code"]) == (200, 503, "store_unwritable")
            assert len(r.provider.bodies) == 1
            book.is_full = False
            last = await r.chat()
            assert [w["id"] for w in book.written] == [first.headers["x-request-id"], last.headers["x-request-id"]]

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_the_cost_is_settled_by_then_and_told(tmp_path: Path, stream: bool) -> None:
    async def main() -> None:
        folder = Folder(tmp_path)
        async with shop(tmp_path) as (r, _):
            r.gate.receipts = Receipts(folder.chain, "prices 1")
            got = await r.chat(stream=stream, stream_options={"include_usage": True}, max_tokens=5)
            one = await folder.only()
            assert (one["cost_nusd"], one["delivered"]) == (COST, told(got.body))
            assert one["transforms"] == ["pass openai_chat", "add usage.cost"]

    run(main())


def test_where_they_are_off_nothing_is_said_of_them() -> None:
    async def main() -> None:
        async with rig() as r:
            assert "x-lilliput-receipt" not in (await r.chat()).headers

    run(main())
