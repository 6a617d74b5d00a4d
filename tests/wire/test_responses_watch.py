"""Responses answers that pass: bytes as they came, nothing before something real, no clean end for a cut one."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from msgspec import Raw
from tests.wire import responses_recordings as rec

from lilliput.neutral import Problem, Target
from lilliput.wire import responses
from lilliput.wire.families import ANTHROPIC
from lilliput.wire.responses.passing import Watch

ASKED = responses.check(b'{"model":"m","input":"x","stream":true}', "")


def passed(raw: bytes, cuts: list[int] | None = None) -> tuple[bytes, Watch]:
    watch = responses.watch(ASKED)
    edges = [0, *(cuts or ()), len(raw)]
    out = b"".join(watch.feed(raw[a:b]) for a, b in itertools.pairwise(edges) if not watch.trouble)
    return out + (b"" if watch.trouble else watch.end()), watch


def test_recorded_streams_pass_whole_and_in_pieces() -> None:
    expect = rec.kit().expect
    for i in rec.answers("stream"):
        raw = rec.body(i)
        for cuts in (None, list(range(17, len(raw), 17))):
            out, watch = passed(raw, cuts)
            assert watch.trouble is None
            assert (watch.done, watch.started) == (True, True)
            assert b"[DONE]" not in out
            assert expect.sse_json(out) == expect.sse_json(raw)
            assert all(name == json.loads(data)["type"] for name, data in expect.sse(out))
            want = rec.said(i)["usage"]
            got = rec.usage_facts(watch.usage)
            assert got is not None
            assert {**got, "cache_write_tokens": 0} == {**want, "cache_write_tokens": 0}
            assert json.loads(watch.response) == expect.sse_json(raw)[-1]["response"]


def test_a_cut_stream_is_trouble() -> None:
    dice = random.Random(4)
    for i in rec.answers("stream"):
        raw = rec.body(i).removesuffix(b"data: [DONE]\n\n").rstrip()
        for at in [dice.randrange(1, len(raw)) for _ in range(6)]:
            out, watch = passed(raw[:at])
            assert watch.trouble is not None
            assert watch.trouble.code == "upstream_truncated"
            assert (watch.done, watch.response) == (False, b"")
            assert b"response.completed" not in out


def event(**fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(fields).encode()


def test_nothing_goes_out_before_something_real() -> None:
    watch = responses.watch(ASKED)
    silent = [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.in_progress", "response": {"id": "r"}},
        {"type": "response.output_item.added", "item": {"type": "message"}},
        {"type": "response.content_part.added", "part": {}},
    ]
    for fields in silent:
        assert watch.feed(event(**fields)) == b""
        assert not watch.started
    out = watch.feed(event(type="response.output_text.delta", delta="x"))
    assert watch.started
    assert [e["type"] for e in rec.kit().expect.sse_json(out)] == [
        *(e["type"] for e in silent),
        "response.output_text.delta",
    ]


TROUBLES = [
    (event(type="error", code="rate_limit_exceeded", message="slow down"), "limit", "slow down"),
    (event(type="response.failed", response={"status": "failed", "error": {"message": "broke"}}), "provider", "broke"),
    (event(error={"message": "bad", "code": 401}), "provider_auth", "bad"),
    (b"data: {\n\n", "provider", "not JSON"),
    (b"data: {}\n\n", "provider", "no type"),
    (b'data: {"type":"\xff"}\n\n', "provider", "not JSON"),
]


@pytest.mark.parametrize(("bad", "fault", "say"), TROUBLES)
def test_a_bad_event_is_trouble_and_goes_no_further(bad: bytes, fault: str, say: str) -> None:
    good = event(type="response.output_text.delta", delta="x")
    watch = responses.watch(ASKED)
    out = watch.feed(good + bad + good)
    assert out.count(b"data: ") == 1
    assert watch.trouble is not None
    assert watch.trouble.fault == fault
    assert say in watch.trouble.say
    told = rec.kit().expect.sse_json(watch.problem(watch.trouble))
    assert [(e["type"], e["message"]) for e in told] == [("error", watch.trouble.say)]


def test_mutated_streams_never_raise() -> None:
    dice = random.Random(6)
    bodies = [rec.body(i) for i in rec.answers("stream") if len(rec.body(i)) < 20_000]
    for _ in range(1000):
        mutant = bytearray(dice.choice(bodies))
        for _ in range(3):
            at = dice.randrange(len(mutant))
            mutant[at : at + dice.choice((1, 5, 40))] = dice.choice((b"null", b"{}", b'"', b"\xff", b"\n\n", b""))
        _, watch = passed(bytes(mutant), [len(mutant) // 2])
        assert watch.done or watch.trouble is not None


def test_whole_answers_pass_with_their_usage() -> None:
    for i in rec.answers("chat"):
        usage = responses.whole(200, rec.body(i))
        want = rec.said(i)["usage"]
        got = rec.usage_facts(usage)
        assert (got is None) == (want is None)
        if got is not None:
            assert {**got, "cache_write_tokens": 0} == {**want, "cache_write_tokens": 0}


@pytest.mark.parametrize(
    ("body", "say"),
    [
        (b"x", "not JSON"),
        (b"{}", "no output"),
        (b'{"error":{"message":"bad"}}', "bad"),
        (b'{"status":"failed","output":[],"error":{"message":"broke"}}', "broke"),
    ],
)
def test_what_is_no_answer(body: bytes, say: str) -> None:
    with pytest.raises(Problem, match=say):
        responses.whole(200, body)


# -- rewrite -----------------------------------------------------------------------------------------------------


def rewritten(target: Target, **fields: Any) -> dict[str, Any]:
    raws = {name: Raw(json.dumps(value).encode()) for name, value in fields.items()}
    body: dict[str, Any] = json.loads(responses.rewrite(raws, ASKED, target))
    return body


def test_the_providers_model_is_asked_and_nothing_is_stored_there() -> None:
    plain = Target(provider="openai", model="gpt-4o", drop=("user",))
    body = rewritten(plain, model="mine", input="x", user="u", store=True, previous_response_id="resp_1")
    assert body == {"model": "gpt-4o", "input": "x", "store": False}


def test_reasoning_is_asked_for_sealed() -> None:
    five = Target(provider="openai", model="gpt-5")
    sealed = "reasoning.encrypted_content"
    assert rewritten(five, input="x")["include"] == [sealed]
    assert rewritten(five, input="x", include=["a"])["include"] == ["a", sealed]
    assert rewritten(five, input="x", include=[sealed])["include"] == [sealed]
    assert rewritten(five, input="x", include=None)["include"] == [sealed]
    assert "include" not in rewritten(Target(provider="openai", model="gpt-4o"), input="x")


def test_what_the_provider_is_asked_to_keep_is_left_to_it() -> None:
    body = rewritten(Target(provider="openai", model="gpt-5"), input="x", background=True)
    assert body == {"model": "gpt-5", "input": "x", "background": True}


def test_a_text_that_looks_like_reasoning_passes() -> None:
    assert rewritten(Target(provider="openai", model="gpt-4o"), input="reasoning")["input"] == "reasoning"


def test_reasoning_that_the_provider_cannot_read_is_left_out() -> None:
    message = {"role": "user", "content": 'a "reasoning" of sorts'}
    ours = {"type": "reasoning", "summary": [], "encrypted_content": "gA"}
    shown = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "so"}], "encrypted_content": None}
    others = [
        {"type": "reasoning", "summary": [], "encrypted_content": f"{ANTHROPIC}:sig"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "so"}]},
    ]
    body = rewritten(Target(provider="openai", model="gpt-5"), input=[message, ours, *others, shown])
    assert body["input"] == [message, ours, shown]
