"""What the engine can do over its OpenAI-shaped HTTP, each thing once; one engine for the whole module."""

from __future__ import annotations

import base64
import json
import math
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.local.talk import Talk, said, talking

from lilliput.local import guard
from lilliput.local.settings import Settings
from lilliput.neutral import Problem

pytestmark = pytest.mark.slow

LIMIT_S = 60.0
PARALLEL = 4
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
STORY = "Write a very long story about the sea."
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def talk(smollm: Path) -> Iterator[Talk]:
    with talking(smollm, Settings(parallel=PARALLEL, context_tokens=1024)) as running:
        yield running


def test_an_answer_has_openais_form(talk: Talk) -> None:
    answer = talk.chat(max_tokens=4)
    (choice,) = answer["choices"]
    assert (answer["object"], answer["model"], choice["finish_reason"]) == ("chat.completion", "smollm2-135m", "length")
    assert choice["message"]["role"] == "assistant"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 4
    assert usage["total_tokens"] == usage["prompt_tokens"] + 4


def test_a_stream_says_what_the_whole_answer_says(talk: Talk) -> None:
    whole, events = talk.chat(max_tokens=12), talk.stream(max_tokens=12)
    assert events[-1] == "[DONE]"
    deltas = [e["choices"][0]["delta"] for e in events[:-1]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d.get("content") or "" for d in deltas) == said(whole)
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None] * (len(events) - 2) + ["length"]
    assert all("usage" not in e for e in events[:-1])


def test_a_stream_tells_its_usage_when_asked(talk: Talk) -> None:
    whole, events = talk.chat(max_tokens=5), talk.stream(max_tokens=5, stream_options={"include_usage": True})
    last = events[-2]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


def scored(entries: list[Any], top: int) -> None:
    for entry in entries:
        assert entry["logprob"] <= 0
        assert bytes(entry["bytes"]).decode("utf-8", "replace")
        assert len(entry["top_logprobs"]) == top
        ranked = [t["logprob"] for t in entry["top_logprobs"]]
        assert ranked == sorted(ranked, reverse=True)
        assert sum(math.exp(p) for p in ranked) <= 1.0001
    assert all(abs(entry["logprob"] - entry["top_logprobs"][0]["logprob"]) < 1e-4 for entry in entries)


def test_logprobs_are_those_of_the_tokens_said(talk: Talk) -> None:
    answer = talk.chat(max_tokens=6, logprobs=True, top_logprobs=3)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == 6
    assert b"".join(bytes(e["bytes"]) for e in entries).decode() == said(answer)
    scored(entries, 3)
    events = talk.stream(max_tokens=6, logprobs=True, top_logprobs=3)[:-1]
    streamed = [e for event in events for e in (event["choices"][0].get("logprobs") or {"content": []})["content"]]
    assert [e["token"] for e in streamed] == [e["token"] for e in entries]
    scored(streamed, 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_holds_whatever_the_dice_say(talk: Talk, seed: int) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    answer = talk.chat("Make up a person.", max_tokens=200, temperature=1.2, seed=seed, response_format=shape)
    person = json.loads(said(answer))
    assert set(person) == {"name", "age"}
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)


def test_a_seed_repeats_an_answer_and_another_one_does_not(talk: Talk) -> None:
    first, second, other = (said(talk.chat(STORY, max_tokens=24, temperature=1.5, seed=s)) for s in (7, 7, 8))
    assert first == second != other


def test_it_ends_before_a_stop_and_at_max_tokens(talk: Talk) -> None:
    free = said(talk.chat(STORY, max_tokens=40))
    stop = free.split()[6]
    answer = talk.chat(STORY, max_tokens=40, stop=[stop])
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert said(answer) == free[: free.index(stop)]
    assert talk.chat(STORY, max_tokens=3)["usage"]["completion_tokens"] == 3


def idle(talk: Talk) -> None:
    end_s = time.monotonic() + LIMIT_S
    while talk.busy():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_stream_that_is_left_frees_its_slot(talk: Talk) -> None:
    body = {"messages": [{"role": "user", "content": STORY}], "max_tokens": 900, "ignore_eos": True, "stream": True}
    connection, answer = talk.send(CHAT, body)
    assert answer.read(10)
    assert talk.busy() == 1
    connection.close()
    answer.close()
    idle(talk)


def test_four_at_once_say_what_each_says_alone(talk: Talk) -> None:
    asked = [f"Count to {n}." for n in (3, 5, 7, 9)]
    alone = [talk.chat(q, max_tokens=8)["usage"] for q in asked]
    together: dict[int, Any] = {}

    def one(i: int) -> None:
        together[i] = talk.chat(asked[i], max_tokens=8)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(asked))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(LIMIT_S)
    for i, usage in enumerate(alone):
        assert together[i]["usage"]["prompt_tokens"] == usage["prompt_tokens"]
        assert said(together[i])


def vectors(answer: Any) -> list[list[float]]:
    assert [d["index"] for d in answer["data"]] == list(range(len(answer["data"])))
    return [d["embedding"] for d in answer["data"]]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_embeddings_come_from_the_same_weights(talk: Talk) -> None:
    pairs = [
        ("A cat sat on the mat.", "A cat is sitting on a mat."),
        ("Interest rates rose by two percent.", "The central bank increased interest rates."),
        ("How do I reset my password?", "I forgot my password, what should I do?"),
        ("The recipe needs flour and eggs.", "Mix eggs and flour for this dish."),
    ]
    status, answer = talk.ask(EMBEDDINGS, {"input": [text for pair in pairs for text in pair], "model": "x"})
    assert status == 200
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 10
    found = vectors(answer)
    assert {len(v) for v in found} == {576}
    assert abs(cosine(found[0], found[0]) - 1) < 1e-4
    questions, answers = found[::2], found[1::2]
    nearest = [max(range(len(pairs)), key=lambda i, q=q: cosine(q, answers[i])) for q in questions]  # type: ignore[misc]
    assert nearest == list(range(len(pairs)))
    assert said(talk.chat())


def test_a_text_longer_than_one_step_is_embedded_and_one_longer_than_the_context_refused(talk: Talk) -> None:
    status, answer = talk.ask(EMBEDDINGS, {"input": "word " * 900})
    assert status == 200
    assert answer["usage"]["prompt_tokens"] > 512
    status, answer = talk.ask(EMBEDDINGS, {"input": "word " * 3000})
    assert status == 400


def test_embeddings_in_base64_are_the_same_floats(talk: Talk) -> None:
    _, plain = talk.ask(EMBEDDINGS, {"input": "hello"})
    _, packed = talk.ask(EMBEDDINGS, {"input": "hello", "encoding_format": "base64"})
    raw = base64.b64decode(packed["data"][0]["embedding"])
    floats = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert floats == pytest.approx(vectors(plain)[0], abs=1e-3)


REFUSED: list[tuple[str, str, object]] = [
    ("no messages", CHAT, {}),
    ("messages of another type", CHAT, {"messages": 5}),
    ("a message without content", CHAT, {"messages": [{"role": "user"}]}),
    ("content of another type", CHAT, {"messages": [{"role": "user", "content": 5}]}),
    ("an unknown part", CHAT, {"messages": [{"role": "user", "content": [{"type": "alien"}]}]}),
    ("longer than the context", CHAT, {"messages": [{"role": "user", "content": "word " * 2000}]}),
    ("negative n", CHAT, {"messages": [{"role": "user", "content": "Hi"}], "n": -1}),
    ("no input", EMBEDDINGS, {}),
    ("input of another type", EMBEDDINGS, {"input": 5}),
    ("a far token", EMBEDDINGS, {"input": [999_999]}),
]


@pytest.mark.parametrize(("path", "body"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_bad_input_is_a_clean_400(talk: Talk, path: str, body: object) -> None:
    status, answer = talk.ask(path, body)
    assert status == 400
    assert answer["error"]["message"]


def test_more_than_the_context_is_named_as_such(talk: Talk) -> None:
    _, answer = talk.ask(CHAT, {"messages": [{"role": "user", "content": "word " * 2000}]})
    assert answer["error"]["type"] == "exceed_context_size_error"


ODD: tuple[object, ...] = (None, True, "x", [], {}, -1, 0, 1.5, 1e308, -1e308, 2**31, 2**63, -(2**63), 10**30)
FIELDS = (*guard.RANGES, "n", "stop", "logit_bias", "response_format", "tools", "stream_options", "logprobs", "grammar")


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_odd_gets_past_guard_and_engine_but_as_a_4xx(talk: Talk, field: str) -> None:
    """The wire's reader stands before both, and refuses more."""
    for value in ODD:
        if field == "tools" and value is not None:
            continue  # its shape is the wire's to check
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, field: value}
        try:
            fields = guard.chat({k: Raw(msgspec.json.encode(v)) for k, v in body.items()}, PARALLEL)
        except Problem:  # always a 400: see test_guard
            continue
        connection, answer = talk.send(CHAT, None, raw=msgspec.json.encode(fields))
        answer.read()
        connection.close()
        assert answer.status < 500, (field, value)
