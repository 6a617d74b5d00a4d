"""Embeddings: every recorded call, asked in OpenAI's form and answered in it."""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target
from lilliput.wire.operations import embeddings, modalities
from lilliput.wire.operations.modality import JSON

OP = embeddings.OPERATION

NOT_OURS = {
    "openai-89472cfe2d": "its dimensions are -1, which we refuse ourselves",
}
TOLD_ELSEWHERE = {
    "bedrock-0140868c8f": 5,
    "bedrock-246f8d05a6": 7,
    "bedrock-554f607a7c": 3,
    "bedrock-d16d5b0ee8": 4,
    "vertex-ca22bc07a0": 22,
    "vertex-d05993ab61": 22,
}
"""Tokens that the provider tells where the kit does not look: in a header, or beside each vector."""


def _asks(i: Any, **more: Any) -> bytes:
    return json.dumps(recorded.client_body(i) | more).encode()


def test_answers_say_what_was_recorded() -> None:
    seen = 0
    for i in recorded.recorded("embeddings"):
        if i["id"] in NOT_OURS:
            continue
        want = recorded.said(i)
        if want["error"]:
            with pytest.raises(Problem) as caught:
                recorded.converted(i, OP, _asks(i))
            assert caught.value.say == want["error"]["message"], i["id"]
            assert caught.value.status == {401: 502}.get(want["error"]["status"], want["error"]["status"]), i["id"]
            continue
        answer = recorded.converted(i, OP, _asks(i))
        got, tokens = recorded.facts(i, answer.body), (want["usage"] or {}).get("prompt_tokens")
        assert (got["embeddings"], got["dim"]) == (want["embeddings"], want["dim"]), i["id"]
        told = TOLD_ELSEWHERE.get(i["id"], tokens)
        assert (got["usage"] or {}).get("prompt_tokens") == told, i["id"]
        assert (answer.usage.prompt_tokens if answer.usage else None) == told, i["id"]
        seen += 1
    assert seen >= 37


def test_providers_are_asked_what_was_recorded() -> None:
    seen = 0
    for i in recorded.recorded("embeddings"):
        if i["id"] in NOT_OURS or i["id"] == "gemini-216830cfea":  # a picture, which OpenAI's form cannot ask about
            continue
        target, asks = recorded.target(i), _asks(i)
        adapter = OP.adapters[target.dialect]
        asked = OP.check(asks, JSON)
        want = {k: v for k, v in json.loads(recorded.request(i)).items() if v is not None}
        sent = adapter.write(asks, asked, target)
        assert _plain(json.loads(sent.body)) == _plain(want), i["id"]
        assert sent.dropped == (), i["id"]
        url, headers = adapter.endpoint(target, asked)
        path = unquote(urlsplit(i["request"]["url"]).path)
        path = {"/v1/embed": "/v2/embed", "/api/embeddings": "/api/embed"}.get(path, path)
        assert unquote(urlsplit(url).path) == path, i["id"]
        assert ("authorization", "Bearer k") in headers
        seen += 1
    assert seen >= 45


def _plain(sent: dict[str, Any]) -> dict[str, Any]:
    """A body without what does not matter: how one text is put, defaults, and what older paths called otherwise."""
    out = dict(sent)
    defaults: tuple[dict[str, Any], ...] = ({"embedding_types": ["float"]}, {"normalize": True}, {"options": {}})
    for default in defaults:
        for name, value in default.items():
            if out.get(name) == value:
                del out[name]
    if "prompt" in out:
        out["input"] = out.pop("prompt")
    if out.get("encoding_format") == "float":
        del out["encoding_format"]
    if isinstance(out.get("input"), str):
        out["input"] = [out["input"]]
    for ask in out.get("requests", ()):
        ask["content"].pop("role", None)
    if "model" in out:
        out["model"] = "same" if isinstance(out["model"], str) else out["model"]
    return out


def test_a_vector_is_numbers_or_base64_of_them() -> None:
    for i in recorded.recorded("embeddings"):
        if i["response"]["status"] >= 400 or recorded.target(i).dialect in (
            "openai_chat",
            "azure",
            "voyage",
            "mistral",
        ):
            continue
        plain = json.loads(recorded.converted(i, OP, _asks(i, encoding_format="float")).body)
        coded = json.loads(recorded.converted(i, OP, _asks(i, encoding_format="base64")).body)
        for a, b in zip(plain["data"], coded["data"], strict=True):
            raw = base64.b64decode(b["embedding"])
            assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(a["embedding"], rel=1e-6), i["id"]
        assert [each["index"] for each in plain["data"]] == list(range(len(plain["data"])))


def _target(dialect: str, model: str = "m") -> Target:
    return Target(provider="p", model=model, dialect=dialect, base="https://example.test")


def _sent(dialect: str, model: str = "m", **asks: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = json.dumps({"model": "m", "input": "a"} | asks).encode()
    sent = OP.adapters[dialect].write(body, OP.check(body, JSON), _target(dialect, model))
    return json.loads(sent.body), sent.dropped


PURPOSES = [
    ("cohere", "query", "input_type", "search_query"),
    ("cohere", "clustering", "input_type", "clustering"),
    ("cohere", None, "input_type", "search_document"),
    ("voyage", "search_document", "input_type", "document"),
    ("voyage", None, "input_type", None),
    ("jina", "search_query", "task", "retrieval.query"),
]


@pytest.mark.parametrize(("dialect", "given", "field", "want"), PURPOSES)
def test_purpose(dialect: str, given: str | None, field: str, want: str | None) -> None:
    assert _sent(dialect, input_type=given)[0].get(field) == want


def test_purpose_at_google() -> None:
    assert _sent("gemini", input_type="clustering")[0]["requests"][0]["taskType"] == "CLUSTERING"
    assert _sent("gemini", input_type="query")[0]["requests"][0]["taskType"] == "RETRIEVAL_QUERY"


DIMENSIONS = [
    ("openai_chat", "m", "dimensions"),
    ("mistral", "m", "output_dimension"),
    ("voyage", "m", "output_dimension"),
    ("jina", "m", "dimensions"),
    ("cohere", "m", "output_dimension"),
    ("bedrock", "eu.cohere.embed-v4:0", "output_dimension"),
    ("bedrock", "amazon.titan-embed-text-v2:0", "dimensions"),
    ("ollama", "m", "dimensions"),
]


@pytest.mark.parametrize(("dialect", "model", "field"), DIMENSIONS)
def test_dimensions(dialect: str, model: str, field: str) -> None:
    sent = _sent(dialect, model, dimensions=64)[0]
    assert {name: value for name, value in sent.items() if "dimension" in name} == {field: 64}


@pytest.mark.parametrize("dialect", sorted(OP.adapters))
def test_token_numbers_are_for_openai_form_alone(dialect: str) -> None:
    if dialect in ("openai_chat", "openai_completions", "openai_responses", "azure", "mistral"):
        assert _sent(dialect, input=[1, 2])[0]["input"] == [1, 2]
        return
    with pytest.raises(Problem, match="token numbers") as caught:
        _sent(dialect, input=[[1, 2]])
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_titan_embeds_one_text_a_call() -> None:
    with pytest.raises(Problem, match="2 inputs at once"):
        _sent("bedrock", "amazon.titan-embed-text-v2:0", input=["a", "b"])


def test_nulls_are_left_out_and_losses_told() -> None:
    assert _sent("openai_chat", encoding_format=None, user="u") == ({"model": "m", "input": "a", "user": "u"}, ())
    assert _sent("mistral", user="u", input_type="query") == ({"model": "m", "input": "a"}, ("input_type", "user"))
    assert _sent("cohere", user="u", odd=1)[1] == ("user", "odd")
    assert _sent("voyage", user="u", truncation=False) == (
        {"model": "m", "input": ["a"], "truncation": False},
        ("user",),
    )


REFUSED = [
    (b"{}", "model"),
    (b'{"model":"m"}', "input"),
    (b'{"model":"m","input":""}', "input"),
    (b'{"model":"m","input":[]}', "input"),
    (b'{"model":"m","input":"a","dimensions":0}', "dimensions"),
    (b'{"model":"m","input":"a","encoding_format":"hex"}', "encoding_format"),
    (b'{"model":"m","input":"a","input_type":1}', "input_type"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_refused(body: bytes, param: str) -> None:
    with pytest.raises(Problem) as caught:
        OP.check(body, JSON)
    assert (caught.value.status, caught.value.param) == (400, param)


BAD = [
    ("cohere", b'{"embeddings":{"float":[[1.0]]}}', "1 vectors for 2 inputs"),
    ("cohere", b'{"embeddings":{"float":[[1.0],[]]}}', "an empty one"),
    ("cohere", b'{"message":"no"}', "not what was asked for"),
    ("gemini", b'{"embeddings":[{"values":["a"]}]}', "not what was asked for"),
    ("ollama", b'{"error":"model not found"}', r"^model not found$"),
    ("openai_chat", b'{"error":{"message":"busy","code":503}}', r"^busy$"),
    ("openai_chat", b"<html>", "not what was asked for"),
    ("openai_chat", b'{"object":"list"}', "not what was asked for"),
]


@pytest.mark.parametrize(("dialect", "answer", "say"), BAD)
def test_no_answer(dialect: str, answer: bytes, say: str) -> None:
    asked = OP.check(b'{"model":"m","input":["a","b"]}', JSON)
    with pytest.raises(Problem, match=say) as caught:
        OP.adapters[dialect].read(200, answer, recorded.no_header, asked, _target(dialect))
    assert caught.value.status >= 500


def test_a_number_past_32_bits_is_told() -> None:
    asked = OP.check(b'{"model":"m","input":"a","encoding_format":"base64"}', JSON)
    with pytest.raises(Problem, match="32-bit"):
        OP.adapters["ollama"].read(200, b'{"embeddings":[[1e300]]}', recorded.no_header, asked, _target("ollama"))


def test_vertex_predicts() -> None:
    target = Target(provider="p", model="m", dialect="gemini", base="https://v.test/v1/projects/x/publishers/google")
    body = b'{"model":"m","input":"a","dimensions":8}'
    asked = OP.check(body, JSON)
    assert OP.adapters["gemini"].endpoint(target, asked)[0].endswith("/publishers/google/models/m:predict")
    sent = json.loads(OP.adapters["gemini"].write(body, asked, target).body)
    assert sent == {"instances": [{"content": "a"}], "parameters": {"outputDimensionality": 8}}


def test_whoever_lacks_an_operation_is_told_what_there_is() -> None:
    problem = modalities.lacking("embeddings", _target("anthropic"))
    assert (problem.status, problem.code) == (400, "unsupported_operation")
    assert problem.say == "p/m does no embeddings; its provider's operations here: chat"
    assert modalities.lacking("rerank", _target("deepgram")).say.endswith("here: transcription, speech")


def test_mutated_answers_raise_only_problems() -> None:
    dice = random.Random(7)
    good = [i for i in recorded.recorded("embeddings") if i["response"]["status"] == 200]
    tried = 0
    for i in good:
        raw, target = recorded.body(i), recorded.target(i)
        asked = OP.check(_asks(i, encoding_format="base64"), JSON)
        ends = raw[:60], raw[-160:]
        for _ in range(60):
            head, tail = (bytearray(end) for end in ends)
            piece = dice.choice((head, tail))
            at = dice.randrange(len(piece))
            piece[at : at + dice.randrange(3)] = bytes(dice.randrange(256) for _ in range(dice.randrange(3)))
            mutated = bytes(head) + dice.choice((b"", b"0.5,0.5", raw[60:200])) + bytes(tail)
            try:
                OP.adapters[target.dialect].read(200, mutated, recorded.no_header, asked, target)
            except Problem:
                pass
            tried += 1
    assert tried >= 2000
