"""Damaged traffic: whatever a provider or a client sends, only a Problem comes of it."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from tests.wire import chat_recordings as rec

from lilliput.neutral import Event, Problem, Request, Target, fold
from lilliput.wire import openai as chat

ASKED = Request(model="m", messages=(), stream=True, include_usage=True)
TARGET = Target(provider="p", model="m", base="http://localhost/v1")
SPLINTERS = [
    *(
        b"null",
        b"-1",
        b"1e999",
        b'""',
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"\xff",
        b"\x00",
        b"true",
        b"[" * 2000,
        b"\n\n",
        b"\r",
    ),
    *(
        b'{"error":',
        b"data: ",
        b"data: [DONE]\n\n",
        b'"index":-1',
        b'"index":99999999999999999999',
        b'"tool_calls":[{}]',
    ),
    *(
        b'"content":[{"type":"thinking"}]',
        b'"usage":{"prompt_tokens":-1,"completion_tokens":1e18}',
        b"9" * 500,
        b'"' * 3,
    ),
]


def _damaged(raw: bytes, rng: random.Random) -> bytes:
    """`raw` with one to four wounds: bytes flipped, cut out, doubled, or splinters driven in."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice([1, 1, 2, 8, 64, 1024]))
        match rng.randrange(5):
            case 0:
                out[at:end] = bytes(rng.randrange(256) for _ in range(min(8, end - at)))
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end]
            case 3:
                out[at:at] = rng.choice(SPLINTERS)
            case _:
                colon = out.find(b":", at)
                comma = out.find(b",", colon)
                if 0 <= colon < comma:
                    out[colon + 1 : comma] = rng.choice(SPLINTERS)
    return bytes(out)


VALUES: list[Any] = [None, -1, 0, 2**70, 1.5, "", "x", [], {}, True, [{}], {"a": [None]}, ["x"], [[]], "data:x", 10**9]


def _twisted(raw: bytes, rng: random.Random) -> bytes:
    """`raw` with one value somewhere in one of its JSON documents replaced, taken out or put in twice."""
    documents = [m.span(1) for m in re.finditer(rb"^(?:data: )?(\{.*\})\s*$", raw, re.M)] or [(0, len(raw))]
    start, end = rng.choice(documents)
    try:
        document = json.loads(raw[start:end])
    except ValueError:
        return raw
    place = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            match rng.randrange(4):
                case 0:
                    del place[key]
                case 1 if isinstance(place, list):
                    place.append(inner)
                case 1:
                    place[rng.choice(keys)] = inner
                case _:
                    place[key] = rng.choice(VALUES)
            break
        place = inner
    return raw[:start] + json.dumps(document).encode("utf-8", "replace") + raw[end:]


def _answer(raw: bytes, stream: bool, rng: random.Random) -> None:
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(4)))
    events, trouble = rec.feed(raw, stream, cuts)
    _check_order(events)
    write = chat.writer(ASKED)
    written = b"".join(map(write, events)) + write.end()
    assert trouble or rec.feed(written, True)[1] is None
    assert trouble or rec.feed(chat.write_reply(fold(events), ASKED), False)[1] is None


def _check_order(events: list[Event]) -> None:
    """Pieces of a call follow its opening: `fold` relies on it."""
    fold(events)


def _request(raw: bytes) -> None:
    refusal, r = None, None
    try:
        chat.check(raw)
        r = chat.read_request(raw)
    except Problem as p:
        refusal = p
    if r is None:
        assert refusal is not None
        assert refusal.status == 400
        return
    again = chat.read_request(chat.write_body(r, TARGET).body)
    assert (
        chat.write_body(again, TARGET).body
        == chat.write_body(chat.read_request(chat.write_body(again, TARGET).body), TARGET).body
    )


def _fuzz(times: int, seed: int) -> None:
    rng = random.Random(seed)
    chats = [i for i in rec.chats() if len(rec.body(i)) < 60_000]
    asked = [rec.kit().expect.body_bytes(i["request"]) for i in chats]
    asked = [raw for raw in asked if 0 < len(raw) < 60_000]
    for _ in range(times):
        i = rng.choice(chats)
        harm = rng.choice([_damaged, _twisted, _twisted])
        raw = harm(rec.body(i), rng)
        _answer(raw, rng.random() < 0.9 if i["kind"] == "stream" else rng.random() < 0.2, rng)
        p = chat.read_problem(rng.choice([200, 400, 401, 429, 500]), raw)
        assert len(p.say) <= 2000
        chat.write_problem(p)
        _request(harm(rng.choice(asked), rng))


def test_only_problems_come_of_damage() -> None:
    _fuzz(600, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_only_problems_come_of_much_damage(seed: int) -> None:
    _fuzz(1000, seed)
