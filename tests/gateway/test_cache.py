"""The response cache through the gateway: what is given again, to whom, and what never is."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.gateway.replaying import KEYS, MATE, MINE, NARROW, OTHER, replaying
from tests.gateway.rig import (
    ASK,
    CHAT,
    STREAM,
    STREAM_HEAD,
    Answered,
    Rig,
    answering,
    by_wish,
    framed,
    json_answer,
    mounted,
    run,
    whole,
)

from lilliput.gateway import cache_key
from lilliput.gateway.cache import read_control
from lilliput.gateway.routes import CHAT as CHAT_OP
from lilliput.neutral import Key
from lilliput.store.replays import Room
from lilliput.store.shared import Shared
from lilliput.store.shared_replays import SharedAnswers

MESSAGES: dict[str, Any] = {**ASK, "max_tokens": 9}
RESPONSE: dict[str, Any] = {"model": "p/m", "input": "hi", "store": False}
GEMINI: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", CHAT, ASK),
    ("chat, streamed", CHAT, {**ASK, "stream": True}),
    ("another mount", "/openai/v1/chat/completions", ASK),
    ("messages", "/v1/messages", MESSAGES),
    ("messages, streamed", "/v1/messages", {**MESSAGES, "stream": True}),
    ("responses", "/v1/responses", RESPONSE),
    ("responses, streamed", "/v1/responses", {**RESPONSE, "stream": True}),
    ("gemini", "/v1beta/models/p/m:generateContent", GEMINI),
    ("gemini, streamed", "/v1beta/models/p/m:streamGenerateContent?alt=sse", GEMINI),
    ("embeddings", "/v1/embeddings", {"model": "p/m", "input": "hi"}),
]


async def ask(r: Rig, path: str, body: Any, who: Mapping[str, str] = MINE, **headers: str) -> Answered:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await r.ask("POST", path, body, {**who, **given})


def said(got: Answered) -> str | None:
    return got.headers.get("x-lilliput-cache")


@pytest.mark.parametrize(("path", "body"), [k[1:] for k in KINDS], ids=[k[0] for k in KINDS])
def test_the_same_request_of_the_same_key_is_answered_alike_and_no_other(
    path: str, body: dict[str, Any], tmp_path: Path
) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, _):
            first = await ask(r, path, body)
            assert (first.status, said(first)) == (200, "miss"), first.body
            again = await ask(r, path, dict(reversed(body.items())))
            assert (again.status, said(again), again.headers["age"]) == (200, "hit", "0")
            assert again.body == first.body
            assert again.is_whole
            assert again.headers["content-type"] == first.headers["content-type"]
            assert again.headers["x-request-id"] != first.headers["x-request-id"]
            assert again.headers["x-lilliput-route"] == "p/m; tries=0; why=hit"
            assert len(r.provider.bodies) == 1
            assert said(await ask(r, path, body, OTHER)) == "miss"
            assert said(await ask(r, path, body, MATE)) == "miss"
            assert len(r.provider.bodies) == 3

    run(main())


def test_a_stream_comes_in_the_pieces_in_which_it_came(tmp_path: Path) -> None:
    async def slow(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
        writer.write(STREAM_HEAD)
        for piece in STREAM:
            writer.write(framed(piece, end=False))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")

    async def main() -> None:
        async with replaying(tmp_path, slow) as (r, _), mounted(r) as app:
            body = {**ASK, "stream": True}
            raws = []
            for door in (r, r, app):
                reader, writer = await door.connect()
                data = json.dumps(body).encode()
                head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: {MINE['Authorization']}\r\n"
                writer.write(f"{head}connection: close\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
                raws.append((await reader.read()).partition(b"\r\n\r\n")[2])
            assert len(framings(raws[0])) > 3
            assert raws[0] == raws[1], "chunk by chunk"
            assert framings(raws[2]) == framings(raws[0])
            assert len(r.provider.bodies) == 1

    run(main())


def framings(body: bytes) -> list[bytes]:
    """The chunks of a body, as far as their sizes say."""
    found = []
    while body:
        size, _, body = body.partition(b"\r\n")
        found.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return found


NOT_KEPT = [
    ("a cut stream", answering(STREAM_HEAD + framed(*STREAM[:3])), {"stream": True}),
    (
        "an error in a stream",
        answering(STREAM_HEAD + framed(*STREAM[:3], b'data: {"error":{"message":"x"}}\n\n')),
        {"stream": True},
    ),
    ("an error", answering(json_answer(b'{"error":{"message":"x"}}', 500)), {}),
    ("a refusal", answering(json_answer(b'{"error":{"message":"x"}}', 400)), {}),
    ("no answer", answering(json_answer(b"{}")), {}),
]


@pytest.mark.parametrize(("script", "fields"), [n[1:] for n in NOT_KEPT], ids=[n[0] for n in NOT_KEPT])
def test_what_is_no_whole_answer_is_not_kept(script: Any, fields: dict[str, Any], tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, script) as (r, _):
            await r.chat(**fields)
            before = len(r.provider.bodies)
            r.provider.script = by_wish
            assert said(await r.chat(**fields)) == "miss"
            assert len(r.provider.bodies) == before + 1

    run(main())


def test_a_caller_that_leaves_leaves_nothing_half(tmp_path: Path) -> None:
    async def slow(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
        writer.write(STREAM_HEAD + framed(*STREAM[:3], end=False))
        await reader.read()

    async def main() -> None:
        async with replaying(tmp_path, slow) as (r, _):
            reader, writer = await r.connect()
            data = json.dumps({**ASK, "stream": True}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: {MINE['Authorization']}\r\n"
            writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            await reader.readuntil(b"lo")
            writer.close()
            await r.provider.gone.wait()
            r.provider.script = by_wish
            assert said(await r.chat(stream=True)) == "miss"

    run(main())


def test_a_failed_response_is_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        for status, then in (("failed", "miss"), ("incomplete", "miss"), ("completed", "hit")):
            response = {"id": "resp_1", "object": "response", "status": status, "output": [], "model": "m"}
            script = answering(json_answer(json.dumps(response).encode()))
            place = tmp_path / status
            place.mkdir()
            async with replaying(place, script, dialect="openai_responses") as (r, _):
                await ask(r, "/v1/responses", RESPONSE)
                assert said(await ask(r, "/v1/responses", RESPONSE)) == then, status

    run(main())


BYPASS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"model": "p/m", "input": "hi"}),
    ("/v1/responses", {**RESPONSE, "store": True}),
    ("/v1/responses", {**RESPONSE, "background": True}),
    (CHAT, {**ASK, "store": True}),
]


def test_a_response_that_is_to_be_continued_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, _):
            for path, body in BYPASS:
                for _ in range(2):
                    assert said(await ask(r, path, body)) in ("bypass", None), body
            first = await ask(r, *BYPASS[0])
            again = await ask(r, *BYPASS[0])
            assert first.json["id"] != again.json["id"]
            more = {**RESPONSE, "previous_response_id": again.json["id"]}
            assert said(await ask(r, "/v1/responses", more)) == "bypass"

    run(main())


def test_images_and_sound_are_never_asked_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, _):
            got = await ask(r, "/v1/images/generations", {"model": "p/m", "prompt": "a cat"})
            assert said(got) is None

    run(main())


def test_a_caller_may_say_what_it_takes(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, clock):
            steps = [
                ("no-store", "bypass"),
                ("", "miss"),
                ("", "hit"),
                ("no-store", "bypass"),
                ("No-Cache", "bypass"),
                ("x, max-age=0", "miss"),
                ("max-age=100", "hit"),
            ]
            for given, expected in steps:
                assert said(await ask(r, CHAT, ASK, cache_control=given)) == expected, given
            clock.more = 10
            assert said(await ask(r, CHAT, ASK, cache_control="max-age=9")) == "miss"
            clock.more = 15
            assert (await ask(r, CHAT, ASK)).headers["age"] == "5", "it was kept anew"
            clock.more = 71
            assert said(await ask(r, CHAT, ASK)) == "miss", "it has expired"

    run(main())


def test_a_team_shares_where_the_operator_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, share="team") as (r, _):
            for who, expected in ((MINE, "miss"), (MATE, "hit"), (OTHER, "miss"), (NARROW, "miss"), (NARROW, "hit")):
                assert said(await ask(r, CHAT, ASK, who)) == expected

    run(main())


def test_what_is_too_long_is_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, answering(json_answer(whole("x" * 2000))), most_bytes=2000) as (r, _):
            for _ in range(2):
                assert said(await r.chat()) == "miss"

    run(main())


def test_a_store_that_is_down_is_an_empty_cache(tmp_path: Path) -> None:
    async def main() -> None:
        shared = Shared("unix:///nowhere/at/all", timeout_s=0.1)
        async with replaying(tmp_path, answers=SharedAnswers(shared, Room(9, 9))) as (r, _):
            for fields in ({}, {"stream": True}):
                for _ in range(2):
                    got = await r.chat(**fields)
                    assert (got.status, said(got)) == (200, "miss")
        await shared.close()

    run(main())


def test_a_hit_takes_no_money_and_no_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, _):
            notes = []
            r.gate.meter.note = lambda record: notes.append(record)  # type: ignore[method-assign]
            await r.chat()
            await r.chat()
            miss, hit = notes
            assert (miss.cache, hit.cache) == ("miss", "hit")
            assert miss.usage is not None
            assert (hit.usage, hit.taken, hit.is_held, hit.cost_nusd, hit.left_early) == (None, None, False, 0, False)
            assert hit.served_by == "p/m"

    run(main())


# -- the digest ---------------------------------------------------------------------------------------------------


class Asked:
    """What a digest is made of."""

    def __init__(self, key: Key, target: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        self.key, self.target, self.headers, self.body = key, target, headers, body
        self.model, self.stream, self.most = "p/m", False, None

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)


def digest(asked: Asked, share: cache_key.Share = "key") -> bytes:
    who = cache_key.tenant(asked.key, share)
    fields = cache_key.read(asked.body)
    visit: Any = asked
    return cache_key.digest("exact", *cache_key.asked(who, visit, CHAT_OP, visit, fields))


def test_different_requests_never_share_a_digest() -> None:
    """10,000 pairs that differ in one thing: who asks, where, with which header, or one value of the body."""
    dice = random.Random(4)

    def value(depth: int = 0) -> Any:
        kind = dice.randrange(8 if depth < 3 else 6)
        if kind == 6:
            return [value(depth + 1) for _ in range(dice.randrange(3))]
        if kind == 7:
            return {text(): value(depth + 1) for _ in range(dice.randrange(3))}
        return (None, dice.random(), dice.randrange(-3, 3), text(), dice.random() < 0.5, str(dice.randrange(3)))[kind]

    def text() -> str:
        return "".join(dice.choice('ab:,"\\{}[]\0é ') for _ in range(dice.randrange(5)))

    def one() -> Asked:
        key = Key(id=text(), team=text(), models=tuple(text() for _ in range(dice.randrange(3))))
        headers = {name: text().encode() for name in cache_key.HEADERS if dice.random() < 0.5}
        body = {text(): value() for _ in range(dice.randrange(4))}
        return Asked(key, text().encode(), headers, json.dumps(body).encode())

    def view(a: Asked) -> Any:
        fields = sorted((name, json.dumps(v)) for name, v in json.loads(a.body).items())
        return (a.key.id, sorted(a.key.models), a.target, a.headers, [f for f in fields if f[0] != "metadata"])

    pairs = 0
    while pairs < 10_000:
        a, b = one(), one()
        part = dice.randrange(5)  # b is a, but for one part
        if part != 0:
            b.key = a.key if part != 1 else structs.replace(a.key, models=b.key.models)
        if part != 2:
            b.target = a.target
        if part != 3:
            b.headers = a.headers
        if part != 4:
            b.body = a.body
        if view(a) == view(b):
            assert digest(a) == digest(b)
            continue
        pairs += 1
        assert digest(a) != digest(b), (view(a), view(b))


SAME = [
    (b'{"a":1,"b":"x"}', b'{ "b" : "x",\n"a": 1 }', True),
    (b'{"a":1,"metadata":{"x":"1"},"prompt_cache_key":"p"}', b'{"a":1}', True),
    (b'{"a":1}', b'{"a":1.0}', False),
    (b'{"a":1}', b'{"a":"1"}', False),
    (b'{"a":1}', b'{"a":true}', False),
    (b'{"a":{"x":1,"y":2}}', b'{"a":{"y":2,"x":1}}', False),
    (b'{"a":9007199254740993}', b'{"a":9007199254740992}', False),
    (b'{"a":1e400}', b'{"a":1e401}', False),
    (b'{"a":{"x":1,"x":2}}', b'{"a":{"x":2}}', False),
    (b'{"a":"u"}', b'{"user":"u"}', False),
    (b'{"user":"u"}', b'{"user":"v"}', False),
]


@pytest.mark.parametrize(("one", "other", "is_same"), SAME)
def test_what_counts_as_the_same_body(one: bytes, other: bytes, is_same: bool) -> None:
    a, b = (digest(Asked(KEYS["lil_other"], b"/", {}, body)) for body in (one, other))
    assert (a == b) is is_same


def test_a_tenant_cannot_be_spelt_by_another() -> None:
    assert cache_key.tenant(Key(id="a", team="b"), "key") == "key:a"
    assert cache_key.tenant(Key(id="b", team="a"), "team") == "team:a"
    assert cache_key.tenant(Key(id="a"), "team") == "key:a"


def test_cache_control_is_read_leniently() -> None:
    assert read_control(None).looks
    for odd in (b"", b"max-age=x", b"max-age=-1", b"\xff, ,=", b"only-if-cached", b"max-age=9999999999"):
        assert read_control(odd) == read_control(None), odd
    assert read_control(b"max-age=5, max-age=3").max_age_s == 3
