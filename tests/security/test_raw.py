"""Request smuggling and other abuse of HTTP/1.1's framing, beyond `tests/gateway/test_attacks.py`.

The classes are those of the public corpora: CL.TE, TE.CL and TE.TE obfuscations, CL.0, pipelining after an error,
HTTP/2 in disguise (RFC 9112 11.2; portswigger.net/research, checked 2026-11-23).
"""

from __future__ import annotations

import asyncio

from tests.gateway.rig import rig, run
from tests.gateway.test_attacks import CHUNK, SIZE, SMUGGLE, SMUGGLED, TABLE, UPGRADE, attack, chunks, get, post

from lilliput.gateway.server import Limits

CHUNKED = b"Transfer-Encoding: chunked\r\n"
GOOD = post(SIZE)
TE = [
    b"Transfer-Encoding: chunked \r\n", b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding:chunked\r\n",
    b"transfer-encoding: CHUNKED\r\n", b"TRANSFER-ENCODING: Chunked\r\n",
]  # fmt: skip
"""Spellings that RFC 9112 allows: beside a length each of them is refused."""
TE_BAD = [
    b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: cow, chunked\r\n",
    b"Transfer-Encoding: chunke\r\n",
    b"Transfer-Encoding: chunked;q=1\r\n", b"Transfer-Encoding: ,chunked,\r\n", b"Transfer-Encoding: \xffchunked\r\n",
    b"Transfer-Encoding: chunked\x0b\r\n", b"Transfer-Encoding\x00: chunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n", b"Transfer-Encoding: x\r\n chunked\r\n", b"X: x\nTransfer-Encoding: x\r\n",
    b"X: x\rTransfer-Encoding: chunked\r\n", b"\x0bTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: 'chunked'\r\n",
    b"Transfer-Encoding: identity, chunked, identity\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    b"Transfer-Encoding: \r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: deflate\r\n",
]  # fmt: skip
SIZES_BAD = [
    b"-0", b"00x", b"5;5", b"5,6", b"0x0", b"1_0", b"\t5 5", b"5\x0b", b"\xb2", b"18446744073709551616", b"9" * 400,
    b"5.0", b"NaN", b"'5'", b"0b1", b"1e0", b"\xef\xbc\x95",
]  # fmt: skip
CHUNKS_BAD = [
    b"8000000000000000\r\n", b"ffffffffffffffff\r\nx", b"-0\r\n\r\n", b"0x0\r\n\r\n", b"\x005\r\nhello\r\n", b"G\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5\n\rhello\r\n",
    b"5\r\nhello\n0\n",
    b"0\n\n", b"0\r\rX", b"1 0\r\n" + b"x" * 16, b"5;\x00\r\nhello\r\n0\r\n\r\n", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX\x00: y\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\n\r\n", b"0" * 200_000 + b"\r\n\r\n",
    b"5;" + b"x" * 200_000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
]  # fmt: skip
H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000012040000000000000300000064000400a00000000200000000")
BAD = get(b"/healthz", b"HTTP/9.9")
# name, what is sent, the most answers that it may get: one for each request that it can be read as
ROWS: list[tuple[str, bytes, int]] = [
    *((f"CL.TE {te!r}", post(SIZE + te, SMUGGLE), 1) for te in (*TE, *TE_BAD)),
    *((f"TE.CL {te!r}", post(te + b"Content-Length: 4\r\n", b"5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"), 1) for te in TE),
    *((f"TE.TE {te!r}", post(te + CHUNKED, SMUGGLE), 1) for te in TE_BAD if te[:2] not in (b"X:",)),
    *((f"TE alone {te!r}", post(te, SMUGGLE), 1) for te in TE_BAD),
    *((f"length {size[:30]!r}", post(b"Content-Length: " + size + b"\r\n", SMUGGLED), 1) for size in SIZES_BAD),
    *((f"chunk {raw[:30]!r}", chunks(raw), 1) for raw in CHUNKS_BAD),
    ("CL.0", get(b"/nowhere", lines=b"Host: t\r\nContent-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, 1),
    ("pipelined after a bad version", BAD + GOOD, 1),
    ("pipelined after a bad header", post(SIZE + b"X A: b\r\n") + GOOD, 1),
    ("pipelined after a bad length", post(b"Content-Length: x\r\n") + GOOD, 1),
    ("pipelined after a bad chunk", chunks(b"zz\r\n") + GOOD, 1),
    ("pipelined after a refused key", post(SIZE).replace(b"lil_test", b"lil_tess") + GOOD, 1),
    ("pipelined after too long a body", post(b"Content-Length: 99999999\r\n", b"") + GOOD, 1),
    ("pipelined after an unknown path", GOOD.replace(b"/v1/chat", b"/v1/chaz") + GOOD, 1),
    ("HTTP/2 preface", H2, 1),
    ("HTTP/2 preface after a bad request", BAD + H2, 1),
    ("h2c with settings twice", get(b"/v1/x", lines=UPGRADE.replace(b"Upgrade", b"Upgrade, HTTP2-Settings")
                                    + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nHTTP2-Settings: x\r\n"), 1),
    ("absolute form of another scheme", get(b"gopher://t/healthz"), 1),
    ("absolute form with no host", get(b"http:///v1/nowhere"), 1),
    ("absolute form with a user", get(b"http://u:p@t/nowhere"), 1),
    ("a fragment alone", get(b"#"), 1),
    ("a query alone", get(b"?x"), 1),
    ("a backslash", get(b"\\healthz"), 1),
    ("a target that never ends", b"GET /" + b"a" * 300_000, 1),
    ("a head of one long value", get(b"/healthz", lines=b"Host: t\r\nX: " + b"a" * 300_000 + b"\r\n"), 1),
    ("ten thousand headers", get(b"/healthz", lines=b"Host: t\r\n" + b"X: y\r\n" * 10_000), 1),
    ("two hosts in other letters", get(b"/nowhere", lines=b"Host: t\r\nhOST: u\r\n"), 1),
    ("a host of NUL", get(b"/nowhere", lines=b"Host: \x00\r\n"), 1),
    ("a folded host", get(b"/nowhere", lines=b"Host:\r\n t\r\n"), 1),
    ("keys in two headers on two lines", post(SIZE + b"authorization: Bearer x\r\n"), 1),
    ("a key folded", GOOD.replace(b"Bearer ", b"Bearer\r\n "), 1),
    ("a key with NUL", GOOD.replace(b"lil_test", b"lil_test\x00"), 1),
    ("LF in front of a good request, NUL after", b"\n\n" + GOOD.replace(b"Host: t", b"Host: t\x00"), 1),
    ("an expectation that nothing fits", post(b"Content-Length: 99999999\r\nExpect: 100-continue\r\n", b""), 1),
]  # fmt: skip
SOUND: list[tuple[str, bytes, int]] = [
    ("chunked in other letters", post(TE[3], CHUNK + b"0\r\n\r\n"), 1),
    ("chunked without a blank", post(TE[2], CHUNK + b"0\r\n\r\n"), 1),
    ("chunk extensions", chunks(CHUNK.replace(b"\r\n", b";a=b;c\r\n", 1) + b"0;x\r\n\r\n"), 1),
    ("a trailer", chunks(CHUNK + b"0\r\nX: y\r\n\r\n"), 1),
    ("a trailer that would be a key", chunks(CHUNK + b"0\r\nAuthorization: Bearer x\r\n\r\n"), 1),
    ("empty lines in front", b"\r\n\r\n" + GOOD, 1),
    ("absolute form", GOOD.replace(b"POST /", b"POST http://t/"), 1),
    ("two, pipelined", GOOD + GOOD, 2),
]
"""What RFC 9112 allows, and is answered: a refusal of everything would pass the other table."""


def test_no_row_stands_twice() -> None:
    assert len({name for name, _, _ in (*TABLE, *ROWS)}) == len(TABLE) + len(ROWS) >= 200


def test_smuggling() -> None:
    async def main() -> None:
        limits = Limits(header_timeout_s=0.5, body_grace_s=0.5, idle_timeout_s=0.5)
        async with rig(limits=limits) as r:
            wrong = await asyncio.gather(*(attack(r, *row) for row in ROWS))
            assert [w for w in wrong if w] == []
            assert r.provider.bodies == [], "something went through"
            assert (await r.chat()).status == 200

    run(main())


def test_what_the_rules_allow_is_answered() -> None:
    async def main() -> None:
        async with rig(limits=Limits(idle_timeout_s=0.5)) as r:
            came = await asyncio.gather(*(r.raw(data) for _, data, _ in SOUND))
            for (name, _, count), answer in zip(SOUND, came, strict=True):
                assert answer.count(b"HTTP/1.1 200") == count, f"{name}: {answer[:300]!r}"
            assert len(r.provider.bodies) == sum(count for _, _, count in SOUND)

    run(main())
