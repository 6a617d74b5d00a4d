"""One client connection: what is answered, in what order, and when the connection is kept or closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.gateway.rig import (
    ASK,
    CHAT,
    DONE,
    STREAM,
    Answered,
    Provider,
    Rig,
    ask,
    by_wish,
    json_answer,
    mounted,
    parse,
    read_one,
    request,
    rig,
    run,
    whole,
)

from lilliput.gateway import cold
from lilliput.gateway.asgi import application
from lilliput.gateway.routes import Routes

HEALTH = request("GET", "/healthz")
GONE = request("GET", "/v1/nowhere")
BAD = request("POST", CHAT, b'{"model":')
NONE: Mapping[str, str] = {}
BODY = json.dumps(ASK).encode()


def chunked(*pieces: bytes, trailer: bytes = b"", headers: Mapping[str, str] = NONE) -> bytes:
    head = request("POST", CHAT, b"", {"Content-Length": None, "Transfer-Encoding": "chunked", **headers})
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


def old(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


BEARER = "Authorization: Bearer lil_test"
CLOSE = {"Connection": "close"}
UPGRADE = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
SOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}

# what is sent, the statuses that come back, whether the connection lives on
TABLE: list[tuple[str, bytes, list[int], bool]] = [
    ("one", ask(), [200], True),
    ("a stream", ask(stream=True), [200], True),
    ("three in a row", HEALTH + ask() + HEALTH, [200, 200, 200], True),
    ("a stream between", ask() + ask(stream=True) + ask(), [200, 200, 200], True),
    ("fifty in a row", ask() * 50, [200] * 50, True),
    ("fifty streams in a row", ask(stream=True) * 50, [200] * 50, True),
    ("a bad body in the middle", ask() + BAD + ask(), [200, 400, 200], True),
    ("a refused one in the middle ends it", HEALTH + GONE + ask(), [200, 404], False),
    ("a refused one after a stream", ask(stream=True) + GONE, [200, 404], False),
    ("garbage after a good one", ask() + b"\x00\x01garbage\r\n\r\n", [200, 400], False),
    ("half a request after a good one", ask() + ask()[:-5], [200], True),
    ("line ends before a request", b"\r\n\r\n" + ask() + b"\r\n" + ask(), [200, 200], True),
    ("connection: close", request("POST", CHAT, ASK, {"Connection": "close"}), [200], False),
    ("connection: close, and one more", request("GET", "/healthz", None, CLOSE) + ask(), [200], False),
    ("HEAD", request("HEAD", "/healthz"), [200], True),
    ("HEAD of what is not there", request("HEAD", "/nowhere"), [404], False),
    ("chunked", chunked(BODY), [200], True),
    ("chunked by one byte", chunked(*(BODY[i : i + 1] for i in range(len(BODY)))), [200], True),
    ("chunked by one byte, long", chunked(*[b" "] * 20_000, BODY), [200], True),
    ("chunked with a trailer", chunked(BODY, trailer=b"X-Sum: 1\r\nX-More: 2\r\n"), [200], True),
    ("a trailer after a long body", chunked(b" " * 100_000, BODY, trailer=b"X-Sum: 1\r\n"), [200], True),
    ("a trailer that would be a key", chunked(BODY, trailer=b"Authorization: Bearer evil\r\n"), [200], True),
    ("chunk extensions", chunked(BODY).replace(b"\r\n" + BODY, b";a=b\r\n" + BODY), [200], True),
    ("an offer of HTTP/2 is declined", request("POST", CHAT, ASK, UPGRADE), [200], True),
    ("an offer of HTTP/2 for a stream", request("POST", CHAT, {**ASK, "stream": True}, UPGRADE), [200], True),
    ("an offer of HTTP/2 without a body", request("GET", "/healthz", None, UPGRADE) + ask(), [200, 200], True),
    ("an offer of HTTP/2, chunked", chunked(BODY, headers=UPGRADE) + HEALTH, [200, 200], True),
    ("an offer of HTTP/2 and a wrong path", request("POST", "/x", ASK, UPGRADE), [404], False),
    ("offers of HTTP/2 in a row", request("POST", CHAT, ASK, UPGRADE) * 3, [200] * 3, True),
    ("a web socket", request("GET", "/v1/models", None, SOCKET), [400], False),
    ("HTTP/1.0", old(f"GET /v1/models HTTP/1.0\n{BEARER}\n\n"), [200], False),
    ("HTTP/1.0, kept", old(f"GET /v1/models HTTP/1.0\n{BEARER}\nConnection: keep-alive\n\n"), [200], False),
    ("a key in x-api-key", request("POST", CHAT, ASK, {"Authorization": None, "x-api-key": "lil_test"}), [200], True),
    ("an absolute target", old(f"GET http://t/v1/models HTTP/1.1\nHost: t\n{BEARER}\n\n"), [200], True),
    ("a query", request("POST", CHAT + "?beta=true", ASK), [200], True),
    ("an escaped path", request("POST", "/v1/chat%2Fcompletions", ASK), [200], True),
    ("no content type", request("POST", CHAT, ASK, {"Content-Type": None}), [200], True),
]


def told(answer: Answered) -> None:
    """Every answer says its id and who served it."""
    assert answer.headers["x-request-id"].startswith("req_")
    assert "x-lilliput-route" in answer.headers, answer.headers
    if answer.status >= 400 and answer.body:
        assert answer.error["message"]


async def converse(r: Rig, data: bytes, statuses: list[int], by: int, heads: bool) -> tuple[list[Answered], bool]:
    """The answers to `data`, written `by` bytes at a time, and whether the connection still serves a request."""
    reader, writer = await r.connect()
    for at in range(0, len(data), by):
        writer.write(data[at : at + by])
        if by < 100:
            await asyncio.sleep(0)
        if writer.is_closing():
            break
    answers = []
    for _ in statuses:
        answers.append(parse(await reader.readuntil(b"\r\n\r\n")) if heads else await read_one(reader))
    rest = b""
    if answers[-1].headers.get("connection") == "close":
        rest = await asyncio.wait_for(reader.read(), 10)
    else:
        writer.write(ask()[-5:] if data.endswith(ask()[:-5]) else HEALTH)
        assert (await read_one(reader)).status == 200
    writer.close()
    assert rest == b"", "nothing follows the last answer"
    return answers, answers[-1].headers.get("connection") != "close"


@pytest.mark.parametrize("by", [1, 10**9], ids=["bytes", "whole"])
@pytest.mark.parametrize(("name", "data", "statuses", "kept"), TABLE, ids=[row[0] for row in TABLE])
def test_table(name: str, data: bytes, statuses: list[int], kept: bool, by: int) -> None:
    if by == 1 and (len(data) > 20_000 or name == "connection: close, and one more"):
        pytest.skip("too long to be sent by bytes, or sent to a closed door")

    async def main() -> None:
        async with rig() as r:
            answers, lives = await converse(r, data, statuses, by, data.startswith(b"HEAD"))
            assert [a.status for a in answers] == statuses
            assert lives == kept
            for answer in answers:
                told(answer)
            ids = [a.headers["x-request-id"] for a in answers]
            assert ids == sorted(set(ids)), "answered in the order of asking"
            if "chunk" in name or "trailer" in name:
                assert json.loads(r.provider.bodies[0])["messages"] == ASK["messages"]

    run(main())


def test_a_slow_first_is_answered_before_a_fast_second() -> None:
    go = asyncio.Event()

    async def slow(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(json_answer(whole("slow")))

    async def main() -> None:
        async with rig(slow) as r:
            reader, writer = await r.connect()
            writer.write(ask() + HEALTH + GONE)
            while not r.provider.bodies:
                await asyncio.sleep(0.005)
            assert (await r.ask("GET", "/healthz")).status == 200, "others are served meanwhile"
            assert not reader._buffer  # type: ignore[attr-defined]
            go.set()
            first, second, third = [await read_one(reader) for _ in range(3)]
            assert b"slow" in first.body
            assert second.json == {"status": "ok"}
            assert third.status == 404
            writer.close()

    run(main())


def test_http_1_0_gets_its_stream_without_framing() -> None:
    async def main() -> None:
        async with rig() as r:
            body = json.dumps({**ASK, "stream": True})
            head = f"POST {CHAT} HTTP/1.0\n{BEARER}\nContent-Length: {len(body)}\n\n"
            answer = parse(await r.raw(old(head) + body.encode()))
            assert answer.body == b"".join(STREAM[:-2]) + DONE
            assert "transfer-encoding" not in answer.headers
            assert answer.headers["connection"] == "close"

    run(main())


EXPECTS: list[tuple[str, bytes, list[int]]] = [
    ("a good one", request("POST", CHAT, ASK, {"Expect": "100-continue"}), [100, 200]),
    ("in capitals", request("POST", CHAT, ASK, {"Expect": "100-Continue"}), [100, 200]),
    ("no key", request("POST", CHAT, ASK, {"Expect": "100-continue", "Authorization": None}), [401]),
    ("a wrong key", request("POST", CHAT, ASK, {"Expect": "100-continue", "Authorization": "Bearer x"}), [401]),
    ("no such path", request("POST", "/v1/x", ASK, {"Expect": "100-continue"}), [404]),
    ("too large", request("POST", CHAT, b"x" * 2_000_000, {"Expect": "100-continue"}), [413]),
    ("chunked", chunked(BODY, headers={"Expect": "100-continue"}), [100, 200]),
]


@pytest.mark.parametrize(("name", "data", "statuses"), EXPECTS, ids=[row[0] for row in EXPECTS])
def test_continue_is_said_only_after_admission(name: str, data: bytes, statuses: list[int]) -> None:
    head, _, body = data.partition(b"\r\n\r\n")

    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(head + b"\r\n\r\n")
            if statuses[0] == 100:
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(body)
            answer = await read_one(reader)
            assert answer.status == statuses[-1]
            told(answer)
            writer.close()

    run(main())


async def hang(provider: Provider, body: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
    await reader.read()
    provider.gone.set()
    raise ConnectionError


HALVES: list[tuple[str, bytes, list[int]]] = [
    ("nothing sent", b"", []),
    ("a line end", b"\r\n", []),
    ("half a head", ask()[:30], [400]),
    ("half a body", ask()[:-5], [400]),
    ("half a chunked body", chunked(BODY)[:-9], [400]),
    ("a whole request", ask(), [200]),
    ("a whole stream", ask(stream=True), [200]),
    ("one and a half", HEALTH + ask()[:-5], [200]),
    ("a refused one", GONE, [404]),
    ("three", HEALTH + HEALTH + HEALTH, [200, 200, 200]),
]


@pytest.mark.parametrize(("name", "data", "statuses"), HALVES, ids=[row[0] for row in HALVES])
def test_a_client_that_closes_its_sending_side(name: str, data: bytes, statuses: list[int]) -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(data)
            writer.write_eof()
            for status in statuses:
                answer = await read_one(reader)
                assert answer.status == status
                told(answer)
            rest = await asyncio.wait_for(reader.read(), 10)
            assert rest == b"" or (name == "one and a half" and parse(rest).status == 400)
            writer.close()

    run(main())


def test_a_half_closed_client_does_not_hold_a_provider() -> None:
    async def main() -> None:
        async with rig(hang) as r:
            reader, writer = await r.connect()
            writer.write(ask())
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 10) == b""
            await asyncio.wait_for(r.provider.gone.wait(), 10)
            writer.close()

    run(main())


PLACES: list[tuple[str, str, int, str, dict[str, str]]] = [
    ("GET", "/v1/chat/completion", 404, "'/v1/chat/completions'", {}),
    ("GET", "/v1/model", 404, "'/v1/models'", {}),
    ("GET", CHAT, 405, "POST", {"allow": "POST"}),
    ("PUT", CHAT, 405, "POST", {"allow": "POST"}),
    ("POST", "/v1/models", 405, "GET", {"allow": "GET"}),
    ("DELETE", "/v1/models/p/m", 405, "GET", {"allow": "GET"}),
    ("OPTIONS", "/healthz", 405, "GET", {"allow": "GET"}),
    ("POST", "/v1/embeddings/", 404, "'/v1/embeddings'", {}),
    ("GET", "/v1/%6dodels/x\r\nSet-Cookie: a", 400, "HTTP", {}),
    ("GET", "/\u001b[31m", 400, "", {}),
    ("GET", "/%1b[31m%0d%0a", 404, "", {}),
]


@pytest.mark.parametrize("front", ["raw", "asgi"])
def test_what_is_not_there_says_what_is(front: str) -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            for method, path, status, says, headers in PLACES:
                if front == "asgi" and status == 400:
                    continue  # uvicorn's own parser answers
                answer = await (r if front == "raw" else m).ask(method, path)
                assert (answer.status, answer.error["type"]) == (status, "invalid_request_error"), path
                assert says in answer.error["message"], answer.error
                assert headers.items() <= answer.headers.items()
                assert "\x1b" not in answer.error["message"]
                told(answer)

    run(main())


def test_asgi_scopes_that_are_not_http() -> None:
    async def main() -> None:
        async with rig() as r:
            routes, said = Routes(), []
            app = application(r.gate, routes, cold.build(r.gate, routes))

            async def send(message: Any) -> None:
                said.append(message["type"])

            async def receive() -> Any:
                raise AssertionError("nothing is asked")

            for kind in ("websocket", "lifespan", "x"):
                await app({"type": kind, "path": "/v1/models", "headers": []}, receive, send)
            assert said == ["websocket.close"]

    run(main())


TYPES: list[tuple[str | None, int]] = [
    ("application/json", 200),
    ("application/json; charset=utf-8", 200),
    ("APPLICATION/JSON", 200),
    (None, 200),
    ("text/plain", 415),
    ("application/x-www-form-urlencoded", 415),
    ("multipart/form-data; boundary=x", 415),
    ("application/jsonx", 415),
]


@pytest.mark.parametrize(("content_type", "status"), TYPES)
def test_content_types(content_type: str | None, status: int) -> None:
    async def main() -> None:
        async with rig(by_wish) as r:
            answer = await r.ask("POST", CHAT, ASK, {"Content-Type": content_type})
            assert answer.status == status
            told(answer)

    run(main())
