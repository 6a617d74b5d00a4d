"""The screen in front of the decoders: what is hostile in a body, whatever stands in strings."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from lilliput.neutral import Problem
from lilliput.wire import strict

DEEP, MANY, UTF8, TWICE = "json_too_deep", "json_too_large", "invalid_json", "duplicate_key"


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


def keys(count: int) -> bytes:
    return json.dumps({f"k{i}": {} for i in range(count)}).encode()


SCREEN: list[tuple[str, bytes, str | None]] = [
    ("an honest body", b'{"model":"m","messages":[{"role":"user","content":"hi"}]}', None),
    ("nothing", b"", None),
    ("no JSON", b"}]{[\\", None),
    ("as deep as may be", nested(64), None),
    ("too deep", nested(65), DEEP),
    ("too deep in objects", nested(65, b'{"a":', b"}"), DEEP),
    ("too deep in both", nested(33, b'[{"a":', b"}]"), DEEP),
    ("as deep as may be in both", nested(32, b'[{"a":', b"}]"), None),
    ("too deep and never closed", b"[" * 70, DEEP),
    ("a million deep", nested(1_000_000), DEEP),
    ("too deep after much that is flat", b"[" + b"[]," * 1000 + nested(64) + b"]", DEEP),
    ("many brackets, side by side", b"[" + b"[{}]," * 5000 + b"1]", None),
    ("brackets in a string", b'{"a":"' + b"[" * 1000 + b'"}', None),
    ("brackets after an escaped quote", b'{"a":"\\"' + b"[" * 1000 + b'"}', None),
    ("brackets after an escaped backslash", b'{"a":"\\\\","b":"' + b"[" * 1000 + b'"}', None),
    ("a string that ends in a backslash, then depth", b'{"a":"\\\\","b":' + nested(64) + b"}", DEEP),
    ("a quote in a string, then depth", b'{"a":"\\"","b":' + nested(64) + b"}", DEEP),
    ("strings between brackets", b'["["' + b',"[","]",""' * 500 + b"]", None),
    ("empty strings, then depth", b'["","",' + nested(64) + b"]", DEEP),
    ("as many keys as may be", keys(10_000), None),
    ("too many keys", keys(10_001), MANY),
    ("a hundred thousand keys", keys(100_000), MANY),
    ("colons in strings", b'{"a":"' + b"[::::" * 10_000 + b'"}', None),
    ("UTF-8", '{"a":"é中🦓"}'.encode(), None),
    ("Latin-1", b'{"a":"\xe9"}', UTF8),
    ("a cut sequence", '{"a":"🦓'.encode()[:-1], UTF8),
    ("an overlong slash", b'{"a":"\xc0\xaf"}', UTF8),
    ("a surrogate in UTF-8", b'{"a":"\xed\xa0\x80"}', UTF8),
    ("past the last code point", b'{"a":"\xf4\x90\x80\x80"}', UTF8),
    ("UTF-16", '{"a":1}'.encode("utf-16"), UTF8),
]


@pytest.mark.parametrize(("name", "body", "code"), SCREEN, ids=[row[0] for row in SCREEN])
def test_screen(name: str, body: bytes, code: str | None) -> None:
    if code is None:
        strict.screen(body)
        return
    with pytest.raises(Problem) as caught:
        strict.screen(body)
    assert (caught.value.code, caught.value.status) == (code, 400)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def made_up(dice: random.Random, depth: int) -> Any:
    if depth == 0 or dice.random() < 0.05:
        return dice.choice(['"', "\\", '\\"', "[", "]]", "{", ":", "", "é", 1, None, 'a"[{', "\\\\["])
    values = [made_up(dice, depth - 1), *(made_up(dice, min(depth - 1, 1)) for _ in range(dice.randint(0, 3)))]
    dice.shuffle(values)
    return values if dice.random() < 0.5 else {f'{i}"[' * dice.randint(0, 2) + str(i): v for i, v in enumerate(values)}


def test_depth_is_counted_as_a_parser_counts_it() -> None:
    dice = random.Random(7)
    seen = set()
    for _ in range(400):
        value = made_up(dice, dice.randint(55, 75))
        body = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode()
        is_deep = depth_of(value) > strict.MAX_DEPTH
        seen.add(is_deep)
        with pytest.raises(Problem) if is_deep else contextlib.nullcontext():
            strict.screen(body)
    assert seen == {True, False}


UNIQUE: list[tuple[str, bytes, str | None]] = [
    ("none", b"{}", None),
    ("compact", b'{"a":1,"b":[1,2],"c":"x"}', None),
    ("one blank", b'{"a": 1, "b": [1, 2], "c": "x"}', None),
    ("pretty", b'{\n  "a": 1,\n  "b": 2\n}\n', None),
    ("a key inside is another", b'{"a":1,"b":{"a":1}}', None),
    ("escaped keys", b'{"\\u0061":1,"b\\n":2}', None),
    ("long keys in UTF-8", '{"é":1,"中":2}'.encode(), None),
    ("twice", b'{"model":"a","messages":[],"model":"b"}', "model"),
    ("twice, the same", b'{"stream":true,"stream":true}', "stream"),
    ("twice, one escaped", b'{"model":"a","mod\\u0065l":"b"}', "model"),
    ("twice in pretty", b'{\n  "a": 1,\n  "a": 2\n}', "a"),
    ("three times", b'{"a":1,"a":1,"a":1}', "a"),
]


@pytest.mark.parametrize(("name", "body", "twice"), UNIQUE, ids=[row[0] for row in UNIQUE])
def test_unique(name: str, body: bytes, twice: str | None) -> None:
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    size = len(msgspec.json.encode(fields))
    if twice is None:
        strict.unique(body, size, len(fields))
        return
    with pytest.raises(Problem) as caught:
        strict.unique(body, size, len(fields))
    assert (caught.value.code, caught.value.status, caught.value.param) == (TWICE, 400, twice)
