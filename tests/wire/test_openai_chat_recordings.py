"""Real providers' chat traffic: what was said is what we read, and what we write says it again."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec.structs import replace
from tests.wire import chat_recordings as rec

from lilliput.neutral import Choice, Request, Target, ToolCall, Usage, fold
from lilliput.wire import openai as chat

ASKED = Request(model="m", messages=(), stream=True, include_usage=True)
HIDDEN_THINKING = {"gemini-7b18131dcf", "gemini-a9e04ee751"}
"""The total holds thinking that completion_tokens leaves out: we say so, the recording does not."""
NO_CUSTOM_STREAM = {"openai-27ca33b31b"}
"""`expect.py` does not read custom tools in streams."""
DOUBTED = {
    "cached_tokens": ("azure", 19),
    "cache_write_tokens": ("openrouter", 1),
    "prompt_tokens": ("mistral", 1),
    "reasoning_tokens": ("openrouter vercel-gateway", 12),
    "total_tokens": ("gemini", 2),
}
"""Figures that contradict each other, by whom and how often: where we put them right, recordings do not agree."""


def test_answers_say_what_was_recorded() -> None:
    wrong: list[tuple[Any, ...]] = []
    for i in rec.answers():
        want = rec.said(i)
        events, trouble = rec.read(i)
        if want["error"]:
            assert trouble is not None, i["id"]
            if trouble.say != want["error"]["message"]:
                wrong.append((i["id"], want["error"]["message"], trouble.say))
            continue
        got = rec.events_facts(events)
        wrong += [(i["id"], k, want[k], got[k]) for k in got if trouble or want[k] != got[k]]
    assert not wrong, wrong[:10]


def test_usage_is_what_was_recorded_where_it_can_be_true() -> None:
    doubted: dict[str, list[str]] = {}
    for i in rec.answers():
        want = rec.said(i)
        usage = fold(rec.read(i)[0]).usage
        doubts = chat.doubts(usage.given) if usage is not None and usage.given is not None else ()
        for name in doubts:
            doubted.setdefault(name, []).append(i["id"])
        if not doubts and not want["error"]:
            assert rec.usage_facts(usage) == want["usage"], i["id"]
    for name, ids in doubted.items():
        providers, times = DOUBTED[name]
        assert len(ids) == times, (name, ids)
        assert all(any(i.startswith(p) for p in providers.split()) for i in ids), (name, ids)


@pytest.mark.parametrize(
    ("id", "want"),
    [
        ("xai-0231cfed57", Usage(input=470 - 192, cache_read=192, output=68, reasoning=185)),
        ("openai-01c6e7fada", Usage(input=77, cache_read=1024, output=7)),
        ("mistral-23d8f46b01", Usage(input=32, cache_read=32, output=6)),
        ("mistral-ea8d650ae5", Usage(input=9, audio_in=375, output=201)),
        ("openrouter-016883c4ff", Usage(input=3, cache_read=3211, cache_write_5m=115, output=53)),
        ("gemini-a9e04ee751", Usage(input=35, output=12, reasoning=62)),
        ("vercel-gateway-1c9b7f1f57", Usage(input=61, output=10, reasoning=96)),
        ("azure-040a80fabe", Usage(cache_read=347, output=18)),
        ("groq-425443d927", Usage(input=80, cache_read=256, output=37, reasoning=59)),
    ],
)
def test_usage_by_provider(id: str, want: Usage) -> None:
    i = next(i for i in rec.chats() if i["id"] == id)
    usage = fold(rec.read(i)[0]).usage
    assert usage is not None
    assert Usage(**{f: getattr(usage, f) for f in usage.__struct_fields__ if f not in ("given", "doubts")}) == want


@pytest.mark.parametrize("kind", ["stream", "chat"])
def test_what_we_write_says_the_same(kind: str) -> None:
    """Both kinds of answer written from either kind of recording, read back by `expect.py`."""
    wrong = []
    for i in rec.answers():
        want = rec.said(i)
        if want["error"] or (kind == "stream" and i["id"] in NO_CUSTOM_STREAM):
            continue
        events, _ = rec.read(i)
        if kind == "stream":
            write = chat.writer(ASKED)
            out = b"".join(map(write, events)) + write.end()
            assert out.endswith(b"data: [DONE]\n\n")
        else:
            out = chat.write_reply(fold(events), ASKED)
        got = rec.kit().answer_facts("openai.chat", kind, 200, out)
        names = ["text", "reasoning", "tool_calls", "finish_reason", "choices", "media_out"]
        names += [] if i["id"] in HIDDEN_THINKING else ["usage"]
        wrong += [(i["id"], k, want[k], got[k]) for k in names if want[k] != got[k]]
    assert not wrong, wrong[:10]


def _calls(c: Choice) -> list[ToolCall]:
    """An answer's calls; no arguments are written as {}."""
    return [replace(t, arguments=t.arguments or "{}") for t in c.calls]


def test_an_answer_written_and_read_again_is_the_same() -> None:
    for i in rec.answers():
        events, trouble = rec.read(i)
        reply = fold(events)
        if trouble or any(c.native == "function_call" for c in reply.choices):
            continue
        whole = fold(rec.feed(chat.write_reply(reply, ASKED), False)[0])
        write = chat.writer(ASKED)
        streamed = fold(rec.feed(b"".join(map(write, events)) + write.end(), True)[0])
        for again in (whole, streamed):
            assert [c.text for c in again.choices] == [c.text for c in reply.choices], i["id"]
            assert [c.thinking for c in again.choices] == [c.thinking for c in reply.choices], i["id"]
            assert [_calls(c) for c in again.choices] == [_calls(c) for c in reply.choices], i["id"]
            assert [(c.reason, c.refusal) for c in again.choices] == [(c.reason, c.refusal) for c in reply.choices]
            assert rec.usage_facts(again.usage) == rec.usage_facts(reply.usage), i["id"]


def test_a_stream_cut_anywhere_gives_the_same_events() -> None:
    """Every recording at seeded random cuts; the shortest of each provider at every byte."""
    rng = random.Random(1)
    streams = sorted(rec.answers("stream"), key=lambda i: len(rec.body(i)))
    for i in streams:
        size = len(rec.body(i))
        assert _told(i, sorted(rng.sample(range(1, size), min(40, size - 1)))) == _told(i, None), i["id"]
    shortest = list({i["provider"]: i for i in reversed(streams)}.values())[-6:]
    assert len(shortest) == 6
    for i in shortest:
        size = len(rec.body(i))
        assert _told(i, list(range(1, size))) == _told(i, None), i["id"]
        for cut in range(1, min(size, 3000)):
            assert _told(i, [cut]) == _told(i, None), (i["id"], cut)


def test_half_an_answer_never_ends_well() -> None:
    """Cut before the finish: trouble. Nothing that was said before is lost, no end is told."""
    for i in rec.answers():
        if rec.said(i)["error"]:
            continue
        raw = rec.body(i)
        cut = raw[: len(raw) // 2]
        if i["kind"] == "stream" and not rec.kit().answer_facts("openai.chat", "stream", 200, cut)["native_finish"]:
            events, trouble = rec.feed(cut, True)
            assert trouble is not None, i["id"]
            assert trouble.code == "upstream_truncated", i["id"]
            assert not any(type(e).__name__ == "Ended" for e in events), i["id"]
        elif i["kind"] == "chat":
            assert rec.feed(cut, False)[1] is not None, i["id"]


def test_requests_ask_what_was_recorded() -> None:
    """The recorded request, and the same facts in `expect.py`'s own form, through neutral and out again."""
    target = Target(provider="p", model="test/model", base="http://localhost/v1")
    wrong = []
    expect = rec.kit().expect
    for i in rec.chats():
        asked, facts = rec.kit().request(i), expect.request_facts(i)
        if asked is None or i["response"]["status"] == 400:
            continue
        bodies = [expect.to_openai_request(facts)]
        if i["id"] != "perplexity-6cf247dde7":  # `expect.py` does not know file_url
            bodies.append({**asked, "model": asked.get("model") or "in the path"})
        for body in bodies:
            sent = chat.write_body(chat.read_request(json.dumps(body).encode()), target)
            got = expect.facts_of("openai.chat", "/v1/chat/completions", json.loads(sent.body))
            wrong += [(i["id"], d) for d in expect.compare(facts, got, ignore=())]
    assert not wrong, wrong[:10]


def test_a_request_written_and_read_again_is_the_same() -> None:
    """Recorded requests lose nothing on the second way round: what can be lost is lost on the first."""
    target = Target(provider="p", model="m", base="http://localhost/v1")
    for i in rec.chats():
        asked = rec.kit().request(i)
        if asked is None or i["response"]["status"] == 400:
            continue
        once = chat.write_body(chat.read_request(json.dumps({**asked, "model": "m"}).encode()), target)
        again = chat.write_body(chat.read_request(once.body), target)
        assert json.loads(again.body) == json.loads(once.body), i["id"]


def test_refusals_are_told_in_their_own_words() -> None:
    """Each recorded error: its status class and message stay, but a refusal of our own key is never the caller's."""
    seen = 0
    for i in rec.chats():
        status = i["response"]["status"]
        if status == 200:
            continue
        seen += 1
        want = rec.kit().expect.error_facts(status, rec.body(i))
        p = chat.read_problem(status, rec.body(i))
        assert p.say == want["message"], i["id"]
        assert (p.status, p.fault) == {401: (502, "provider_auth"), 404: (404, "missing"), 429: (429, "limit")}.get(
            status, (400, "client")
        ), i["id"]
        told = json.loads(chat.write_problem(p))["error"]
        assert set(told) == {"message", "type", "param", "code"}
        assert told["code"] is None or isinstance(told["code"], str)
    assert seen == 27


def _told(i: Any, cuts: list[int] | None) -> tuple[Any, ...]:
    events, trouble = rec.read(i, cuts)
    return [(type(e).__name__, e) for e in events], trouble and (trouble.say, trouble.code)
