"""Anthropic's recorded traffic: what was said is what we read, and what we write says it again."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tests.wire import anthropic_recordings as rec
from tests.wire import chat_recordings as chat_rec

from lilliput.neutral import Problem, Request, Target, fold
from lilliput.wire import anthropic
from lilliput.wire import openai as openai_chat

ASKED = Request(model="m", messages=(), stream=True, include_usage=True)
TARGET = Target(provider="p", model="test/model", dialect="anthropic", base="http://localhost")
NAMES = ("text", "reasoning", "tool_calls", "finish_reason")


def _told(i: Any, cuts: list[int] | None) -> tuple[Any, ...]:
    events, trouble = rec.feed(rec.body(i), i["kind"] == "stream", cuts)
    return [(type(e).__name__, e) for e in events], trouble


def test_answers_say_what_was_recorded() -> None:
    wrong: list[tuple[Any, ...]] = []
    for i in rec.answers():
        want = rec.said(i)
        events, trouble = rec.feed(rec.body(i), i["kind"] == "stream")
        assert trouble is None, (i["id"], trouble)
        got = {**rec.events_facts(events), "usage": rec.usage_facts(fold(events).usage)}
        wrong += [(i["id"], k, want[k], got[k]) for k in (*NAMES, "usage") if want[k] != got[k]]
    assert len(rec.answers()) > 300
    assert not wrong, wrong[:10]


def test_a_stream_cut_anywhere_gives_the_same_events() -> None:
    rng = random.Random(1)
    streams = sorted(rec.answers("stream"), key=lambda i: len(rec.body(i)))
    for i in streams:
        size = len(rec.body(i))
        whole = _told(i, None)
        assert _told(i, list(range(17, size, 17))) == whole, i["id"]
        assert _told(i, sorted(rng.sample(range(1, size), min(40, size - 1)))) == whole, i["id"]
    for i in streams[:5]:
        assert _told(i, list(range(1, len(rec.body(i))))) == _told(i, None), i["id"]


def test_half_an_answer_never_ends_well() -> None:
    """Cut anywhere before the last event: trouble, and no end is told; the watch says the same."""
    rng = random.Random(2)
    for i in rec.answers():
        raw = rec.body(i)
        if i["kind"] == "chat":
            assert rec.feed(raw[: len(raw) // 2], False)[1] is not None, i["id"]
            continue
        last = raw.rindex(b"event: message_stop")
        for cut in (*rng.sample(range(1, last), 3), last, last + 21):
            events, trouble = rec.feed(raw[:cut], True)
            assert trouble is not None, (i["id"], cut)
            assert trouble.code == "upstream_truncated", (i["id"], cut, trouble)
            assert not any(type(e).__name__ == "Ended" for e in events), i["id"]
            watch = anthropic.watch(anthropic.check(b'{"model":"m","max_tokens":1,"messages":[]}'))
            watch.feed(raw[:cut])
            watch.end()
            assert watch.trouble is not None, (i["id"], cut)
            assert not watch.done, (i["id"], cut)


@pytest.mark.parametrize("kind", ["stream", "chat"])
@pytest.mark.parametrize("source", ["anthropic", "openai_chat"])
def test_what_we_write_says_the_same(kind: str, source: str) -> None:
    """Both kinds of answer written from either kind of recording, this dialect's and OpenAI's."""
    wrong = []
    interactions = rec.answers() if source == "anthropic" else chat_rec.answers()
    for i in interactions:
        events, trouble = rec.feed(rec.body(i), i["kind"] == "stream") if source == "anthropic" else chat_rec.read(i)
        if trouble:
            continue
        reply = fold(events)
        want = {**rec.facts_of(reply), "usage": rec.usage_facts(reply.usage)}
        if source == "openai_chat" and want["tool_calls"] and want["finish_reason"] == "stop":
            want["finish_reason"] = "tool_calls"  # Anthropic's clients run no tools after end_turn
        if reply.usage is None:
            want["usage"] = dict.fromkeys(
                ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cache_write_tokens"), 0
            )
        write = anthropic.writer(ASKED, "msg_1", 0)
        if kind == "stream":
            out = b"".join(map(write, events)) + write.end()
        else:
            out = anthropic.write_reply(reply, ASKED, "msg_1", 0)
        got = rec.kit().answer_facts("anthropic.messages", kind, 200, out)
        if reply.choices and reply.choices[0].refusal:
            want["text"] += reply.choices[0].refusal
        wrong += [(i["id"], k, want[k], got[k]) for k in (*NAMES, "usage") if want[k] != got[k]]
    assert not wrong, wrong[:10]


def test_an_answer_written_and_read_again_is_the_same() -> None:
    for i in rec.answers():
        events, _ = rec.feed(rec.body(i), i["kind"] == "stream")
        reply = fold(events)
        write = anthropic.writer(ASKED, "msg_1", 0)
        streamed, bad = rec.feed(b"".join(map(write, events)) + write.end(), True)
        whole, worse = rec.feed(anthropic.write_reply(reply, ASKED, "msg_1", 0), False)
        assert bad is None, i["id"]
        assert worse is None, i["id"]
        for again in (fold(streamed), fold(whole)):
            c, d = again.choices[0], reply.choices[0]
            assert (c.text, c.thinking, c.reason, c.native) == (d.text, d.thinking, d.reason, d.native), i["id"]
            assert [(t.id, t.name, t.arguments or "{}") for t in c.calls] == [
                (t.id, t.name, t.arguments or "{}") for t in d.calls
            ]
            assert rec.usage_facts(again.usage) == rec.usage_facts(reply.usage), i["id"]
            assert again.id == reply.id


def test_requests_ask_what_was_recorded() -> None:
    """The recorded request, and the same facts in OpenAI's form, through neutral and out again."""
    wrong = []
    expect = rec.kit().expect
    seen = 0
    for i in rec.asked():
        facts = expect.request_facts(i)
        if facts["server_tools"]:
            continue
        seen += 1
        recorded = json.dumps({"model": "m", **(rec.kit().request(i) or {})}).encode()
        chat = json.dumps(expect.to_openai_request(facts)).encode()
        for r in (anthropic.read_request(recorded, ""), openai_chat.read_request(chat, "")):
            got = expect.facts_of("anthropic.messages", "", json.loads(anthropic.write_body(r, TARGET).body))
            wrong += [(i["id"], r.dialect, d) for d in expect.compare(facts, got, ignore=())]
    assert seen > 200
    assert not wrong, wrong[:10]


def test_recorded_requests_reach_openai() -> None:
    """What this dialect's clients ask, asked of an OpenAI-form provider."""
    wrong = []
    expect = rec.kit().expect
    target = Target(provider="p", model="test/model", base="http://localhost/v1")
    for i in rec.asked():
        facts = expect.request_facts(i)
        if facts["server_tools"]:
            continue
        recorded = json.dumps({"model": "m", **(rec.kit().request(i) or {})}).encode()
        sent = openai_chat.write_body(anthropic.read_request(recorded, ""), target)
        got = expect.facts_of("openai.chat", "", json.loads(sent.body))
        # OpenAI's form knows no picture by a file's id: it goes as a file
        wrong += [(i["id"], d) for d in expect.compare(facts, got, ignore=()) if "image:file:file_" not in d]
    assert not wrong, wrong[:10]


def test_a_recorded_request_is_written_back_as_it_came() -> None:
    """The same dialect on both sides loses nothing but order and spelling."""
    wrong = []
    for i in rec.asked():
        recorded = rec.kit().request(i) or {}
        r = anthropic.read_request(json.dumps({"model": "m", **recorded}).encode(), "")
        sent = anthropic.write_body(r, TARGET)
        assert sent.dropped == (), (i["id"], sent.dropped)
        got = json.loads(sent.body)
        for name in recorded.keys() - {"model", "messages", "system", "tools", "tool_choice", "stream"}:
            if recorded[name] is not None and got.get(name) != recorded[name]:
                wrong.append((i["id"], name, recorded[name], got.get(name)))
    assert not wrong, wrong[:5]


def test_refusals_are_told_in_their_own_words() -> None:
    seen = 0
    for i in rec.messages():
        status = i["response"]["status"]
        if status == 200:
            continue
        seen += 1
        want = rec.kit().expect.error_facts(status, rec.body(i))
        p = anthropic.read_problem(status, rec.body(i))
        assert p.say == want["message"], i["id"]
        assert (p.status, p.fault) == {401: (502, "provider_auth"), 404: (404, "missing")}.get(status, (400, "client"))
        told = json.loads(anthropic.write_problem(p, "req_1"))
        assert (told["type"], told["error"]["message"], told["request_id"]) == ("error", p.say, "req_1")
    assert seen == 7


def test_a_stream_that_passes_is_the_recorded_one() -> None:
    for i in rec.answers("stream"):
        raw = rec.body(i)
        for size in (len(raw), 17):
            watch = anthropic.watch(anthropic.check(b'{"model":"m","max_tokens":1,"messages":[]}'))
            out = b"".join(watch.feed(raw[k : k + size]) for k in range(0, len(raw), size)) + watch.end()
            assert watch.trouble is None, (i["id"], watch.trouble)
            assert watch.done
            assert rec.kit().expect.sse(out) == rec.kit().expect.sse(raw), i["id"]
            assert rec.usage_facts(watch.usage) == rec.said(i)["usage"], i["id"]


def test_whole_answers_that_pass() -> None:
    for i in rec.answers("chat"):
        assert rec.usage_facts(anthropic.whole(200, rec.body(i))) == rec.said(i)["usage"], i["id"]
    for bad in (b"", b"[]", b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'):
        with pytest.raises(Problem):
            anthropic.whole(200, bad)
