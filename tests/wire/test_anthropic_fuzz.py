"""Damaged traffic: whatever a provider or a client sends, only a Problem comes of it."""

from __future__ import annotations

import json
import random

import pytest
from tests.wire import anthropic_recordings as rec
from tests.wire.test_openai_chat_fuzz import _damaged, _twisted

from lilliput.neutral import Problem, Request, Target, fold
from lilliput.wire import anthropic

ASKED = Request(model="m", messages=(), stream=True, include_usage=True)
TARGETS = [
    Target(provider="p", model=model, dialect="anthropic", base="http://localhost")
    for model in ("m", "claude-3-5-haiku-20241022", "claude-opus-4-6", "claude-sonnet-5")
]
PLAIN = anthropic.check(b'{"model":"m","max_tokens":1,"messages":[]}', "")


def _answer(raw: bytes, stream: bool, rng: random.Random) -> None:
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(4)))
    events, trouble = rec.feed(raw, stream, cuts)
    reply = fold(events)  # fails where a piece of a call comes before it
    assert trouble or any(type(e).__name__ == "Ended" for e in events)
    write = anthropic.writer(ASKED, "msg_1", 0)
    written = b"".join(map(write, events)) + write.end()
    for again, of_stream in ((written, True), (anthropic.write_reply(reply, ASKED, "msg_1", 0), False)):
        told, bad = rec.feed(again, of_stream)
        assert bad is None, (bad, again)
        assert [(c.name, c.id) for c in fold(told).choices[0].calls] == [
            (c.name, c.id) for c in (reply.choices[0].calls if reply.choices else ())
        ]
    watch = anthropic.watch(PLAIN)
    for a, b in zip((0, *cuts), (*cuts, len(raw)), strict=True):
        watch.feed(raw[a:b])
    watch.end()
    assert watch.done or watch.trouble
    assert watch.usage is None or watch.usage.total_tokens >= 0


def _request(raw: bytes, target: Target) -> None:
    refusal, r, once = None, None, None
    try:
        r = anthropic.read_request(raw, "")
        once = anthropic.write_body(r, target)
    except Problem as p:
        refusal = p
    if r is None or once is None:
        assert refusal is not None
        assert refusal.status == 400
        return
    again = anthropic.write_body(anthropic.read_request(once.body, ""), target)
    assert json.loads(again.body) == json.loads(once.body)
    json.loads(anthropic.count_body(r, target))


def _fuzz(times: int, seed: int) -> None:
    rng = random.Random(seed)
    answers = [(rec.body(i), i["kind"] == "stream") for i in rec.answers()]
    answers = [(raw, stream) for raw, stream in answers if len(raw) < 30_000]
    asked = [rec.kit().expect.body_bytes(i["request"]) for i in rec.asked()]
    asked = [raw for raw in asked if 0 < len(raw) < 30_000]
    for _ in range(times):
        raw, stream = rng.choice(answers)
        harm = rng.choice([_damaged, _twisted, _twisted])
        raw = harm(raw, rng)
        _answer(raw, rng.random() < 0.9 if stream else rng.random() < 0.2, rng)
        for read in (lambda raw: anthropic.whole(200, raw), anthropic.read_count, anthropic.check_count):
            try:
                read(raw)
            except Problem:
                pass
        p = anthropic.read_problem(rng.choice([200, 400, 401, 429, 500]), raw)
        assert len(p.say) <= 2000
        anthropic.write_problem(p, "req_1")
        _request(harm(rng.choice(asked), rng), rng.choice(TARGETS))


def test_only_problems_come_of_damage() -> None:
    _fuzz(2000, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_only_problems_come_of_much_damage(seed: int) -> None:
    _fuzz(1000, seed)
