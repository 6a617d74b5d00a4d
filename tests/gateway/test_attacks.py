"""Raw bytes that no honest client sends: each is refused once, in OpenAI's form, or cut; none goes through."""

from __future__ import annotations

import asyncio
import json

from tests.gateway.rig import ASK, AUTH, CHAT, Answered, Rig, parse, request, rig, run

from lilliput.gateway.server import Limits

KEY = f"Authorization: {AUTH['Authorization']}\r\n".encode()
BODY = json.dumps(ASK).encode()
SMUGGLED = request("POST", CHAT, ASK)
JSON = b"Content-Type: application/json\r\n"
SIZE = b"Content-Length: %d\r\n" % len(BODY)


def post(lines: bytes, body: bytes = BODY, host: bytes = b"Host: t\r\n", version: bytes = b"HTTP/1.1") -> bytes:
    """A chat request with these header lines besides the usual."""
    return b"POST %b %b\r\n" % (CHAT.encode(), version) + host + KEY + JSON + lines + b"\r\n" + body


def get(target: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"GET", lines: bytes = b"Host: t\r\n") -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + lines + KEY + b"\r\n"


def chunks(raw: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", raw)


UPGRADE = b"Host: t\r\nConnection: Upgrade\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
SMUGGLE = b"0\r\n\r\n" + SMUGGLED
# name, what is sent, the most answers that it may get: one for each request that it can be read as
TABLE: list[tuple[str, bytes, int]] = [
    # two readings of where a body ends
    ("length and chunked", post(SIZE + b"Transfer-Encoding: chunked\r\n", SMUGGLE), 1),
    ("chunked and length", post(b"Transfer-Encoding: chunked\r\n" + SIZE, SMUGGLE), 1),
    ("length 0 and chunked", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", CHUNK + SMUGGLE), 1),
    ("chunked, twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", SMUGGLE), 1),
    ("chunked, then identity", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", SMUGGLE), 1),
    ("chunked, identity", post(b"Transfer-Encoding: chunked, identity\r\n", SMUGGLE), 1),
    ("xchunked", post(b"Transfer-Encoding: xchunked\r\n", SMUGGLE), 1),
    ("chunked with a blank before the colon", post(b"Transfer-Encoding : chunked\r\n", SMUGGLE), 1),
    ("chunked after a vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", SMUGGLE), 1),
    ("chunked before NUL", post(b"Transfer-Encoding: chunked\x00\r\n", SMUGGLE), 1),
    ("chunked, quoted", post(b'Transfer-Encoding: "chunked"\r\n', SMUGGLE), 1),
    ("chunked on a folded line", post(b"Transfer-Encoding:\r\n chunked\r\n", SMUGGLE), 1),
    ("chunked in HTTP/1.0", post(b"Transfer-Encoding: chunked\r\n", SMUGGLE, version=b"HTTP/1.0"), 1),
    ("chunked in HTTP/1.0, whole", post(b"Transfer-Encoding: chunked\r\n", CHUNK + SMUGGLE, version=b"HTTP/1.0"), 1),
    ("gzip alone", post(b"Transfer-Encoding: gzip\r\n", SMUGGLE), 1),
    ("two equal lengths", post(SIZE + SIZE), 1),
    ("two lengths", post(SIZE + b"Content-Length: 0\r\n", BODY + SMUGGLED), 1),
    ("a list of lengths", post(b"Content-Length: 5, 5\r\n"), 1),
    ("length +5", post(b"Content-Length: +5\r\n"), 1),
    ("length -5", post(b"Content-Length: -5\r\n"), 1),
    ("length 0x5", post(b"Content-Length: 0x5\r\n"), 1),
    ("length 5 5", post(b"Content-Length: 5 5\r\n"), 1),
    ("length 1e3", post(b"Content-Length: 1e3\r\n"), 1),
    ("length 5,", post(b"Content-Length: 5,\r\n"), 1),
    ("no length", post(b"Content-Length: \r\n"), 1),
    ("length and NUL", post(b"Content-Length: 5\x00\r\n"), 1),
    ("length past 64 bits", post(b"Content-Length: 99999999999999999999999\r\n"), 1),
    ("length in another script", post("Content-Length: \u0665\r\n".encode()), 1),
    ("a request in what follows the body", post(b"Content-Length: 5\r\n", BODY), 2),
    # chunk sizes
    ("chunk of -1", chunks(b"-1\r\nx\r\n0\r\n\r\n"), 1),
    ("chunk of +5", chunks(b"+5\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk of 0x5", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk of 5g", chunks(b"5g\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk of nothing", chunks(b"\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk after a blank", chunks(b" 5\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk before a blank", chunks(b"5 \r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk past 64 bits", chunks(b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk longer than it says", chunks(b"3\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk with a bare LF", chunks(b"5\nhello\n0\n\n"), 1),
    ("chunk with an extension of LF", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunk with an extension of CR", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 1),
    ("chunks that never end", chunks(CHUNK), 1),
    ("a bad trailer", chunks(CHUNK + b"0\r\nX A: b\r\n\r\n"), 1),
    # header lines
    ("folded", post(SIZE + b"X-A: a\r\n b\r\n"), 1),
    ("folded at the top", post(SIZE, host=b" Host: t\r\n"), 1),
    ("bare LF throughout", post(SIZE).replace(b"\r\n", b"\n"), 1),
    ("bare LF after one", post(SIZE + b"X-A: b\nX-B: c\r\n"), 1),
    ("bare CR in a value", post(SIZE + b"X-A: b\rX-B: c\r\n"), 1),
    ("bare CR after one", post(SIZE + b"X-A: b\r\r\n"), 1),
    ("CR in a name", post(SIZE + b"X\rA: b\r\n"), 1),
    ("NUL in a value", post(SIZE + b"X-A: a\x00b\r\n"), 1),
    ("NUL in a name", post(SIZE + b"X\x00A: b\r\n"), 1),
    ("a control byte in a value", post(SIZE + b"X-A: a\x01b\r\n"), 1),
    ("DEL in a value", post(SIZE + b"X-A: a\x7fb\r\n"), 1),
    ("no colon", post(SIZE + b"X-A\r\n"), 1),
    ("no name", post(SIZE + b": b\r\n"), 1),
    ("a blank in a name", post(SIZE + b"X A: b\r\n"), 1),
    ("a blank before the colon", post(SIZE + b"X-A : b\r\n"), 1),
    ("brackets in a name", post(SIZE + b"X[A]: b\r\n"), 1),
    ("a high byte in a name", post(SIZE + b"X\x80A: b\r\n"), 1),
    ("a huge name", post(SIZE + b"X" * 60_000 + b": b\r\n"), 1),
    ("two keys", post(SIZE + b"Authorization: Bearer other\r\n"), 1),
    ("two content types", post(SIZE + b"Content-Type: text/plain\r\n"), 1),
    # hosts
    ("no host", post(SIZE, host=b""), 1),
    ("two hosts", post(SIZE, host=b"Host: t\r\nHost: t\r\n"), 1),
    ("two hosts apart", post(SIZE + b"Host: u\r\n"), 1),
    ("host a/x?", post(SIZE, host=b"Host: a/x?\r\n"), 1),
    ("host a#", post(SIZE, host=b"Host: a#\r\n"), 1),
    ("host @", post(SIZE, host=b"Host: user@a\r\n"), 1),
    ("host with a backslash", post(SIZE, host=b"Host: a\\b\r\n"), 1),
    ("host with a blank", post(SIZE, host=b"Host: a b\r\n"), 1),
    # request lines
    ("CONNECT", get(b"t:80", method=b"CONNECT"), 1),
    ("CONNECT to a path", get(CHAT.encode(), method=b"CONNECT"), 1),
    ("TRACE", get(b"/healthz", method=b"TRACE"), 1),
    ("PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", 1),
    ("a method in small letters", get(b"/healthz", method=b"get"), 1),
    ("a method of nobody", get(b"/healthz", method=b"BREW"), 1),
    ("a method without end", b"G" * 200_000, 1),
    ("a method with NUL", get(b"/healthz", method=b"GE\x00T"), 1),
    ("HTTP/2.0", get(b"/healthz", b"HTTP/2.0"), 1),
    ("HTTP/3.0", get(b"/healthz", b"HTTP/3.0"), 1),
    ("HTTP/1.9", get(b"/healthz", b"HTTP/1.9"), 1),
    ("HTTP/0.9", get(b"/healthz", b"HTTP/0.9"), 1),
    ("HTTP/11", get(b"/healthz", b"HTTP/11"), 1),
    ("HTTP/1.1x", get(b"/healthz", b"HTTP/1.1x"), 1),
    ("http/1.1", get(b"/healthz", b"http/1.1"), 1),
    ("no version", b"GET /healthz\r\n\r\n", 1),
    ("tabs", b"GET\t/healthz\tHTTP/1.1\r\nHost: t\r\n\r\n", 1),
    ("a blank in the target", get(b"/health z"), 1),
    ("NUL in the target", get(b"/healthz\x00"), 1),
    ("a control byte in the target", get(b"/healthz\x07"), 1),
    ("a high byte in the target", get(b"/healthz\xff"), 1),
    ("asterisk", get(b"*"), 1),
    ("OPTIONS *", get(b"*", method=b"OPTIONS"), 1),
    ("an authority", get(b"t:80"), 1),
    ("another scheme", get(b"ftp://t/healthz"), 1),
    ("a file", get(b"file:///etc/passwd"), 1),
    ("no leading slash", get(b"healthz"), 1),
    ("climbing out", get(b"/../../etc/passwd"), 1),
    ("climbing out, escaped", get(b"/v1/..%2f..%2fhealthz%00"), 1),
    ("two slashes", get(b"//healthz"), 1),
    ("a path that is no UTF-8", get(b"/%ff%fe"), 1),
    # other protocols
    ("a web socket", get(b"/healthz", lines=UPGRADE + b"Upgrade: websocket\r\n") + b"\x81\x05hello", 1),
    ("an upgrade to nothing", get(b"/healthz", lines=UPGRADE + b"Upgrade: x\r\n"), 1),
    ("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(range(200)), 1),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", 1),
    ("Redis", b"*1\r\n$4\r\nPING\r\n", 1),
    ("SMTP", b"EHLO t\r\n", 1),
    ("NUL bytes", b"\x00" * 1000, 1),
    ("noise", bytes(range(256)) * 10, 1),
]


def answers(data: bytes) -> list[Answered]:
    """All the answers in what came back."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append(parse(data[: len(head) + 4 + size]))
        data = rest[size:]
    return found


async def attack(r: Rig, name: str, data: bytes, most: int) -> str | None:
    """What went wrong, None when the attack was answered as it should be."""
    try:
        found = answers(await r.raw(data))
        assert len(found) <= most, f"{len(found)} answers"
        for answer in found:
            assert 400 <= answer.status < 500, answer.status
            assert set(answer.error) == {"message", "type", "param", "code"}
            assert answer.headers["x-request-id"]
            assert "x-lilliput-route" in answer.headers
            assert answer.error["message"].isprintable()
    except (AssertionError, KeyError, ValueError, IndexError, ConnectionError, TimeoutError) as e:
        return f"{name}: {type(e).__name__} {e}"
    return None


def test_the_table_is_long_enough() -> None:
    assert len({name for name, _, _ in TABLE}) == len(TABLE) >= 60


def test_attacks() -> None:
    async def main() -> None:
        limits = Limits(header_timeout_s=0.5, body_grace_s=0.5, idle_timeout_s=0.5)
        async with rig(limits=limits) as r:
            wrong = await asyncio.gather(*(attack(r, *row) for row in TABLE))
            assert [w for w in wrong if w] == []
            assert r.provider.bodies == [], "something went through"
            assert (await r.chat()).status == 200
            assert (await r.chat(stream=True)).status == 200

    run(main())


def test_attacks_by_bytes() -> None:
    """The same, each cut into single bytes: what is refused does not hang on how it arrives."""

    async def one(r: Rig, name: str, data: bytes, most: int) -> str | None:
        reader, writer = await r.connect()
        try:
            for i in range(len(data)):
                writer.write(data[i : i + 1])
                await asyncio.sleep(0)
                if reader.at_eof() or writer.is_closing():
                    break
            found = answers(await asyncio.wait_for(reader.read(), 20))
        except ConnectionError:
            found = []
        finally:
            writer.close()
        wrong = [a.status for a in found if not 400 <= a.status < 500]
        return f"{name}: {wrong} {len(found)}" if wrong or len(found) > most else None

    async def main() -> None:
        limits = Limits(header_timeout_s=0.5, body_grace_s=0.5, idle_timeout_s=0.5)
        async with rig(limits=limits) as r:
            wrong = await asyncio.gather(*(one(r, *row) for row in TABLE if len(row[1]) < 5000))
            assert [w for w in wrong if w] == []
            assert r.provider.bodies == []
            assert (await r.chat()).status == 200

    run(main())
