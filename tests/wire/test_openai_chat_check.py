"""Chat requests that are refused: always a 400 that names the field and shows its value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from lilliput.neutral import Problem
from lilliput.wire import openai as chat

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _message(**fields: Any) -> dict[str, Any]:
    return {"messages": [fields]}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "invalid_type"),
    ({"model": ""}, "model", "invalid_value"),
    ({"model": "x" * 257}, "model", "invalid_value"),
    ({"messages": "hi"}, "messages", "invalid_type"),
    ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    (_message(content="x"), "messages[0].role", "missing_required_parameter"),
    (_message(role="robot", content="x"), "messages[0].role", "invalid_value"),
    (_message(role="user"), "messages[0].content", "missing_required_parameter"),
    (_message(role="user", content=5), "messages[0].content", "invalid_type"),
    (_message(role="user", content=[5]), "messages[0].content[0]", "invalid_type"),
    (_message(role="user", content=[{"type": "text", "text": 5}]), "messages[0].content[0].text", "invalid_type"),
    (_message(role="function", content="x"), "messages[0].name", "missing_required_parameter"),
    (_message(role="assistant", tool_calls=[{}]), "messages[0].tool_calls[0].function", "missing_required_parameter"),
    (_message(role="assistant", tool_calls=5), "messages[0].tool_calls", "invalid_type"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 129}, "n", "invalid_value"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"top_p": 1.1}, "top_p", "invalid_value"),
    ({"presence_penalty": 2.5}, "presence_penalty", "invalid_value"),
    ({"frequency_penalty": -2.5}, "frequency_penalty", "invalid_value"),
    ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"logprobs": 5}, "logprobs", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 2**31}, "max_tokens", "invalid_value"),
    ({"max_completion_tokens": -1}, "max_completion_tokens", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"stop": ["x"] * 17}, "stop", "invalid_value"),
    ({"stop": [5]}, "stop[0]", "invalid_type"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": True}, "stream_options", "invalid_type"),
    ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage", "invalid_type"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [{"type": "custom"}]}, "tools[0].custom", "missing_required_parameter"),
    ({"tools": [{"function": {"name": ""}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [{"function": {"name": "f", "parameters": "x"}}]}, "tools[0].function.parameters", "invalid_type"),
    ({"tool_choice": "maybe"}, "tool_choice", "invalid_value"),
    ({"tool_choice": 5}, "tool_choice", "invalid_type"),
    ({"response_format": "json"}, "response_format", "invalid_type"),
    ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
        "response_format.json_schema.schema",
        "invalid_type",
    ),
    ({"logit_bias": {"5": "x"}}, "logit_bias", "invalid_type"),
    ({"metadata": {"a": 5}}, "metadata", "invalid_type"),
    ({"user": 5}, "user", "invalid_type"),
    ({"reasoning_effort": 5}, "reasoning_effort", "invalid_type"),
    ({"modalities": "text"}, "modalities", "invalid_type"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_type"),
    ({"functions": [{}]}, "functions[0].name", "missing_required_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=[f"{p} {json.dumps(f)[:50]}" for f, p, _ in REFUSED])
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        chat.check(json.dumps(HI | fields).encode())
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert param in caught.value.say


def test_the_wrong_value_is_shown_but_not_all_of_it() -> None:
    with pytest.raises(Problem, match=r'^temperature is "warm": expected float \| null, got str$'):
        chat.check(json.dumps(HI | {"temperature": "warm"}).encode())
    with pytest.raises(Problem) as caught:
        chat.check(json.dumps(HI | {"n": "x" * 10_000}).encode())
    assert len(caught.value.say) < 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"null", "invalid_type"),
        (b'"x"', "invalid_type"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', "invalid_json"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}', "invalid_value"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}', "invalid_json"),
        (b'{"x":' + b"[" * 100_000, "json_too_deep"),
        (b'{"messages":' + b"[" * 100_000, "invalid_type"),
    ],
)
def test_what_is_no_request_at_all(body: bytes, code: str) -> None:
    for reads in (chat.check, chat.read_request):
        with pytest.raises(Problem) as caught:
            reads(body)
        assert (caught.value.status, caught.value.code) == (400, code)


def test_every_field_that_openais_sdk_knows_has_a_type() -> None:
    assert CompletionCreateParamsBase.__annotations__.keys() <= set(chat.Body.__struct_fields__)
