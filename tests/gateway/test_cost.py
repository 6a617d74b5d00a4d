"""The cost of a call in the answer's own usage, in every dialect that has one, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.rig import (
    ASK,
    CHAT,
    DONE,
    STREAM,
    STREAM_HEAD,
    USAGE,
    Provider,
    Script,
    answering,
    chunk,
    framed,
    json_answer,
    run,
    whole,
)
from tests.gateway.test_till import COST, shop, spent

DOLLARS = 0.000007
ASKS: dict[str, dict[str, Any]] = {
    CHAT: {**ASK, "stream_options": {"include_usage": True}},
    "/v1/messages": {**ASK, "max_tokens": 5},
    "/v1/responses": {"model": "p/m", "input": "hi"},
    "/v1/completions": {"model": "p/m", "prompt": "hi", "stream_options": {"include_usage": True}},
}


def costs(node: Any) -> list[float]:
    """Every `cost` beside token counts."""
    if isinstance(node, dict):
        own = [node["usage"]["cost"]] if isinstance(node.get("usage"), dict) and "cost" in node["usage"] else []
        return own + [c for v in node.values() for c in costs(v)]
    return [c for v in node for c in costs(v)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_dialect_tells_it(tmp_path: Path, path: str, stream: bool) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger):
            body = {**ASKS[path], "stream": stream}
            if not stream:
                body.pop("stream_options", None)
            got = await r.ask("POST", path, body)
            assert (got.status, got.is_whole) == (200, True)
            said = [json.loads(e) for e in got.events if e != "[DONE]"] if stream else got.json
            assert costs(said) == [DOLLARS]
            assert await spent(ledger) == (COST, 0)

    run(main())


def slowly(*events: bytes, end: bytes = b"0\r\n\r\n") -> Script:
    """Each event in a write of its own: the usage comes before anybody can tell that it was the last."""

    async def script(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        for piece in (STREAM_HEAD, *(framed(e, end=False) for e in events), end):
            writer.write(piece)
            await asyncio.sleep(0.01)

    return script


LAST = chunk({"content": "!"}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2})


def contents(events: list[str]) -> list[str]:
    return [c["delta"].get("content", "") for e in events if e[0] == "{" for c in json.loads(e).get("choices", ())]


def test_usage_that_comes_before_the_end_waits_for_its_cost(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, slowly(*STREAM[:3], LAST, USAGE, DONE)) as (r, _):
            got = await r.ask("POST", CHAT, {**ASKS[CHAT], "stream": True})
            *_events, usage, done = got.events
            assert (json.loads(usage)["usage"]["cost"], done) == (DOLLARS, "[DONE]")
            assert contents(got.events) == ["", "hel", "lo", "!"]

    run(main())


def test_what_waited_is_not_lost_when_the_end_never_comes(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, slowly(*STREAM[:3], LAST, end=b"zz\r\n")) as (r, _):
            got = await r.ask("POST", CHAT, {**ASKS[CHAT], "stream": True})
            assert contents(got.events) == ["", "hel", "lo", "!"]
            assert "error" in json.loads(got.events[-1])

    run(main())


def test_it_is_told_only_where_it_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, price=None) as (r, _):
            assert (await r.chat()).body == whole()
        mute = json.dumps({k: v for k, v in json.loads(whole()).items() if k != "usage"}).encode()
        async with shop(tmp_path, answering(json_answer(mute))) as (r, _):
            got = await r.chat()
            assert got.body == mute
            assert "x-lilliput-cost" in got.headers

    run(main())


def test_embeddings_tell_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, _):
            got = await r.ask("POST", "/v1/embeddings", {"model": "p/m", "input": "hi"})
            assert got.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "cost": 0.000003}

    run(main())
