"""What went wrong, between Anthropic's error form and ours."""

from __future__ import annotations

import msgspec

from lilliput.neutral import Fault, Problem
from lilliput.wire.openai import problem as openai_problem

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Anthropic's error types and their HTTP status (platform.claude.com/docs/en/api/errors, checked 2026-11-22)."""

_TYPES: dict[Fault, str] = {
    "client": "invalid_request_error",
    "auth": "authentication_error",
    "permission": "permission_error",
    "missing": "not_found_error",
    "limit": "rate_limit_error",
    "provider": "api_error",
    "provider_auth": "api_error",
    "timeout": "timeout_error",
    "server": "api_error",
}
_TOO_LONG = "prompt is too long"


def read_problem(status: int, body: bytes) -> Problem:
    """What a refusal says; a `status` below 400 says that it came inside an answer, where its type tells the status."""
    p = openai_problem.read_problem(status, body)
    if status < 400 and p.kind in _STATUS:
        p = openai_problem.read_problem(_STATUS[p.kind], body)
    if p.fault == "client" and p.code is None and p.say.startswith(_TOO_LONG):
        p.code = "context_length_exceeded"
    return p


def write_problem(p: Problem, request_id: str = "") -> bytes:
    """The body of an Anthropic error: its type says whose fault it is, by Anthropic's own words."""
    error = {"type": _type(p), "message": p.say}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def write_stream_problem(p: Problem) -> bytes:
    """The same as the last event of a stream that has begun."""
    return b"event: error\ndata: %b\n\n" % write_problem(p)


def _type(p: Problem) -> str:
    if p.status in (503, 529):
        return "overloaded_error"
    if p.status == 413:
        return "request_too_large"
    return _TYPES[p.fault]
