"""Damaged traffic of Amazon Bedrock: only a Problem comes of it, and never a clean end that the answer did not have."""

from __future__ import annotations

import base64
import json
import random

import pytest
from tests.wire import bedrock_recordings as rec
from tests.wire.test_openai_chat_fuzz import _damaged, _twisted

from lilliput.neutral import Called, Ended, Problem, Request, Target, fold
from lilliput.wire import bedrock
from lilliput.wire import openai as openai_chat

ASKED = Request(model="m", messages=(), stream=True, include_usage=True)


def _harmed(payload: bytes, dice: random.Random) -> bytes:
    """A message's JSON, or the JSON inside it, with a wound."""
    harm = dice.choice([_damaged, _twisted, _twisted])
    inner = json.loads(payload).get("bytes") if payload[:9] == b'{"bytes":' else None
    if inner is None:
        return harm(payload, dice)
    return json.dumps({"bytes": base64.b64encode(harm(base64.b64decode(inner), dice)).decode()}).encode()


def _wounded(raw: bytes, dice: random.Random) -> bytes:
    """A stream with some messages harmed inside, framed rightly again; or taken out, or doubled."""
    expect = rec.kit().expect
    out = []
    for headers, payload in expect.eventstream(raw):
        named = {name[1:].replace("-", "_"): value for name, value in headers.items()}
        luck = dice.random()
        again = _harmed(payload, dice) if luck < 0.1 else payload
        out += [rec.frame(again, **named)] * (0 if luck > 0.97 else 2 if luck > 0.94 else 1)
    return b"".join(out)


def _read(api: str, raw: bytes, stream: bool, dice: random.Random) -> None:
    cuts = sorted(dice.randrange(len(raw) + 1) for _ in range(dice.randrange(4)))
    events, trouble = rec.feed(api, raw, stream, cuts)
    ids = [(e.choice, e.id) for e in events if isinstance(e, Called)]
    assert api == "bedrock.invoke" or len(ids) == len(set(ids))
    assert all(id for _, id in ids)
    if b'"choices"' not in raw:  # OpenAI's form, where an answer of no choices is one
        assert any(isinstance(e, Ended) for e in events) == (trouble is None), (events[-3:], trouble)
    write = openai_chat.writer(ASKED)
    for e in events:
        write(e)
    openai_chat.write_reply(fold(events), ASKED)


def _fuzz(times: int, seed: int) -> None:
    dice = random.Random(seed)
    answers = [(api, i) for api in rec.MODULES for i in rec.recorded(api) if len(rec.body(i)) < 20_000]
    for _ in range(times):
        api, i = dice.choice(answers)
        raw, stream = rec.body(i), i["kind"] == "stream" and i["response"]["status"] == 200
        harm = _wounded if stream and dice.random() < 0.8 else dice.choice([_damaged, _twisted])
        _read(api, harm(raw, dice), stream if dice.random() < 0.95 else not stream, dice)
        bedrock.read_problem(dice.choice([400, 403, 429, 500]), harm(raw, dice))


def _ask(times: int, seed: int) -> None:
    """Requests with values of any kind: a body in JSON, or a Problem (400)."""
    dice = random.Random(seed)
    expect = rec.kit().expect
    facts = [f for api in rec.MODULES for i in rec.recorded(api) if (f := expect.request_facts(i)) is not None]
    for _ in range(times):
        asked = _twisted(json.dumps(expect.to_openai_request(dice.choice(facts))).encode(), dice)
        target = Target(
            provider="b", model=dice.choice(["anthropic.claude-v2:1", "amazon.nova-2-lite", "ai21.j2-x", "x"])
        )
        try:
            r = openai_chat.read_request(asked)
        except Problem:
            continue
        for module in rec.MODULES.values():
            refusal = None
            try:
                json.loads(module.write_body(r, target).body)
            except Problem as p:
                refusal = p
            assert refusal is None or refusal.status == 400


def test_only_problems_come_of_damage() -> None:
    _fuzz(2000, seed=1)


def test_only_problems_come_of_odd_requests() -> None:
    _ask(400, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_only_problems_come_of_much_damage(seed: int) -> None:
    _fuzz(2000, seed)
    _ask(1000, seed)
