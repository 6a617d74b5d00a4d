"""Providers' errors in all their shapes, and ours in OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lilliput.neutral import Problem
from lilliput.wire import openai as chat
from lilliput.wire.broken import scrub

SHAPES: list[tuple[str, int, Any, tuple[str, int, str, str | None, str | None]]] = [
    # name, status, body -> fault, status, say, code, kind
    (
        "OpenAI",
        400,
        {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
        ("client", 400, "m", "c", "t"),
    ),
    ("text", 400, {"error": "m"}, ("client", 400, "m", None, None)),
    ("xAI", 400, {"code": "Client error", "error": "m"}, ("client", 400, "m", "Client error", None)),
    (
        "xAI's refused key",
        400,
        {"code": "x", "error": "Incorrect API key provided: x"},
        ("provider_auth", 502, "Incorrect API key provided: x", "x", None),
    ),
    (
        "Gemini's refused key",
        400,
        [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}],
        ("provider_auth", 502, "API key not valid.", "400", "INVALID_ARGUMENT"),
    ),
    (
        "a caller's words about keys",
        400,
        {"error": {"message": "bad value 'invalid api key'"}},
        ("client", 400, "bad value 'invalid api key'", None, None),
    ),
    ("Mistral", 422, {"detail": "m"}, ("client", 422, "m", None, None)),
    (
        "FastAPI",
        422,
        {"detail": [{"loc": ["body"], "msg": "m"}]},
        ("client", 422, '[{"loc":["body"],"msg":"m"}]', None, None),
    ),
    ("Cohere", 404, {"id": "x", "message": "m"}, ("missing", 404, "m", None, None)),
    ("message and type", 400, {"message": "m", "type": "t", "code": "c"}, ("client", 400, "m", "c", "t")),
    ("OpenRouter", 429, {"error": {"code": 429, "message": "m"}}, ("limit", 429, "m", "429", None)),
    ("an empty error", 500, {"error": {}}, ("provider", 502, 'the provider answered 500: {"error": {}}', None, None)),
    ("a JSON text", 500, "m", ("provider", 502, "m", None, None)),
    ("plain text", 500, b"upstream connect error", ("provider", 502, "upstream connect error", None, None)),
    (
        "a web page",
        502,
        b"<html><title>Bad Gateway</title>",
        ("provider", 502, "the provider answered 502 with a web page, titled 'Bad Gateway'", None, None),
    ),
    ("nothing", 500, b"", ("provider", 502, "the provider answered 500 with an empty body", None, None)),
    ("cut JSON", 500, b'{"error": {"mess', ("provider", 502, '{"error": {"mess', None, None)),
    ("deep JSON", 500, b"[" * 5000, ("provider", 502, "[" * 1999 + "…", None, None)),
    ("no access", 403, {"error": {"message": "m"}}, ("provider_auth", 502, "m", None, None)),
    (
        "flagged input",
        403,
        {"error": {"message": "your input was flagged", "code": 403}},
        ("client", 403, "your input was flagged", "403", None),
    ),
    ("no money", 402, {"error": {"message": "m"}}, ("provider_auth", 502, "m", None, None)),
    (
        "too long: vLLM",
        400,
        {"object": "error", "message": "This model's maximum context length is 8192 tokens.", "code": 400},
        ("client", 400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded", None),
    ),
    (
        "too long: llama.cpp",
        500,
        {"error": {"code": 500, "message": "m", "type": "exceed_context_size_error", "n_ctx": 256}},
        ("client", 400, "m", "context_length_exceeded", "exceed_context_size_error"),
    ),
    ("a timeout", 504, {"error": {"message": "m"}}, ("timeout", 504, "m", None, None)),
    ("request timeout", 408, {"error": {"message": "m"}}, ("timeout", 504, "m", None, None)),
    ("too large", 413, {"error": {"message": "m"}}, ("client", 413, "m", None, None)),
    (
        "overloaded",
        529,
        {"error": {"type": "overloaded_error", "message": "m"}},
        ("provider", 503, "m", None, "overloaded_error"),
    ),
    ("unavailable", 503, {"error": "m"}, ("provider", 503, "m", None, None)),
    ("a wrong method is our fault", 405, {"error": "m"}, ("provider", 502, "m", None, None)),
    ("retired", 410, {"error": "m"}, ("missing", 404, "m", None, None)),
    ("in a 200: integer code", 200, {"error": {"code": 429, "message": "m"}}, ("limit", 429, "m", "429", None)),
    ("in a 200: code as text", 200, {"error": {"code": "400", "message": "m"}}, ("client", 400, "m", "400", None)),
    (
        "in a 200: status beside",
        200,
        {"error": {"status_code": 400, "code": "tool_use_failed", "message": "m"}},
        ("client", 400, "m", "tool_use_failed", None),
    ),
    (
        "in a 200: a word",
        200,
        {"error": {"code": "rate_limit_exceeded", "message": "m"}},
        ("limit", 429, "m", "rate_limit_exceeded", None),
    ),
    (
        "in a 200: a type",
        200,
        {"error": {"type": "overloaded_error", "message": "m"}},
        ("provider", 503, "m", None, "overloaded_error"),
    ),
    (
        "in a 200: our key",
        200,
        {"error": {"code": "invalid_api_key", "message": "m"}},
        ("provider_auth", 502, "m", "invalid_api_key", None),
    ),
    ("in a 200: no word", 200, {"error": {"message": "m"}}, ("provider", 502, "m", None, None)),
    (
        "in a 200: vLLM",
        200,
        {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
        ("client", 400, "m", "400", "BadRequestError"),
    ),
    (
        "numbers where words belong",
        400,
        {"error": {"message": 5, "type": 6, "code": True, "param": []}},
        ("client", 400, "the provider answered 400: ", None, None),
    ),
]


@pytest.mark.parametrize(("name", "status", "body", "want"), SHAPES, ids=[s[0] for s in SHAPES])
def test_shapes(name: str, status: int, body: Any, want: tuple[str, int, str, str | None, str | None]) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    p = chat.read_problem(status, raw)
    assert (p.fault, p.status, p.code, p.kind) == (want[0], want[1], want[3], want[4])
    assert p.say == want[2] or (want[2].endswith(": ") and p.say.startswith(want[2]))


def test_every_status_has_a_fault_and_none_of_ours_is_an_auth_failure() -> None:
    for status in range(100, 1000):
        p = chat.read_problem(status, b"{}")
        assert 400 <= p.status < 600
        assert p.status not in (401, 402), status


SECRETS = [
    ("Incorrect API key provided: sk-proj-AbC123dEf456.", "Incorrect API key provided: ***."),
    ("key sk-1234 is bad", "key *** is bad"),
    ("lil_0123456789abcdef", "***"),
    ("header 'Authorization: Bearer abc.def-ghi'", "header 'Authorization: Bearer ***'"),
    ("gsk_aaaaaaaaaaaaaaaa AIzaSyA123456789 hf_aaaaaaaaaaaaaaaa", "*** *** ***"),
    ("AKIAABCDEFGHIJKLMNOP eyJhbGciOiJIUzI1.eyJzdWIi.c2ln", "*** ***"),
    ("x-api-key: 0123456789abcdef; api_key=abcdefgh1", "x-api-key: ***; api_key=***"),
    ("Your api key: ****-key is invalid", "Your api key: ****-key is invalid"),
    ("Incorrect API key provided: sk-fake-key.", "Incorrect API key provided: sk-fake-key."),
    ("missing bearer authentication; use Bearer tokens", "missing bearer authentication; use Bearer tokens"),
    ("the task-1234567890abcd and disk-space", "the task-1234567890abcd and disk-space"),
    ("a\x00b\x1b[31mc\x7fd\u202ee\x85f\nkept\ttoo", "ab[31mcdef\nkept\ttoo"),
]


@pytest.mark.parametrize(("said", "want"), SECRETS)
def test_nothing_secret_and_nothing_unprintable_is_passed_on(said: str, want: str) -> None:
    assert scrub(said) == want
    p = chat.read_problem(
        400, json.dumps({"error": {"message": said, "code": said, "type": said, "param": said}}).encode()
    )
    assert p.say == want
    assert p.code == want[:200]


def test_long_words_are_cut() -> None:
    assert len(scrub("x" * 1_000_000)) == 2000


WRITTEN: list[tuple[Problem, dict[str, Any]]] = [
    (Problem("client", "m", param="n", code="c"), {"type": "invalid_request_error", "param": "n", "code": "c"}),
    (Problem("client", "m", kind="their_type"), {"type": "their_type", "param": None, "code": None}),
    (Problem("auth", "m"), {"type": "authentication_error", "param": None, "code": "invalid_api_key"}),
    (Problem("permission", "m"), {"type": "permission_error", "param": None, "code": None}),
    (
        Problem("missing", "m", code="model_not_found"),
        {"type": "invalid_request_error", "param": None, "code": "model_not_found"},
    ),
    (Problem("limit", "m"), {"type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}),
    (Problem("provider", "m", kind="x"), {"type": "server_error", "param": None, "code": "upstream_error"}),
    (
        Problem("provider_auth", "m", kind="x", code="y"),
        {"type": "server_error", "param": None, "code": "provider_auth"},
    ),
    (Problem("timeout", "m"), {"type": "server_error", "param": None, "code": "upstream_timeout"}),
    (Problem("server", "m"), {"type": "server_error", "param": None, "code": None}),
]


@pytest.mark.parametrize(("problem", "want"), WRITTEN, ids=[f"{p.fault} {p.code}" for p, _ in WRITTEN])
def test_ours_in_openais_shape(problem: Problem, want: dict[str, Any]) -> None:
    written = chat.write_problem(problem)
    assert json.loads(written) == {"error": {"message": "m", **want}}
    assert chat.write_stream_problem(problem) == b"data: " + written + b"\n\n"
