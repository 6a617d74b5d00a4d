"""Hostile JSON, told from honest JSON before it is decoded: depth, number of keys, doubled keys, bad UTF-8.

A screen in front of the typed decoders, which see to syntax and types. It must cost next to nothing on an honest body,
so the exact look is taken only when a count says that there is something to look at.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate

from lilliput.neutral import Problem

MAX_DEPTH = 64
MAX_KEYS = 10_000
_DROPPED = bytes(set(range(256)) - set(b'[]{}":'))
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
_STRING = re.compile(rb'"[^"]*"')


def screen(body: bytes) -> None:
    """Raises Problem (400) for a body that no honest client sends; says nothing of syntax."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as e:
            say = f"the body is not UTF-8 (byte {e.start}); send JSON in UTF-8"
            raise Problem("client", say, code="invalid_json") from None
    if 2 * len(body) - len(body.replace(b"{", b"")) - len(body.replace(b"[", b"")) > MAX_DEPTH:
        _shape(body)


def _shape(body: bytes) -> None:
    """Counts brackets outside strings. All passes are over the whole body at the speed of C: it may be megabytes."""
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _DROPPED)
    marks = _STRING.sub(b"", marks.replace(b'""', b""))
    if marks.count(b":") > MAX_KEYS:
        raise Problem("client", f"the body has over {MAX_KEYS} keys; send fewer", code="json_too_large")
    steps = memoryview(marks.translate(_STEPS, b':"')).cast("b")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        say = f"the body is nested deeper than {MAX_DEPTH} levels; flatten it"
        raise Problem("client", say, code="json_too_deep")


def unique(body: bytes, compact_bytes: int, keys: int) -> None:
    """Raises Problem (400) when a top-level key stands twice in `body`.

    `compact_bytes` is the length of its decoded object written again without white space, `keys` its size. A body as
    common encoders write it, without white space or with one blank after each comma and colon, has just the length
    that follows; only another is looked at exactly. The decoded object alone goes on, so what we judged is what is
    sent, whatever this misses.
    """
    if len(body) not in (compact_bytes, compact_bytes + 2 * keys - 1):
        _no_key_twice(body)


def _no_key_twice(body: bytes) -> None:
    def once(pairs: list[tuple[str, object]]) -> None:
        names = {name for name, _ in pairs}
        if len(names) == len(pairs):
            return
        twice = next(name for i, (name, _) in enumerate(pairs) if any(name == n for n, _ in pairs[:i]))
        raise Problem(
            "client", f"the key {twice[:80]!r} stands twice in one object", code="duplicate_key", param=twice[:80]
        )

    try:
        json.loads(body, object_pairs_hook=once, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return  # no JSON: the typed decoder says where
