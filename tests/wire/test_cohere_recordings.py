"""Recorded Cohere traffic: what was said is what we read, however it is cut, and what was asked is what we write."""

from __future__ import annotations

import itertools
import json
import random
from types import ModuleType
from typing import Any

import pytest
from tests.wire import chat_recordings as rec

from lilliput.neutral import Event, Problem, Request, Target, fold
from lilliput.wire import cohere
from lilliput.wire.cohere import v1 as cohere_v1
from lilliput.wire.openai import reply as openai_reply
from lilliput.wire.openai import request as openai_request

TARGET = Target(provider="p", model="test/model", base="http://localhost")
ASKED = Request(model="m", messages=(), stream=True, include_usage=True)


def recorded(api: str, status: int = 200) -> list[Any]:
    return [i for i in rec.kit().interactions if i["api"] == api and i["response"]["status"] == status]


def feed(module: ModuleType, raw: bytes, stream: bool, cuts: list[int] | None = None) -> tuple[list[Event], Any]:
    """The events of an answer fed in pieces that end at `cuts`, and the trouble that ended them."""
    read = module.reader(stream)
    events: list[Event] = []
    try:
        for a, b in itertools.pairwise([0, *(cuts or ()), len(raw)]):
            if b > a:
                events += read(raw[a:b])
        events += read(b"")
        return events, read.trouble
    except Problem as trouble:
        return events, trouble


def told(i: Any, events: list[Event]) -> dict[str, Any]:
    reply = fold(events)
    return {**rec.facts_of(reply), "usage": rec.usage_facts(reply.usage)}


def differences(i: Any, module: ModuleType, cuts: list[int] | None = None) -> list[Any]:
    want = rec.kit().expect.response_facts(i)
    events, trouble = feed(module, rec.body(i), i["kind"] == "stream", cuts)
    if want["error"]:
        say = trouble.say if trouble else None
        return [] if say == want["error"]["message"] else [(i["id"], want["error"], say)]
    got = told(i, events)
    if trouble:
        return [(i["id"], trouble.say)]
    return [(i["id"], k, want[k], got[k]) for k in got if k != "choices" and want[k] != got[k]]


def cuts_of(i: Any, every: int) -> list[int]:
    return list(range(every, len(rec.body(i)), every))


def rewritten(i: Any, module: ModuleType) -> list[Any]:
    """What an OpenAI client is told, streamed and whole, against the recording."""
    want = rec.kit().expect.response_facts(i)
    if want["error"]:
        return []
    events, _ = feed(module, rec.body(i), i["kind"] == "stream")
    write = openai_reply.writer(ASKED)
    streamed = b"".join(map(write, events)) + write.end()
    wrong = []
    for kind, out in (("stream", streamed), ("chat", openai_reply.write_reply(fold(events), ASKED))):
        got = rec.kit().answer_facts("openai.chat", kind, 200, out)
        names = ["text", "reasoning", "tool_calls", "finish_reason", "usage"]
        wrong += [(i["id"], kind, k, want[k], got[k]) for k in names if want[k] != got[k]]
    return wrong


def asked(i: Any, module: ModuleType) -> list[str]:
    """The recorded request's facts through OpenAI's form and neutral to this dialect, against the recording."""
    expect = rec.kit().expect
    facts = expect.request_facts(i)
    if facts is None or not facts["turns"] or facts["server_tools"]:
        return []
    r = openai_request.read_request(json.dumps(expect.to_openai_request(facts)).encode())
    got = expect.facts_of(i["api"], "", json.loads(module.write_body(r, TARGET).body))
    return [f"{i['id']}: {d}" for d in expect.compare(facts, got, ignore=())]


def never_clean(i: Any, module: ModuleType, step: int) -> None:
    """Every prefix of a stream that lacks its last event ends in trouble and without an end."""
    raw = rec.body(i)
    whole, trouble = feed(module, raw, True)
    if trouble:
        return
    for size in range(1, len(raw), step):
        events, trouble = feed(module, raw[:size], True)
        if trouble is None:
            assert events == whole, (i["id"], size)
        else:
            assert trouble.code == "upstream_truncated", (i["id"], size, trouble.say)
            assert not any(type(e).__name__ == "Ended" for e in events), (i["id"], size)


def test_answers_say_what_was_recorded() -> None:
    answers = recorded("cohere.v2")
    assert len(answers) == 79
    wrong = [d for i in answers for d in differences(i, cohere)]
    assert not wrong, wrong[:10]


@pytest.mark.parametrize("every", [17, 1])
def test_pieces_say_the_same(every: int) -> None:
    wrong = [d for i in recorded("cohere.v2") for d in differences(i, cohere, cuts_of(i, every))]
    assert not wrong, wrong[:10]


def test_an_openai_client_is_told_the_same() -> None:
    wrong = [d for i in recorded("cohere.v2") for d in rewritten(i, cohere)]
    assert not wrong, wrong[:10]


def test_requests_ask_what_was_recorded() -> None:
    wrong = [d for i in rec.kit().interactions if i["api"] == "cohere.v2" for d in asked(i, cohere)]
    assert not wrong, wrong[:10]


def test_half_an_answer_never_ends_well() -> None:
    streams = sorted((i for i in recorded("cohere.v2") if i["kind"] == "stream"), key=lambda i: len(rec.body(i)))
    for i in streams:
        never_clean(i, cohere, 1 if i in streams[:2] else random.Random(i["id"]).randrange(150, 250))


def test_refusals_are_told_in_their_own_words() -> None:
    seen = []
    for status in (400, 401):
        for i in recorded("cohere.v2", status):
            p = cohere.read_problem(status, rec.body(i))
            assert p.say == rec.kit().expect.error_facts(status, rec.body(i))["message"]
            seen.append((p.status, p.fault, p.code))
    assert seen == [(400, "client", "context_length_exceeded"), (502, "provider_auth", None)]


def test_v1_says_and_asks_what_was_recorded() -> None:
    answers = recorded("cohere.v1")
    assert len(answers) == 13
    for i in answers:
        for every in (10**9, 17, 1):
            assert not differences(i, cohere_v1, cuts_of(i, every))
        assert not rewritten(i, cohere_v1)
        if i["kind"] == "stream":
            never_clean(i, cohere_v1, 97)
    wrong = [d for i in rec.kit().interactions if i["api"] == "cohere.v1" for d in asked(i, cohere_v1)]
    assert not wrong, wrong[:10]
    for i in recorded("cohere.v1", 404):
        p = cohere_v1.read_problem(404, rec.body(i))
        assert (p.status, p.say) == (404, json.loads(rec.body(i))["message"])
