"""Real Gemini traffic of both hosts: what was said is what we read, and what we write says it again."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec import Raw
from tests.wire import gemini_recordings as rec

from lilliput.neutral import Ended, Request, Target, Thought, fold
from lilliput.wire import gemini
from lilliput.wire import openai as openai_chat

ASKED = Request(model="m", messages=(), stream=True)
AS_ARRAY = Request(model="m", messages=(), stream=True, extra={"$alt": Raw(b'"json"')})
EMPTY_STOP = {"gemini-7a474f2e3f"}
"""An empty list of stop sequences is none."""
UNTYPED_FILE = {"gemini-7ae9391adc"}
"""`expect.py` makes a file of sound that is given by URL, for OpenAI's form has no other place."""
SOUND_BY_URL = UNTYPED_FILE | {f"vertex-{i}" for i in ("2ed54ef9e7", "61f2d07fd7", "af429776a7", "f70231ab99")}
MEDIA_IN_RESULT = {
    *(f"gemini-{i}" for i in ("12e115056d", "2844fd0ca0", "4671d468f4", "980e3d18fd")),
    *(
        f"vertex-{i}"
        for i in (
            "2c82ce8963",
            "55012c17fa",
            "a4aca137b2",
            "554e09e403",
            "60908cb560",
            "c8a5e7cfe9",
            "d98f91353a",
            "fc71e1134b",
        )
    ),
}
"""`expect.py` does not look for media inside function responses: we carry them over."""
REFUSED = {"vertex-13c900123c", "vertex-f74f552928"}
"""A role and a temperature that nobody takes."""
LOWER_CASE_MODE = {"gemini-46cb7bd623", "gemini-713f62d6e0"}
"""`expect.py` knows modes in capitals alone; Google takes both."""


def _target(facts: dict[str, Any]) -> Target:
    return Target(provider="p", model=facts["model"], dialect="gemini", base="http://localhost/v1beta")


@pytest.mark.parametrize("cut_bytes", [0, 17, 1])
def test_answers_say_what_was_recorded(cut_bytes: int) -> None:
    wrong: list[tuple[Any, ...]] = []
    for i in rec.answers():
        size = len(rec.body(i))
        if cut_bytes == 1 and size > 20_000:
            continue
        events, trouble = rec.read(i, list(range(cut_bytes, size, cut_bytes)) if cut_bytes else None)
        want, got = rec.said(i), rec.facts_of(fold(events))
        wrong += [(i["id"], k, want[k], got[k]) for k in got if trouble or want[k] != got[k]]
    assert not wrong, wrong[:10]


@pytest.mark.parametrize("form", ["sse", "array", "whole"])
def test_what_we_write_says_the_same(form: str) -> None:
    wrong = []
    for i in rec.answers():
        events, _ = rec.read(i)
        if form == "whole":
            out = gemini.write_reply(fold(events), ASKED, "id", 1)
        else:
            write = gemini.writer(ASKED if form == "sse" else AS_ARRAY, "id", 1)
            out = b"".join(map(write, events)) + write.end()
        want = rec.said(i)
        got = rec.kit().answer_facts(rec.API, "chat" if form == "whole" else "stream", 200, out)
        names = ("text", "reasoning", "tool_calls", "finish_reason", "choices", "media_out", "usage")
        wrong += [(i["id"], k, want[k], got[k]) for k in names if want[k] != got[k]]
        again, trouble = rec.feed(out, form != "whole")
        assert trouble is None, (i["id"], trouble)
        signatures = [[c.signature for c in x.calls] for x in fold(events).choices]
        assert [[c.signature for c in x.calls] for x in fold(again).choices] == signatures, i["id"]
    assert not wrong, wrong[:10]


def test_other_dialects_write_them_too() -> None:
    for i in rec.answers():
        events, _ = rec.read(i)
        want = rec.said(i)
        got = rec.kit().answer_facts("openai.chat", "chat", 200, openai_chat.write_reply(fold(events), ASKED, "x", 1))
        for name in ("text", "reasoning", "tool_calls", "finish_reason", "usage"):
            assert got[name] == want[name], (i["id"], name)


@pytest.mark.parametrize("query", ["?alt=sse", ""])
def test_streams_that_pass_say_the_same(query: str) -> None:
    for i in rec.answers("stream"):
        want, size = rec.said(i), len(rec.body(i))
        for cuts in (None, list(range(17, size, 17))):
            out, watch = rec.pass_on(rec.body(i), query, cuts)
            assert watch.done, i["id"]
            assert watch.trouble is None, i["id"]
            got = rec.kit().answer_facts(rec.API, "stream", 200, out)
            assert {k: got[k] for k in got} == {k: want[k] for k in got}, i["id"]
            assert rec.usage_facts(watch.usage) == want["usage"], i["id"]


def test_whole_answers_that_pass_tell_their_usage() -> None:
    for i in rec.answers("chat"):
        assert rec.usage_facts(gemini.whole(200, rec.body(i))) == rec.said(i)["usage"], i["id"]


def test_half_an_answer_never_ends_well() -> None:
    """Cut anywhere: trouble, unless every finish was told already; the reader and the watch agree."""
    rng = random.Random(1)
    for i in rec.answers():
        raw = rec.body(i).rstrip()
        for _ in range(8):
            cut = raw[: rng.randrange(len(raw))]
            events, trouble = rec.feed(cut, i["kind"] == "stream")
            if trouble is None:
                assert i["kind"] == "stream", i["id"]
                assert rec.kit().answer_facts(rec.API, "stream", 200, cut)["native_finish"], i["id"]
                continue
            assert trouble.code == "upstream_truncated", (i["id"], trouble.say)
            assert not any(isinstance(e, Ended) for e in events)
            if i["kind"] == "stream" and cut.strip():
                watch = rec.pass_on(cut, "?alt=sse")[1]
                assert not watch.done, i["id"]
                assert watch.trouble is not None, i["id"]
                assert watch.trouble.code in ("upstream_truncated", "upstream_invalid"), i["id"]


def test_requests_ask_what_was_recorded() -> None:
    """The recorded facts in OpenAI's form, through neutral and out again."""
    wrong: list[Any] = []
    expect = rec.kit().expect
    seen = 0
    for i in rec.chats():
        facts = expect.request_facts(i)
        if facts is None or facts["server_tools"] or i["id"] in EMPTY_STOP | UNTYPED_FILE | REFUSED:
            continue
        seen += 1
        asked = openai_chat.read_request(json.dumps(expect.to_openai_request(facts)).encode())
        sent = gemini.write_body(asked, _target(facts))
        url, _ = gemini.endpoint(_target(facts), asked.stream)
        wrong += [(i["id"], d) for d in expect.compare(facts, expect.facts_of(rec.API, url, json.loads(sent.body)), ())]
    assert not wrong, wrong[:10]
    assert seen > 340


def test_recorded_bodies_carry_over() -> None:
    """A Gemini client's own body, written for OpenAI and for Gemini."""
    wrong: list[Any] = []
    expect = rec.kit().expect
    for i in rec.chats():
        facts, asked = expect.request_facts(i), rec.kit().request(i)
        if asked is None or i["id"] in EMPTY_STOP | LOWER_CASE_MODE | REFUSED:
            continue
        r = gemini.read_request(json.dumps(asked).encode(), rec.path(i))
        assert r.model == facts["model"], i["id"]
        assert gemini.check(json.dumps(asked).encode(), rec.path(i)).stream == facts["stream"], i["id"]
        url, _ = gemini.endpoint(_target(facts), r.stream)
        body = json.loads(gemini.write_body(r, _target(facts)).body)
        diff = expect.compare(facts, expect.facts_of(rec.API, url, body), ())
        if not facts["server_tools"] and i["id"] not in MEDIA_IN_RESULT | SOUND_BY_URL:
            body = json.loads(openai_chat.write_body(r, _target(facts)).body)
            diff += expect.compare(facts, expect.facts_of("openai.chat", "", body), ("stream",))
        wrong += [(i["id"], d) for d in diff]
    assert not wrong, wrong[:10]


def test_signatures_and_parts_come_back_unmodified() -> None:
    """Every signature of a recorded history stands in what is written again, on a part of the same sort."""
    seen = 0
    for i in rec.chats():
        asked = rec.kit().request(i)
        if asked is None or i["id"] in REFUSED:
            continue
        r = gemini.read_request(json.dumps(asked).encode(), rec.path(i))
        again = json.loads(gemini.write_body(r, Target(provider="p", model="gemini-2.5-pro")).body)
        want, got = _signed(asked), _signed(again)
        assert got == want, i["id"]
        seen += len(want)
    assert seen > 180


def test_signatures_of_answers_are_told() -> None:
    for i in rec.answers():
        raw = rec.body(i).decode()
        events, _ = rec.read(i)
        told = [e.signature for e in events if isinstance(e, Thought) and e.signature]
        told += [c.signature for x in fold(events).choices for c in x.calls if c.signature]
        assert len(told) == raw.count('"thoughtSignature"') or "toolCall" in raw or "executableCode" in raw, i["id"]


def test_refusals_are_told_in_their_own_words() -> None:
    seen = 0
    for i in rec.chats():
        status = i["response"]["status"]
        if status == 200:
            continue
        seen += 1
        want = rec.kit().expect.error_facts(status, rec.body(i))
        p = gemini.read_problem(status, rec.body(i))
        assert p.say == want["message"], i["id"]
        assert p.kind == want["type"]
        is_key = "API key" in p.say
        assert (p.fault, p.status) == (("provider_auth", 502) if is_key else _FAULTS[status]), i["id"]
        told = json.loads(gemini.write_problem(p, "req-1"))["error"]
        assert (told["code"], told["message"]) == (p.status, p.say)
        assert told["status"] == ("UNAVAILABLE" if is_key else want["type"])
    assert seen == 12


_FAULTS = {400: ("client", 400), 404: ("missing", 404), 429: ("limit", 429)}


def _signed(body: dict[str, Any]) -> list[tuple[str, str]]:
    out = []
    for content in body["contents"] if isinstance(body["contents"], list) else []:
        parts = content.get("parts") or []
        for part in parts if isinstance(parts, list) else [parts]:
            signature = part.get("thoughtSignature") or part.get("thought_signature")
            if signature:
                out.append(("call" if "functionCall" in part or "function_call" in part else "other", signature))
    return out
