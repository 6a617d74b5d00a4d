"""Recorded legacy completions of every provider: what was said is what we read, and what we write says it again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import structs
from tests.wire import chat_recordings as rec
from tests.wire import test_cohere_recordings as kit

from lilliput.neutral import Problem, Request, Target, fold
from lilliput.wire import completions as dialect

CHAT_FORM = {"portkey-191dc8b4dd"}
"""A chat answer at a path that ends as a completion's: to `expect.py` it has no text."""
NO_END = {"writer-e80211a05e"}
"""Writer's stream says nothing of its end: it may as well be cut."""
TARGET = Target(provider="p", model="m", base="http://localhost/v1")
ASKED = Request(model="m", messages=(), stream=True, include_usage=True)


def answers() -> list[Any]:
    found = [i for i in kit.recorded("openai.completions") if i["id"] not in CHAT_FORM | NO_END]
    return [{**i, "kind": "stream" if i["kind"] == "stream" else "chat"} for i in found]


def test_answers_say_what_was_recorded() -> None:
    assert len(answers()) == 22
    for i in answers():
        for every in (10**9, 17, 1):
            assert not kit.differences(i, dialect, kit.cuts_of(i, every))


def test_what_we_write_says_the_same() -> None:
    for i in answers():
        want = rec.kit().expect.response_facts(i)
        events, _ = kit.feed(dialect, rec.body(i), i["kind"] == "stream")
        write = dialect.writer(ASKED)
        streamed = b"".join(map(write, events)) + write.end()
        for kind, out in (("stream", streamed), ("chat", dialect.write_reply(fold(events), ASKED))):
            got = rec.kit().answer_facts("openai.completions", kind, 200, out)
            for name in ("text", "finish_reason", "usage"):
                assert got[name] == want[name], (i["id"], kind)
            assert not kit.feed(dialect, out, kind == "stream")[1]


def test_half_an_answer_never_ends_well() -> None:
    for i in answers():
        if i["kind"] == "stream":
            finished = rec.body(i).index(b'"finish_reason":"')
            raw = rec.body(i)
            for size in range(1, finished, 211):
                events, trouble = kit.feed(dialect, raw[:size], True)
                assert trouble is not None
                assert trouble.code == "upstream_truncated"
                assert not any(type(e).__name__ == "Ended" for e in events)


def test_a_stream_without_an_end_is_cut() -> None:
    (i,) = (i for i in kit.recorded("openai.completions") if i["id"] in NO_END)
    events, trouble = kit.feed(dialect, rec.body(i), True)
    assert trouble is not None
    assert trouble.code == "upstream_truncated"
    assert fold(events).choices[0].text == rec.kit().expect.response_facts(i)["text"]


def test_a_chat_answer_is_read_too() -> None:
    (i,) = (i for i in kit.recorded("openai.completions") if i["id"] in CHAT_FORM)
    events, trouble = kit.feed(dialect, rec.body(i), False)
    assert trouble is None
    assert fold(events).choices[0].text == json.loads(rec.body(i))["choices"][0]["message"]["content"]


def test_a_watched_stream_passes_as_it_came() -> None:
    for i in answers():
        if i["kind"] != "stream":
            passed, read = dialect.whole(200, rec.body(i)), fold(kit.feed(dialect, rec.body(i), False)[0]).usage
            given = None if passed is None else passed.given
            assert passed == (None if read is None else structs.replace(read, given=given))
            continue
        asked = dialect.check(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
        raw = rec.body(i)
        watch = dialect.watch(asked)
        out = b"".join(watch.feed(raw[at : at + 17]) for at in range(0, len(raw), 17)) + watch.end()
        assert (out, watch.done, watch.trouble) == (raw, True, None)
        half = dialect.watch(asked)
        half.feed(raw[: raw.index(b'"finish_reason":"')])
        half.end()
        assert half.trouble is not None
        assert half.trouble.code == "upstream_truncated"


def test_the_first_text_is_passed_at_once() -> None:
    watch = dialect.watch(dialect.check(b'{"model":"m","stream":true}'))
    assert watch.feed(b'data: {"choices":[{"index":0,"text":"","finish_reason":null}]}\n\n') == b""
    assert watch.feed(b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n').count(b"data:") == 2
    assert watch.started


def test_recorded_requests_are_read_and_written_again() -> None:
    for i in rec.kit().interactions:
        asked = rec.kit().request(i) if i["api"] == "openai.completions" else None
        if asked is None or "prompt" not in asked:
            continue
        body = json.dumps(asked).encode()
        if i["response"]["status"] == 400 or (isinstance(asked["prompt"], list) and len(asked["prompt"]) > 1):
            with pytest.raises(Problem) as refused:
                dialect.read_request(body)
            assert refused.value.status == 400
            continue
        r = dialect.read_request(body)
        sent = dialect.write_body(r, TARGET)
        got = json.loads(sent.body)
        want = {k: v for k, v in asked.items() if v is not None} | {"model": "m"}
        want["prompt"] = asked["prompt"] if isinstance(asked["prompt"], str) else asked["prompt"][0]
        if want.pop("stream", False):
            want |= {"stream": True, "stream_options": {"include_usage": True}}
        assert got == want, i["id"]
        assert sent.dropped == ()


def test_a_body_of_the_same_dialect_keeps_its_prompts() -> None:
    raw = b'{"model":"a","prompt":[[1,2],[3]],"stream":true}'
    asked: Any = dialect.check(raw)
    body = dialect.rewrite(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]), asked, TARGET)
    assert json.loads(body) == {
        "model": "m",
        "prompt": [[1, 2], [3]],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("status", [400, 401, 404])
def test_refusals_are_told_in_their_own_words(status: int) -> None:
    found = kit.recorded("openai.completions", status)
    assert found
    for i in found:
        p = dialect.read_problem(status, rec.body(i))
        assert p.say == rec.kit().expect.error_facts(status, rec.body(i))["message"]
