"""Damaged Gemini traffic: whatever a provider or a client sends, only a Problem comes of it."""

from __future__ import annotations

import contextlib
import random

import pytest
from tests.wire import gemini_recordings as rec
from tests.wire.test_openai_chat_fuzz import _damaged, _twisted

from lilliput.neutral import Problem, Request, Target, Thinking, ToolCall, fold
from lilliput.wire import gemini

ASKED = Request(model="m", messages=(), stream=True)
TARGET = Target(provider="p", model="gemini-3-pro", base="http://localhost/v1beta")


def _answer(raw: bytes, stream: bool, rng: random.Random) -> None:
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(4)))
    events, trouble = rec.feed(raw, stream, cuts)
    reply = fold(events)
    write = gemini.writer(ASKED, "x", 1)
    written = b"".join(map(write, events)) + write.end()
    assert trouble or rec.feed(written, True)[1] is None
    assert trouble or rec.feed(gemini.write_reply(reply, ASKED, "x", 1), False)[1] is None
    out, watch = rec.pass_on(raw, rng.choice(["", "?alt=sse"]), cuts)
    assert watch.trouble is not None or rec.feed(out, True)[1] is None or trouble
    with contextlib.suppress(Problem):
        gemini.whole(200, raw)


def _request(raw: bytes, path: str) -> None:
    refusal, r = None, None
    try:
        gemini.check(raw, path)
        r = gemini.read_request(raw, path)
    except Problem as p:
        refusal = p
    if r is None:
        assert refusal is not None
        assert refusal.status == 400
        return
    body = gemini.write_body(r, TARGET).body
    again = gemini.write_body(gemini.read_request(body, path), TARGET).body
    assert gemini.write_body(gemini.read_request(again, path), TARGET).body == again


def _fuzz(times: int, seed: int) -> None:
    rng = random.Random(seed)
    chats = [i for i in rec.chats() if len(rec.body(i)) < 60_000]
    asked = [(rec.kit().expect.body_bytes(i["request"]), rec.path(i)) for i in chats]
    asked = [(raw, path) for raw, path in asked if 0 < len(raw) < 60_000]
    for _ in range(times):
        i = rng.choice(chats)
        harm = rng.choice([_damaged, _twisted, _twisted])
        raw = harm(rec.body(i), rng)
        _answer(raw, rng.random() < 0.9 if i["kind"] == "stream" else rng.random() < 0.2, rng)
        p = gemini.read_problem(rng.choice([200, 400, 401, 429, 500]), raw)
        assert len(p.say) <= 2000
        gemini.write_problem(p, "x")
        body, path = rng.choice(asked)
        _request(harm(body, rng), path)


def test_only_problems_come_of_damage() -> None:
    _fuzz(2000, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_only_problems_come_of_much_damage(seed: int) -> None:
    _fuzz(2000, seed)


def test_parts_of_a_hostile_history_stay_what_they_are() -> None:
    """A signature that only looks sealed is the caller's own word."""
    for signature in ("", "x", "====", "anthropic-claude-v1:", "//8=", "YW50aHJvcGljLWNsYXVkZS12MTo="):
        body = b'{"contents":[{"role":"model","parts":[{"text":"t","thought":true,"thoughtSignature":"%b"}]}]}'
        r = gemini.read_request(body % signature.encode(), "/v1beta/models/m:generateContent")
        part = r.messages[0].parts[0]
        assert isinstance(part, Thinking), signature
        assert not isinstance(part, ToolCall)
