"""Amazon Bedrock's real traffic: what was said is what we read, and what was asked is what we ask."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from tests.conformance.kit import Interaction
from tests.wire import bedrock_recordings as rec

from lilliput.neutral import Ended, Request, Target, fold
from lilliput.wire import openai as openai_chat

APIS = ("bedrock.converse", "bedrock.invoke")
OTHERWISE = {
    "bedrock-208cead0be": {"text"},  # SageMaker's text completion: `expect.py` looks for a message
    "bedrock-5dace2e273": {"finish_reason"},  # Titan's FINISH, which `expect.py` takes for no word at all
    "bedrock-a6e0a1e2c3": {"finish_reason"},
    "bedrock-e2168e0984": {"finish_reason"},
    "bedrock-e2409b47a2": {"finish_reason"},
    "bedrock-affaeb56d1": {"text", "finish_reason", "choices"},  # two answers that `expect.py` reads as one
    "bedrock-fb5fa74bb5": {"choices"},
    "bedrock-bca68da32c": {"finish_reason"},  # the last piece has a finish and no text, so `expect.py` misses it
}
"""Where `expect.py` tells less than the recording says."""
MAX_TOKENS = {"bedrock-7818e7b5a3", "bedrock-c246b45501"}
"""Anthropic's text completions, which go out as messages: those must have a max_tokens."""


def _told(api: str, i: Interaction, cuts: range) -> list[tuple[object, ...]]:
    want = rec.kit().expect.response_facts(i)
    events, trouble = rec.feed(api, rec.body(i), i["kind"] == "stream", cuts)
    got = rec.facts(events)
    names = set(got) - {"media_out"} - OTHERWISE.get(i["id"], set())
    return [(i["id"], name, want[name], got[name], trouble) for name in names if trouble or want[name] != got[name]]


@pytest.mark.parametrize("api", APIS)
def test_answers_say_what_was_recorded(api: str) -> None:
    """Fed whole, in pieces of 17 bytes and, where that is quick, byte by byte."""
    wrong: list[tuple[object, ...]] = []
    for i in rec.answers(api):
        size = len(rec.body(i))
        for cuts in (range(0), range(17, size, 17), range(1, size) if size < 12_000 else range(0)):
            wrong += _told(api, i, cuts)
    assert not wrong, wrong[:10]


@pytest.mark.parametrize("api", APIS)
def test_a_stream_cut_between_two_messages_never_ends_well(api: str) -> None:
    """Nor in the middle of one: only the last message says that it is over."""
    seen = 0
    for i in rec.answers(api, "stream"):
        *messages, last = rec.frames(rec.body(i))
        for n in {0, 1, len(messages) // 2, len(messages) - 1, len(messages)}:
            for cut in (b"", last[: len(last) // 2]):
                events, trouble = rec.feed(api, b"".join(messages[:n]) + cut, True)
                assert trouble is not None, (i["id"], n)
                assert trouble.code == "upstream_truncated", (i["id"], n, trouble.say)
                assert not any(isinstance(e, Ended) for e in events), (i["id"], n)
                seen += 1
    assert seen > 200


@pytest.mark.parametrize("api", APIS)
def test_half_a_whole_answer_is_truncated(api: str) -> None:
    for i in rec.answers(api, "chat"):
        trouble = rec.feed(api, rec.body(i)[: len(rec.body(i)) // 2], False)[1]
        assert trouble is not None, i["id"]
        assert trouble.code == "upstream_truncated", i["id"]


@pytest.mark.parametrize("api", APIS)
def test_requests_ask_what_was_recorded(api: str) -> None:
    expect = rec.kit().expect
    wrong, seen = [], 0
    for i in rec.recorded(api):
        asked = expect.request_facts(i)
        if asked is None or asked["server_tools"]:
            continue
        seen += 1
        model = unquote(i["request"]["url"].split("/model/")[1].split("/")[0])
        target = Target(provider="bedrock", model=model, base="https://bedrock")
        r = openai_chat.read_request(json.dumps(expect.to_openai_request(asked)).encode())
        url, _ = rec.MODULES[api].endpoint(target, r.stream)
        got = expect.facts_of(api, url, json.loads(rec.MODULES[api].write_body(r, target).body))
        ignored = ("max_tokens",) if i["id"] in MAX_TOKENS else ()
        wrong += [(i["id"], d) for d in expect.compare(asked, got, ignore=ignored)]
    assert not wrong, wrong[:10]
    assert seen > 70


@pytest.mark.parametrize("api", APIS)
def test_urls_are_those_that_aws_was_called_at(api: str) -> None:
    for i in rec.recorded(api):
        path = i["request"]["url"].partition("/model/")[2]
        model, _, operation = path.partition("/")
        target = Target(provider="bedrock", model=unquote(model), base="https://bedrock")
        url, _ = rec.MODULES[api].endpoint(target, operation.endswith("stream"))
        assert url == f"https://bedrock/model/{model.replace(':', '%3A')}/{operation}", i["id"]


@pytest.mark.parametrize("api", APIS)
def test_refusals_are_told_in_their_own_words(api: str) -> None:
    for i in rec.recorded(api):
        status = i["response"]["status"]
        if status != 200:
            p = rec.MODULES[api].read_problem(status, rec.body(i))
            assert p.say == rec.kit().expect.error_facts(status, rec.body(i))["message"]
            assert (p.status, p.fault) == {403: (502, "provider_auth")}.get(status, (400, "client"))


@pytest.mark.parametrize("api", APIS)
def test_what_was_read_can_be_told_to_an_openai_client(api: str) -> None:
    asked = Request(model="m", messages=(), stream=True, include_usage=True)
    for i in rec.answers(api):
        events, _ = rec.feed(api, rec.body(i), i["kind"] == "stream")
        want = rec.facts(events)
        write = openai_chat.writer(asked)
        streamed = b"".join(map(write, events)) + write.end()
        for kind, out in (("stream", streamed), ("chat", openai_chat.write_reply(fold(events), asked))):
            got = rec.kit().answer_facts("openai.chat", kind, 200, out)
            for name in ("text", "reasoning", "tool_calls", "finish_reason", "usage"):
                assert got[name] == want[name], (i["id"], kind, name)
