"""What went wrong, between Google's error form (`google.rpc.Status`) and ours, whole or inside a stream."""

from __future__ import annotations

import math
import re

import msgspec
from msgspec import Struct

from lilliput.neutral import Problem
from lilliput.wire.openai import problem as openai_problem

_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status -> `google.rpc.Code` (googleapis/google/rpc/code.proto); other 4xx are INVALID_ARGUMENT, 5xx INTERNAL."""
_TOO_LONG = re.compile(r"input token count .*exceeds the maximum number of tokens", re.I)
"""The only sign of a prompt past the context: the status is INVALID_ARGUMENT like any other (seen in 2026-11)."""
_TYPES = "type.googleapis.com/google.rpc."


class _Detail(Struct):
    retry_delay: str | None = msgspec.field(name="retryDelay", default=None)


class _Error(Struct):
    details: list[_Detail] | None = None


class _Body(Struct):
    error: _Error


_decode = msgspec.json.Decoder(_Body | list[_Body]).decode


def read_problem(status: int, body: bytes) -> Problem:
    """What Google's refusal means for our caller, with how long RetryInfo says to wait."""
    problem = openai_problem.read_problem(status, body)
    problem.retry_after_s = _retry_after_s(body)
    if problem.fault == "client" and _TOO_LONG.search(problem.say):
        problem.code = "context_length_exceeded"
    return problem


def write_problem(p: Problem, request_id: str = "") -> bytes:
    """The body of an error as Google writes it, with what we know beyond it in `details`."""
    details: list[dict[str, object]] = []
    if p.code and p.fault != "provider_auth":
        field = {"metadata": {"field": p.param}} if p.param else {}
        details.append({"@type": f"{_TYPES}ErrorInfo", "reason": p.code, "domain": "lilliput", **field})
    if p.retry_after_s is not None:
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{math.ceil(p.retry_after_s)}s"})
    if request_id:
        details.append({"@type": f"{_TYPES}RequestInfo", "requestId": request_id})
    word = _WORDS.get(p.status) or ("INVALID_ARGUMENT" if p.status < 500 else "INTERNAL")
    error: dict[str, object] = {"code": p.status, "message": p.say, "status": word}
    return msgspec.json.encode({"error": error | ({"details": details} if details else {})})


def _retry_after_s(body: bytes) -> float | None:
    """A duration in protobuf's JSON form, such as "34.07s"."""
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    first = found if isinstance(found, _Body) else found[0] if found else None
    for detail in (first.error.details or ()) if first is not None else ():
        try:
            delay = float((detail.retry_delay or "").removesuffix("s"))
        except ValueError:
            continue
        if 0 <= delay < 1e6:
            return delay
    return None
