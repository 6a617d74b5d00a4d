"""What the guard lets through to the engine, and what it refuses with the name of the field."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from msgspec import Raw

from lilliput.local import guard
from lilliput.neutral import Problem

MESSAGES = [{"role": "user", "content": "Hi"}]


def raws(**fields: object) -> dict[str, Raw]:
    return {k: Raw(v if isinstance(v, bytes) else msgspec.json.encode(v)) for k, v in fields.items()}


def shaped(schema: object) -> dict[str, object]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def told(kept: Mapping[str, Raw]) -> dict[str, object]:
    return {k: msgspec.json.decode(v) for k, v in kept.items()}


def test_known_fields_pass_and_others_are_left_out() -> None:
    known = {"model": "m", "messages": MESSAGES, "temperature": 0.5, "stop": ["x"], "n": 4, "stream": True}
    other = {"user": "u", "grammar": "root ::= root", "id_slot": 1, "lora": [], "n_probs": 10**9, "chat_template": "{{"}
    assert told(guard.chat(raws(**known, **other, seed=None, top_k=None), 4)) == known


SEEDS = [(5, 5), (-1, 2**32 - 2), (2**32 - 1, 0), (2**63, 2**63 % (2**32 - 1)), (1.0, 1)]


@pytest.mark.parametrize(("asked", "given"), SEEDS)
def test_every_seed_is_a_seed(asked: float, given: int) -> None:
    assert told(guard.chat(raws(seed=asked), 4)) == {"seed": given}


GOOD: list[tuple[str, dict[str, object]]] = [
    ("the ends of the ranges", {"temperature": 2, "top_p": 0, "presence_penalty": -2, "top_logprobs": 20}),
    ("one stop", {"stop": "###"}),
    ("biases", {"logit_bias": {"15": -100, "16": 3.5}}),
    ("text parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}),
    ("free JSON", {"response_format": {"type": "json_object"}}),
    ("a schema", shaped({"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}})),
    ("a property called minLength", shaped({"type": "object", "properties": {"minLength": {"type": "string"}}})),
    ("a property called pattern", shaped({"type": "object", "properties": {"pattern": {"type": "string"}}})),
    ("an address", shaped({"type": "string", "pattern": r"^([0-9]{1,3}\.){3}[0-9]{1,3}$"})),
    ("a uuid", shaped({"type": "string", "pattern": "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"})),
    ("a literal brace", shaped({"type": "string", "pattern": r"^\{[}{()]{1,9}$"})),
]


@pytest.mark.parametrize("fields", [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_good_fields_pass_unchanged(fields: dict[str, object]) -> None:
    assert told(guard.chat(raws(**fields), 4)) == fields


DEEP: dict[str, object] = {"type": "string"}
for _ in range(40):
    DEEP = {"type": "array", "items": DEEP}
BAD: list[tuple[str, dict[str, object], str]] = [
    ("no number", {"temperature": "hot"}, "temperature"),
    ("a boolean", {"temperature": True}, "temperature"),
    ("beyond the range", {"temperature": 2.1}, "temperature"),
    ("1e308", {"temperature": 1e308}, "temperature"),
    ("1e999", {"temperature": b"1e999"}, "temperature"),
    ("negative", {"top_p": -0.1}, "top_p"),
    ("no whole number", {"max_tokens": 1.5}, "max_tokens"),
    ("no tokens", {"max_tokens": 0}, "max_tokens"),
    ("2**63 tokens", {"max_completion_tokens": 2**63}, "max_completion_tokens"),
    ("10**400 tokens", {"max_tokens": b"1" + b"0" * 400}, "max_tokens"),
    ("more answers than slots", {"n": 5}, "n"),
    ("no answers", {"n": 0}, "n"),
    ("21 top logprobs", {"top_logprobs": 21}, "top_logprobs"),
    ("an empty stop", {"stop": [""]}, "stop"),
    ("stops of numbers", {"stop": [1]}, "stop"),
    ("17 stops", {"stop": ["a"] * 17}, "stop"),
    ("a long stop", {"stop": "a" * 257}, "stop"),
    ("a bias of words", {"logit_bias": {"a": 1}}, "logit_bias"),
    ("a bias of a list", {"logit_bias": [[1, 1]]}, "logit_bias"),
    ("a bias of 101", {"logit_bias": {"1": 101}}, "logit_bias"),
    ("a bias for a far token", {"logit_bias": {"99999999": 1}}, "logit_bias"),
    ("no messages", {"messages": []}, "messages"),
    ("an image", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
    ("a part without a type", {"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content"),
    ("a format in words", {"response_format": "json"}, "response_format"),
    ("an unknown format", {"response_format": {"type": "xml"}}, "response_format"),
    ("a format without its schema", {"response_format": {"type": "json_schema"}}, "response_format"),
    ("a schema that is a list", shaped([]), "response_format"),
    ("a schema that is true", shaped(True), "response_format"),
    ("a deep schema", shaped(DEEP), "response_format"),
    ("300 properties", shaped({"properties": {f"p{i}": {} for i in range(300)}}), "response_format"),
    ("300 enum values", shaped({"enum": list(range(300))}), "response_format"),
    ("long enum values", shaped({"enum": ["x" * 9000]}), "response_format"),
    ("70,000 bytes", shaped({"description": "x" * 70_000}), "response_format"),
    ("5,000 parts", shaped({"allOf": [{} for _ in range(5000)]}), "response_format"),
    ("least over greatest length", shaped({"type": "string", "minLength": 5, "maxLength": 2}), "response_format"),
    ("least over greatest items", shaped({"type": "array", "minItems": 5, "maxItems": 2}), "response_format"),
    ("minimum over maximum", shaped({"type": "integer", "minimum": 5, "maximum": 2}), "response_format"),
    ("a length of 10**9", shaped({"type": "string", "maxLength": 10**9}), "response_format.maxLength"),
    ("a length below 0", shaped({"type": "string", "minLength": -1}), "response_format.minLength"),
    ("a pattern that is none", shaped({"type": "string", "pattern": "("}), "response_format"),
    ("a pattern that runs backwards", shaped({"type": "string", "pattern": "^[z-a]$"}), "response_format"),
    ("a long pattern", shaped({"type": "string", "pattern": "a" * 300}), "response_format"),
    ("repeats in repeats", shaped({"pattern": "^((a{0,10}){0,10}){0,10}$"}), "response_format"),
    ("many open repeats", shaped({"pattern": "^(a?){100}$"}), "response_format"),
    ("a tool with a bad schema", {"tools": [{"function": {"parameters": {"minItems": 2, "maxItems": 1}}}]}, "tools"),
]


@pytest.mark.parametrize(("fields", "param"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_fields_are_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(Problem) as caught:
        guard.chat(raws(**fields), 4)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert len(caught.value.say) < 700


def test_embeddings_pass() -> None:
    for texts in ("a", ["a", "b"], [1, 2], [[1], [2, 3]]):
        assert told(guard.embeddings(raws(input=texts, model="m", user="u", encoding_format="base64"))) == {
            "input": texts,
            "model": "m",
            "encoding_format": "base64",
        }


BAD_EMBEDDINGS: list[tuple[str, dict[str, object], str]] = [
    ("nothing", {}, "input"),
    ("null", {"input": None}, "input"),
    ("an empty text", {"input": ""}, "input"),
    ("an empty list", {"input": []}, "input"),
    ("an empty text in a list", {"input": ["a", ""]}, "input"),
    ("a list of nulls", {"input": [None]}, "input"),
    ("an object", {"input": {"a": 1}}, "input"),
    ("a negative token", {"input": [-1]}, "input"),
    ("a far token", {"input": [2**63]}, "input"),
    ("a boolean token", {"input": [[True]]}, "input"),
    ("words among tokens", {"input": [1, "a"]}, "input"),
    ("2,049 texts", {"input": ["a"] * 2049}, "input"),
    ("an unknown encoding", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ("dimensions", {"input": "a", "dimensions": 8}, "dimensions"),
]


@pytest.mark.parametrize(("fields", "param"), [r[1:] for r in BAD_EMBEDDINGS], ids=[r[0] for r in BAD_EMBEDDINGS])
def test_bad_embeddings_are_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(Problem) as caught:
        guard.embeddings(raws(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)
