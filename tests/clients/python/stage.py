# mypy: ignore-errors
"""What the tests of all clients share: the world they are told of, what they ask, and what is answered."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import urllib.request
import zlib
from typing import Any

WORLD: dict[str, Any] = json.loads(os.environ["LILLIPUT_WORLD"])
BASE, KEY = WORLD["base"], WORLD["key"]
V1 = f"{BASE}/v1"
MINI = "lilliput/smollm2-135m"
PLAYED = ("chat", "claude", "gemini", "responder")
"""Providers that the tests play, by the dialect they speak; each has a model `m` and the faulty ones."""
RECORDED = tuple(sorted({row.rpartition("-")[0] for row in WORLD["said"]}))

HELLO, ECHO = "one two three", "You said: one two three"
PROMPT, CACHED, OUTPUT = 6, 3, 5
"""Tokens of HELLO and ECHO as the played providers count them; the prompt's hold the cached ones."""
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
ASK_WEATHER = "Call weather for 'Oslo' and 3 days."
CALLED = {"city": "Oslo", "days": 3}
ASK_BOTH = "Call weather for 'Oslo' and 3 days, and lookup for it too."


def _png() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\xff\x00\x00" * 2 for _ in range(2)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PNG = _png()
SEEN = f"I see image image/png {hashlib.sha256(PNG).hexdigest()[:12]}"


def actor(path: str) -> Any:
    with urllib.request.urlopen(WORLD["actor"] + path, timeout=10) as answer:
        return json.load(answer)


def wait_until_left(before: int) -> None:
    """Waits until a played provider has noticed that a caller went away."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if actor("/left") > before:
            return
        time.sleep(0.05)
    raise AssertionError("the provider still streams to a caller that has gone")


def calls_said(row: str) -> list[list[Any]]:
    """[name, arguments] of the calls that the recorded provider made."""
    calls: list[list[Any]] = WORLD["said"][row]["tool_calls"]
    assert len(calls) > 1
    return [[c[0], c[1]] for c in calls]
