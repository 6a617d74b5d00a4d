"""Providers that fail: what the caller sees, byte for byte, of every fault in a stream and in a whole answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from typing import Any

import pytest
from tests.gateway.rig import (
    DONE,
    STREAM,
    STREAM_HEAD,
    USAGE,
    Answered,
    Provider,
    Rig,
    Script,
    answering,
    ask,
    by_wish,
    chunk,
    framed,
    json_answer,
    mounted,
    read_one,
    rig,
    run,
    whole,
)

from lilliput.gateway.answer import Patience

ROLE, HEL, LO, STOP = STREAM[:4]
FIVE = [ROLE, *(chunk({"content": f"{i} "}) for i in range(4))]
SEEN = b"".join(FIVE)
GARBAGE = b"data: garbage\n\n"
CUT, BAD = "upstream_truncated", "upstream_invalid"
LIMITED = b'data: {"error":{"message":"slow down","type":"rate_limit","code":"rate_limit_exceeded"}}\n\n'
CREDIT = b'data: {"error":{"message":"no credit","code":402}}\n\n'
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>"
NO_LENGTH = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"


def reset(writer: asyncio.StreamWriter) -> None:
    """The next close sends RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def sends(*pieces: bytes, then: str = "keep", head: bytes = STREAM_HEAD) -> Script:
    """A provider that sends its head and chunks, and then ends them well, closes ("fin"), resets, or hangs."""

    async def script(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        raw = head != STREAM_HEAD
        writer.write(head + (b"".join(pieces) if raw else framed(*pieces, end=then == "keep")))
        await writer.drain()
        if then == "rst":
            await asyncio.sleep(0.05)  # a reset that overtakes the data would be another fault
            reset(writer)
        if then in ("fin", "rst"):
            writer.close()
        if then == "hang":
            await reader.read()

    return script


# name, the provider, what the caller sees before the end, the code of the error event (None: a good end), tries
STREAMS: list[tuple[str, Script, bytes, str | None, int]] = [
    ("good", sends(*STREAM), b"".join(STREAM[:4]), None, 1),
    ("clean end, no finish, no [DONE]", sends(*FIVE), SEEN, CUT, 1),
    ("reset", sends(*FIVE, then="rst"), SEEN, CUT, 1),
    ("closed without the last chunk", sends(*FIVE, then="fin"), SEEN, CUT, 1),
    ("reset in the middle of an event", sends(*FIVE, LO[:20], then="rst"), SEEN, CUT, 1),
    ("closed in the middle of an event", sends(*FIVE, LO[:20], then="fin"), SEEN, CUT, 1),
    ("the last event is half, clean end", sends(*FIVE, LO[:20]), SEEN, CUT, 1),
    ("closed after the finish, no last chunk", sends(*FIVE, STOP, then="fin"), SEEN + STOP, CUT, 1),
    ("garbage in the middle", sends(*FIVE, GARBAGE, LO, STOP, DONE), SEEN, BAD, 1),
    ("half JSON in the middle", sends(*FIVE, LO[:20] + b"\n\n", LO, STOP, DONE), SEEN, BAD, 1),
    ("an error event", sends(*FIVE, LIMITED, DONE), SEEN, "rate_limit_exceeded", 1),
    ("an error event with a number", sends(*FIVE, CREDIT), SEEN, "provider_auth", 1),
    ("a finish, [DONE] missing", sends(*FIVE, STOP), SEEN + STOP, None, 1),
    ("a finish and usage, [DONE] missing", sends(*FIVE, STOP, USAGE), SEEN + STOP, None, 1),
    ("data after [DONE]", sends(*FIVE, STOP, DONE, chunk({"content": "LATE"})), SEEN + STOP, None, 1),
    ("garbage after [DONE]", sends(*FIVE, STOP, DONE, GARBAGE), SEEN + STOP, None, 1),
    ("closed after [DONE]", sends(*FIVE, STOP, DONE, then="fin"), SEEN + STOP, None, 1),
    ("reset after [DONE]", sends(*FIVE, STOP, DONE, then="rst"), SEEN + STOP, None, 1),
    ("a stall", sends(*FIVE, then="hang"), SEEN, "upstream_stalled", 1),
    ("a stall after [DONE]", sends(*FIVE, STOP, DONE, then="hang"), SEEN + STOP, None, 1),
    ("broken framing", sends(*FIVE, b"zz", then="fin", head=STREAM_HEAD + framed(*FIVE, end=False)), SEEN, BAD, 1),
    ("no framing, whole", sends(*FIVE, STOP, DONE, then="fin", head=NO_LENGTH), SEEN + STOP, None, 1),
    ("no framing, cut", sends(*FIVE, then="fin", head=NO_LENGTH), SEEN, CUT, 1),
    ("a length, whole", sends(SEEN, STOP, DONE, head=LENGTH % len(SEEN + STOP + DONE)), SEEN + STOP, None, 1),
    ("a length, cut", sends(SEEN, then="fin", head=LENGTH % 5000), SEEN, CUT, 1),
    ("early hints", sends(head=HINTS + STREAM_HEAD + framed(*STREAM)), HEL + LO, None, 1),
    # before the first real output another try is free: two tries, then an honest status
    ("nothing at all", sends(), b"", "502 " + BAD, 2),
    ("comments only", sends(b": ping\n\n"), b"", "502 " + BAD, 2),
    ("a role, then the end", sends(ROLE), b"", "502 " + CUT, 2),
    ("a role, then reset", sends(ROLE, then="rst"), b"", "502 " + CUT, 2),
    ("garbage first", sends(GARBAGE, HEL, STOP, DONE), b"", "502 " + BAD, 2),
    ("an error event first", sends(LIMITED), b"", "429 rate_limit_exceeded", 1),
    ("a page", answering(PAGE), b"", "502 " + BAD, 2),
    ("a whole answer", answering(json_answer(whole())), b"", "502 " + BAD, 2),
    ("an empty 200", answering(json_answer(b"")), b"", "502 " + BAD, 2),
    ("an error in a 200", answering(json_answer(b'{"error":{"message":"x","code":429}}')), b"", "429 429", 1),
    ("closed at once", sends(head=b" ", then="fin"), b"", "502 " + BAD, 2),
    ("reset at once", sends(head=b"H", then="rst"), b"", "502 upstream_unreachable", 2),
]


def check_stream(name: str, answer: Answered, seen: bytes, code: str | None) -> None:
    if code and code[:3].isdigit() and " " in code:
        assert f"{answer.status} {answer.error['code']}" == code
        assert name != "a page" or "<html>" in answer.error["message"]
        return
    assert (answer.status, answer.is_whole) == (200, True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-lilliput-route"] == "p/m; tries=1; why=named"
    if code is None:
        assert answer.body.endswith(seen + DONE if name != "early hints" else STOP + DONE)
        assert answer.body.count(b"[DONE]") == 1
    else:
        assert answer.body.startswith(seen + b'data: {"error":{')
        assert answer.body.endswith(b"}}\n\n")
        assert len(answer.events) == len(FIVE) + (name.startswith("closed after the finish")) + 1
        error = json.loads(answer.events[-1])["error"]
        assert error["code"] == code
        assert set(error) == {"message", "type", "param", "code"}
        assert "[DONE]" not in answer.body.decode()


@pytest.mark.parametrize(("name", "script", "seen", "code", "tries"), STREAMS, ids=[row[0] for row in STREAMS])
def test_streams(name: str, script: Script, seen: bytes, code: str | None, tries: int) -> None:
    async def main() -> None:
        async with rig(script, patience=Patience(stall_s=0.5)) as r:
            answer = await r.chat(stream=True)
            check_stream(name, answer, seen, code)
            assert len(r.provider.bodies) == tries
            assert answer.headers["x-request-id"]

    run(main())


def test_streams_under_asgi() -> None:
    async def main() -> None:
        async with rig(by_wish, patience=Patience(stall_s=0.5)) as r, mounted(r) as m:
            for name, script, seen, code, tries in STREAMS:
                r.provider.script, before = script, len(r.provider.bodies)
                check_stream(name, await m.chat(stream=True), seen, code)
                assert len(r.provider.bodies) == before + tries, name

    run(main())


def page(status: int) -> bytes:
    html = b"<html><head><title>login</title></head></html>"
    head = f"HTTP/1.1 {status} X\r\ncontent-type: text/html\r\ncontent-length: {len(html)}\r\n\r\n"
    return head.encode() + html


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


def wait(headers: str) -> bytes:
    return json_answer(error("slow down"), 429, f"{headers}\r\n")


LONG = "context_length_exceeded"
SLOW = "rate_limit_exceeded"
CHUNKED = STREAM_HEAD.replace(b"text/event-stream", b"application/json")
PATIENT = Patience(answer_bytes=100_000, first_byte_s=5)
ZIPPED = gzip.compress(whole())
DETAIL = error("boom in host 10.1.2.3 with sk-abcdef0123456789", type="server_error")
# name, what the provider answers, our status and code, headers that must be there, tries
WHOLES: list[tuple[str, bytes, int, str | None, dict[str, str], int]] = [
    ("good", json_answer(whole()), 200, None, {"content-type": "application/json"}, 1),
    ("early hints first", HINTS + json_answer(whole()), 200, None, {}, 1),
    ("100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + json_answer(whole()), 200, None, {}, 1),
    ("chunked", CHUNKED + framed(whole()[:9], whole()[9:]), 200, None, {}, 1),
    ("429 with Retry-After", wait("retry-after: 7"), 429, SLOW, {"retry-after": "7"}, 1),
    ("429 with a fraction", wait("retry-after: 6.2"), 429, SLOW, {"retry-after": "7"}, 1),
    ("429 in milliseconds", wait("retry-after-ms: 1500\r\nretry-after: 9"), 429, SLOW, {"retry-after": "2"}, 1),
    ("429 with nonsense", wait("retry-after: soon"), 429, SLOW, {}, 1),
    ("429 with much nonsense", wait("retry-after: 1e999"), 429, SLOW, {}, 1),
    ("429 with a date", wait("retry-after: Fri, 31 Dec 1999 23:59:59 GMT"), 429, SLOW, {}, 1),
    ("429 without", wait("x-a: b"), 429, SLOW, {}, 1),
    ("a quota", json_answer(error("out", code="insufficient_quota"), 429), 429, "insufficient_quota", {}, 1),
    ("401: our key", json_answer(error("bad key", code="invalid_api_key"), 401), 502, "provider_auth", {}, 1),
    ("403: our key", json_answer(error("forbidden"), 403), 502, "provider_auth", {}, 1),
    ("400", json_answer(error("bad", code="invalid_value", param="n"), 400), 400, "invalid_value", {}, 1),
    (
        "400 too long",
        json_answer(error("too long", code="context_length_exceeded"), 400),
        400,
        "context_length_exceeded",
        {},
        1,
    ),
    ("404", json_answer(error("no model", code="model_not_found"), 404), 404, "model_not_found", {}, 1),
    ("422", json_answer(b'{"detail":"bad"}', 422), 422, None, {}, 1),
    ("500", json_answer(DETAIL, 500), 502, "upstream_error", {}, 2),
    ("502", json_answer(DETAIL, 502), 502, "upstream_error", {}, 2),
    (
        "503 with Retry-After",
        json_answer(DETAIL, 503, "retry-after: 3\r\n"),
        503,
        "upstream_error",
        {"retry-after": "3"},
        2,
    ),
    ("503 page", page(503), 503, "upstream_error", {}, 2),
    ("504", json_answer(DETAIL, 504), 504, "upstream_timeout", {}, 1),
    ("529 overloaded", json_answer(error("overloaded", type="overloaded_error"), 529), 503, None, {}, 2),
    ("a status of its own", json_answer(error("?"), 599), 502, "upstream_error", {}, 2),
    ("500 without a body", json_answer(b"", 500), 502, "upstream_error", {}, 2),
    ("200 page", page(200), 502, BAD, {}, 2),
    ("200 empty", json_answer(b""), 502, BAD, {}, 2),
    ("200 broken", json_answer(whole()[:-9]), 502, BAD, {}, 2),
    ("200 with an error", json_answer(error("no credit", code=402)), 502, "provider_auth", {}, 1),
    ("200 with a rate limit", json_answer(error("slow", code="rate_limit_exceeded")), 429, SLOW, {}, 1),
    ("200 array", json_answer(b"[]"), 502, BAD, {}, 2),
    ("200 null", json_answer(b"null"), 502, BAD, {}, 2),
    ("200 gzip", json_answer(ZIPPED, 200, "content-encoding: gzip\r\n"), 502, BAD, {}, 2),
    ("200 stream", STREAM_HEAD + framed(*STREAM), 502, BAD, {}, 2),
    ("201", json_answer(whole(), 201), 502, BAD, {}, 2),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", 502, BAD, {}, 2),
    ("302", json_answer(b"", 302, "location: http://127.0.0.1:1/\r\n"), 502, BAD, {}, 2),
    ("304", b"HTTP/1.1 304 Not Modified\r\n\r\n", 502, BAD, {}, 2),
    ("not HTTP", b"SSH-2.0-OpenSSH_9.6\r\n", 502, BAD, {}, 2),
    ("an upgrade", b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nzz", 502, BAD, {}, 2),
    ("endless headers", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000, 502, BAD, {}, 2),
    ("one endless header", b"HTTP/1.1 200 OK\r\na: " + b"b" * 300_000, 502, BAD, {}, 2),
    ("endless hints", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000, 502, BAD, {}, 2),
    ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", 502, BAD, {}, 2),
    (
        "a length and chunks",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        502,
        BAD,
        {},
        2,
    ),
    ("too large", json_answer(whole("x" * 200_000)), 502, BAD, {}, 2),
]


@pytest.mark.parametrize(("name", "data", "status", "code", "headers", "tries"), WHOLES, ids=[row[0] for row in WHOLES])
def test_wholes(name: str, data: bytes, status: int, code: str | None, headers: dict[str, str], tries: int) -> None:
    async def main() -> None:
        async with rig(answering(data), patience=PATIENT) as r:
            answer = await r.chat()
            check_whole(answer, status, code, headers)
            assert f"tries={tries};" in answer.headers["x-lilliput-route"]
            assert len(r.provider.bodies) == tries

    run(main())


def test_wholes_under_asgi() -> None:
    async def main() -> None:
        async with rig(by_wish, patience=PATIENT) as r, mounted(r) as m:
            for name, data, status, code, headers, tries in WHOLES:
                r.provider.script, before = answering(data), len(r.provider.bodies)
                check_whole(await m.chat(), status, code, headers)
                assert len(r.provider.bodies) == before + tries, name

    run(main())


def check_whole(answer: Answered, status: int, code: str | None, headers: dict[str, str]) -> None:
    assert answer.status == status
    assert headers.items() <= answer.headers.items()
    if status == 200:
        assert answer.body == whole()
        return
    assert answer.error["message"]
    assert code is None or answer.error["code"] == code
    for secret in ("sk-abcdef", "lil_test", "sk-up"):
        assert secret not in answer.body.decode()


async def close(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def close_reset(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    reset(writer)
    writer.close()


@pytest.mark.parametrize("script", [close, close_reset])
@pytest.mark.parametrize("stream", [False, True])
def test_closed_without_a_word(script: Script, stream: bool) -> None:
    async def main() -> None:
        async with rig(script) as r:
            answer = await r.chat(stream=stream)
            assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
            assert len(r.provider.bodies) == 2

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_there(stream: bool) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        async with rig(base=f"http://127.0.0.1:{port}/v1") as r:
            answer = await r.chat(stream=stream)
            assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
            assert answer.headers["x-lilliput-route"] == "p/m; tries=2; why=named"

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_second_try_that_works_is_all_the_caller_sees(stream: bool) -> None:
    async def once_bad(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        provider.script = by_wish
        writer.write(json_answer(DETAIL, 500))

    async def main() -> None:
        async with rig(once_bad) as r:
            answer = await r.chat(stream=stream)
            assert answer.status == 200
            assert answer.headers["x-lilliput-route"] == "p/m; tries=2; why=named"
            assert b"boom" not in answer.body
            assert r.counted("lilliput_requests_total") == r.counted("lilliput_requests_total", outcome="ok") == 1
            assert r.counted("lilliput_tokens_total", kind="input") == 3
            assert (
                r.counted("lilliput_upstream_calls_total", outcome="provider")
                == r.counted("lilliput_retries_total")
                == 1
            )

    run(main())


@pytest.mark.parametrize("how", ["fin", "rst", "chatter"])
def test_a_kept_connection_that_died_is_replaced(how: str) -> None:
    async def once_then_dead(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        await by_wish(provider, body, reader, writer)
        if provider.connections == 1:
            await writer.drain()
            await asyncio.sleep(0.02)
            if how == "rst":
                reset(writer)
            if how == "chatter":
                writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")  # and stays open
            else:
                writer.close()

    async def silently(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        """Dies only when the second request comes: the gateway cannot know before."""
        if len(provider.bodies) == 2:
            if how == "rst":
                reset(writer)
            writer.close()
        else:
            await by_wish(provider, body, reader, writer)

    async def main() -> None:
        for script in (once_then_dead, silently):
            async with rig(script) as r:
                reader, writer = await r.connect()
                for _ in range(3):
                    writer.write(ask())
                    answer = await read_one(reader)
                    assert answer.status == 200
                    assert answer.headers["x-lilliput-route"] == "p/m; tries=1; why=named"
                    await asyncio.sleep(0.05 if script is once_then_dead else 0)
                assert r.provider.connections == 2
                writer.close()

    run(main())


def test_a_second_answer_is_never_taken_for_ours() -> None:
    """An upstream that sends two answers to one request must not have the second given to the next caller."""
    first, second = json_answer(whole("mine")), json_answer(whole("not yours"))

    async def main() -> None:
        for said in (second, second[:40], second[:1]):
            async with rig(answering(first + said)) as r:
                for _ in range(3):
                    answer = await r.chat()
                    assert answer.status == 200
                    assert b"mine" in answer.body
                assert r.provider.connections == 3, "a connection that said too much is not used again"

    run(main())


async def reuse(r: Rig) -> None:
    for i in range(6):
        assert (await r.chat(stream=bool(i % 2))).status == 200


def test_connections_are_used_again() -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            await reuse(r)
            assert r.provider.connections == 1
            await reuse(m)
            assert r.provider.connections == 1

    run(main())


def test_a_provider_that_closes_after_each_answer() -> None:
    async def main() -> None:
        async with rig(answering(json_answer(whole(), 200, "connection: close\r\n"))) as r:
            for _ in range(3):
                assert (await r.chat()).status == 200
            assert r.provider.connections == 3
            assert r.upstreams == 0

    run(main())


RECORDED = b"".join([ROLE, *(chunk({"content": f"word {i} "}) for i in range(9)), STOP, USAGE, DONE])


def test_cut_at_every_byte_it_is_never_a_clean_end_unless_whole() -> None:
    """The provider closes after each possible number of bytes of a 2 KiB stream, within the framing and without."""
    good = RECORDED.replace(USAGE, b"")
    proof = RECORDED.index(STOP) + len(STOP)
    state: dict[str, Any] = {"at": 0, "end": True}

    async def cutting(provider: Provider, body: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + framed(RECORDED[: state["at"]], end=state["end"]))
        if not state["end"]:
            await writer.drain()
            writer.close()

    async def main() -> None:
        async with rig(cutting) as r:
            reader, writer = await r.connect()
            for state["end"] in (True, False):
                for state["at"] in range(len(RECORDED)):
                    writer.write(ask(stream=True))
                    answer = await read_one(reader)
                    at = state["at"]
                    if answer.status == 200 and answer.body.endswith(DONE):
                        assert at >= proof - 2, at
                        assert answer.body == good
                    elif answer.status == 200:
                        shown, _, last = answer.body[:-2].rpartition(b"data: ")
                        assert json.loads(last)["error"]["code"] in (CUT, BAD), at
                        assert good.startswith(shown), at
                    else:
                        assert answer.status == 502, at
                        assert answer.error["code"] in (CUT, BAD, "upstream_unreachable")
            writer.close()

    run(main())
