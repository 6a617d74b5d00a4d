"""Malformed requests by the thousand, from one seed: only 4xx in OpenAI's form, or 200 where no harm was done."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from tests.gateway.rig import (
    CHAT,
    STREAM,
    STREAM_HEAD,
    VECTORS,
    Answered,
    Provider,
    Rig,
    framed,
    json_answer,
    read_one,
    request,
    rig,
    run,
    whole,
)

from lilliput.gateway.server import Limits

EMBEDDINGS = "/v1/embeddings"
RICH: dict[str, Any] = {
    "model": "p/m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":[1]}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "max_tokens": 5, "temperature": 0.5, "top_p": 1, "n": 1, "stop": ["a", "b"], "seed": 7, "logprobs": True,
    "top_logprobs": 3, "presence_penalty": 0.1, "logit_bias": {"5": 1}, "user": "u", "stream": False,
    "stream_options": {"include_usage": True}, "reasoning_effort": "low", "metadata": {"a": "b"}, "x": [1, {"x": None}],
}  # fmt: skip
BASES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, RICH),
    (CHAT, {"model": "p/m", "messages": [{"role": "user", "content": "hi"}]}),
    (CHAT, {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], "stream": True}),
    (EMBEDDINGS, {"model": "p/m", "input": ["a", [1, 2]], "encoding_format": "float", "dimensions": 3}),
]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**64), 10**25, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), float("-inf"), "", "x", "p/m", "q/none", "\x00", "\ud800", "é" * 100, "\r\nx-evil: 1", "a" * 5000,
    "true", "1", [], {}, [[]], [None], [{}], {"": ""}, {"a": {"b": {"c": {}}}}, ["system"], {"role": "user"},
    {"type": "text"}, "system", "function",
]  # fmt: skip
DEEP = b"[" * 100_000 + b"]" * 100_000
BITS = [
    b"", b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n",
    b"\\u", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"01", b"0x1", b"//", b"/**/", b"'", b"true", b"nul",
    b'"model":', b'"stream":1,', b"\xef\xbb\xbf", b'{"a":' * 70, b"[" * 70, b"[" * 5000, b"9" * 5000, b'"\\u0000"',
    b"\x1b[31m", b"<script>", b'"messages":[],',
]  # fmt: skip
WHOLES = [
    b"", b" ", b"null", b"true", b"0", b'"x"', b"[]", b"{}", b"[{}]", b"{", b"[", b'"', b"{}{}", b"{} x", b'{"a"}',
    b'{"a":}', b"{1:2}", b"\xff\xfe{\x00}\x00", b"model=p/m", b"<xml/>", DEEP, DEEP[:100_000], b'{"a":' * 100_000,
    b"[" + b"1," * 50_000 + b"1]", json.dumps({f"k{i}": i for i in range(11_000)}).encode(),
    b'{"model":"p/m","messages":' + DEEP + b"}",
    b'{"model":"p/m","messages":[],"x":{' + b",".join(b'"%d":[]' % i for i in range(11_000)) + b"}}",
    b'{"model":"p/m","messages":[' + b",".join([b"{}"] * 5000) + b"]}",
    b'{"model":"p/m","messages":"' + b"\\u00e9" * 10_000 + b'"}', b'{"model":"p/m","model":"p/m","messages":[]}',
    b'{"messages":[],"messages":[{"role":"user","content":"x"}],"model":"p/m"}',
]  # fmt: skip


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a body."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(p for key, value in pairs for p in places(value, (*at, key)))]


def by_value(dice: random.Random, body: dict[str, Any]) -> bytes:
    """Values swapped for others, dropped, doubled, moved into lists and objects."""
    changed = json.loads(json.dumps(body))
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        if not changed:
            break
        *path, last = dice.choice(places(changed)[1:])
        parent = changed
        for step in path:
            parent = parent[step]
        match dice.randrange(6):
            case 0:
                del parent[last]
            case 1:
                parent[last] = [parent[last]]
            case 2:
                parent[last] = {"x": parent[last]}
            case 3 if isinstance(parent, dict):
                parent[str(last) + dice.choice(["", "s", " ", "\x00"])] = copy.deepcopy(dice.choice(VALUES))
            case _:
                parent[last] = copy.deepcopy(dice.choice(VALUES))
    return json.dumps(changed, ensure_ascii=True, indent=dice.choice((None, None, 1))).encode()


def by_bytes(dice: random.Random, body: dict[str, Any]) -> bytes:
    """Bytes flipped, cut out, put in, doubled, cut off."""
    data = bytearray(json.dumps(body, separators=dice.choice(((",", ":"), (", ", ": ")))).encode())
    for _ in range(dice.choice((1, 1, 2, 8))):
        at, to = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
        match dice.randrange(5):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del data[at : min(to, at + 20)]
            case 2:
                data[at:at] = dice.choice(BITS)
            case 3:
                data[at:at] = data[at : min(to, at + 100)]
            case _:
                del data[to:]
    return bytes(data)


def by_choice(dice: random.Random, body: dict[str, Any]) -> bytes:
    return dice.choice(WHOLES)


def cases(seed: int, count: int) -> list[tuple[str, bytes]]:
    dice = random.Random(seed)
    kinds: list[Callable[[random.Random, dict[str, Any]], bytes]] = [by_value] * 12 + [by_bytes] * 12 + [by_choice]
    made = []
    for _ in range(count):
        path, body = dice.choice(BASES)
        made.append((path, dice.choice(kinds)(dice, body)))
    return made


class Asked(Struct):
    stream: Any = None


async def obliging(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    """A provider that answers whatever reaches it; a body that is no JSON never may."""
    stream = msgspec.json.decode(body, type=Asked).stream
    provider.bodies.clear()
    if EMBEDDINGS.encode() in provider.heads.pop():
        writer.write(json_answer(VECTORS))
    else:
        writer.write(STREAM_HEAD + framed(*STREAM) if stream is True else json_answer(whole()))


def wrong(answer: Answered) -> str | None:
    """What is amiss with an answer to a fuzzed request, None for nothing."""
    if answer.status == 200:
        return None if answer.is_whole else "a cut answer"
    if not 400 <= answer.status < 500:
        return f"status {answer.status}: {answer.body[:200]!r}"
    error = answer.json.get("error", {})
    if set(error) != {"message", "type", "param", "code"}:
        return f"fields {sorted(error)}"
    if not error["message"] or len(error["message"]) > 2500 or any(c < " " for c in error["message"]):
        return f"message {error['message'][:200]!r}"
    return None


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def caller(r: Rig, todo: list[tuple[str, bytes]], seen: dict[int, int]) -> None:
    """Sends its share of the cases over kept connections."""
    reader, writer = await r.connect()
    for path, body in todo:
        writer.write(request("POST", path, body))
        answer = await read_one(reader)
        assert wrong(answer) is None, f"{wrong(answer)} for {path} {body[:500]!r}"
        seen[answer.status] = seen.get(answer.status, 0) + 1
        if answer.headers.get("connection") == "close":
            writer.close()
            reader, writer = await r.connect()
    writer.close()


def fuzz(seed: int, count: int) -> dict[int, int]:
    """How often each status came; raises AssertionError for an answer that should not be."""
    seen: dict[int, int] = {}

    async def main() -> None:
        todo = cases(seed, count)
        async with rig(obliging, limits=Limits(body_grace_s=5)) as r:
            await caller(r, todo[:100], {})
            before = resident_bytes()
            await asyncio.gather(*(caller(r, todo[i::8], seen) for i in range(8)))
            assert resident_bytes() - before < 50 * 1024 * 1024
            assert (await r.chat()).status == 200
            assert len(r.gate.meter.book.series) < 2_000

    run(main())
    return seen


def test_ten_thousand() -> None:
    seen = fuzz(1, 10_000)
    assert sum(seen.values()) == 10_000
    assert seen[400] > 5000
    assert seen[200] > 500, "some mutations are harmless"


@pytest.mark.slow
def test_fifty_thousand_more() -> None:
    assert sum(fuzz(2, 50_000).values()) == 50_000


def test_every_field_of_every_wrong_type() -> None:
    """Each value at each place of each body, one at a time."""

    async def main() -> None:
        async with rig(obliging) as r:
            todo = []
            for path, body in BASES:
                for *steps, last in places(body)[1:]:
                    for value in VALUES[:: 1 if body is not RICH else 4]:
                        changed = json.loads(json.dumps(body))
                        parent = changed
                        for step in steps:
                            parent = parent[step]
                        parent[last] = value
                        todo.append((path, json.dumps(changed).encode()))
            await asyncio.gather(*(caller(r, todo[i::4], {}) for i in range(4)))

    run(main())


HOSTILE: list[tuple[str, bytes, int, str]] = [
    ("an array", b"[]", 400, "invalid_type"),
    ("a string", b'"x"', 400, "invalid_type"),
    ("null", b"null", 400, "invalid_type"),
    ("nothing", b"", 400, "invalid_json"),
    ("cut", b'{"model":"p/m","mess', 400, "invalid_json"),
    ("NaN", b'{"model":"p/m","messages":[{"role":"user","content":"x"}],"temperature":NaN}', 400, "invalid_json"),
    ("deep", b'{"model":"p/m","messages":' + DEEP + b"}", 400, "json_too_deep"),
    ("many keys", json.dumps({f"k{i}": {} for i in range(11_000)}).encode(), 400, "json_too_large"),
    ("bad UTF-8", b'{"model":"p/m","messages":[{"role":"user","content":"\xff"}]}', 400, "invalid_json"),
    ("a lone surrogate", b'{"model":"p/m","messages":[{"role":"user","content":"\\ud800"}]}', 400, "invalid_json"),
    ("a key twice", b'{"model":"p/m","messages":[{"role":"user","content":"x"}],"model":"p/n"}', 400, "duplicate_key"),
    ("a huge integer", b'{"model":"p/m","messages":[],"seed":' + b"9" * 400 + b"}", 400, "invalid"),
    ("no model", b'{"messages":[{"role":"user","content":"x"}]}', 400, "missing_required_parameter"),
    ("no messages", b'{"model":"p/m"}', 400, "missing_required_parameter"),
    ("a wrong role", b'{"model":"p/m","messages":[{"role":"boss","content":"x"}]}', 400, "invalid_value"),
    ("a wrong type", b'{"model":7,"messages":[{"role":"user","content":"x"}]}', 400, "invalid_type"),
    ("an unknown model", b'{"model":"q/x","messages":[{"role":"user","content":"x"}]}', 404, "model_not_found"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "status", "code"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_hostile_bodies_say_what_is_wrong(name: str, body: bytes, status: int, code: str) -> None:
    async def main() -> None:
        async with rig() as r:
            answer = await r.ask("POST", CHAT, body)
            assert wrong(answer) is None
            assert answer.status == status
            assert answer.error["code"].startswith(code)
            assert r.provider.bodies == []

    run(main())
