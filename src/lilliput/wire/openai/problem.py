"""What went wrong, between providers' many error shapes and OpenAI's one.

`read_problem` is used by every dialect whose errors are JSON objects; `write_problem` answers OpenAI clients.
"""

from __future__ import annotations

import re

import msgspec

from lilliput.neutral import Fault, Problem
from lilliput.wire import sse
from lilliput.wire.broken import SAY_LIMIT, scrub

_READ_LIMIT_BYTES = 1024 * 1024

_FAULTS: dict[int, tuple[Fault, int]] = {
    400: ("client", 400),
    401: ("provider_auth", 502),
    402: ("provider_auth", 502),
    403: ("provider_auth", 502),
    404: ("missing", 404),
    408: ("timeout", 504),
    409: ("client", 409),
    410: ("missing", 404),
    413: ("client", 413),
    415: ("client", 415),
    422: ("client", 422),
    429: ("limit", 429),
    451: ("client", 451),
    503: ("provider", 503),
    504: ("timeout", 504),
    524: ("timeout", 504),
    529: ("provider", 503),
}
"""An HTTP status of a provider -> whose fault that is for our caller, and the status to answer. All others: 502."""

_CODES: dict[str, int] = {
    "authentication_error": 401,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "overloaded_error": 503,
    "permission_error": 403,
    "provider_overloaded": 503,
    "provider_unavailable": 503,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "refusal": 400,
    "timeout": 504,
    "timeout_error": 504,
    "tool_use_failed": 400,
}
"""A word inside a 200 -> the status that it would have had as an answer of its own."""

_KEY_REFUSED = re.compile(
    r"(?:invalid|incorrect|expired) api[ _]?key|api[ _]?key (?:is )?(?:not valid|invalid|expired)", re.I
)
_FLAGGED = re.compile(r"moderation|content_(?:policy|filter)|flagged", re.I)
_TOO_LONG = re.compile(r"maximum context length|exceeds the available context size", re.I)
"""How vLLM (github.com/vllm-project/vllm/issues/20409) and llama.cpp's server
(github.com/ggml-org/llama.cpp/pull/15780, which answered 500 at first) tell that a prompt does not
fit; both checked 2026-11-23."""
_TITLE = re.compile(r"<(?:title|h1)[^>]*>\s*([^<]{1,200}?)\s*<", re.I)

_TYPES: dict[Fault, str] = {
    "client": "invalid_request_error",
    "auth": "authentication_error",
    "permission": "permission_error",
    "missing": "invalid_request_error",
    "limit": "rate_limit_error",
    "provider": "server_error",
    "provider_auth": "server_error",
    "timeout": "server_error",
    "server": "server_error",
}
_DEFAULT_CODES: dict[Fault, str] = {
    "auth": "invalid_api_key",
    "limit": "rate_limit_exceeded",
    "provider": "upstream_error",
    "timeout": "upstream_timeout",
}


def read_problem(status: int, body: bytes) -> Problem:
    """What a provider's refusal means for our caller, with the provider's own words kept.

    A `status` below 400 says that an error came inside a success: then its own code decides. A refusal of the
    gateway's credentials is never shown as the caller's 401. `retry_after_s` is left to who sees the headers.
    """
    fields = _fields(body)
    error = fields.get("error")
    inner = _object(error) or fields
    say = _message(error, inner, fields) or _page(status, body, bool(fields))
    code = _word(inner.get("code")) or _word(fields.get("code"))
    kinds = (inner.get("type"), inner.get("status"), inner.get("__type"))
    kind = next((_word(word) for word in kinds if isinstance(word, str) and word), None)
    if status < 400:
        status = _inner_status(inner, fields, code, kind)
    fault, answer = _FAULTS.get(status, ("provider", 502))
    if status == 400 and _KEY_REFUSED.match(say):
        fault, answer = "provider_auth", 502
    elif status == 403 and _FLAGGED.search(f"{code} {kind} {say}"):
        fault, answer = "client", 403
    if kind == "exceed_context_size_error" or (status == 400 and _TOO_LONG.search(say)):
        fault, answer, code = "client", 400, "context_length_exceeded"
    return Problem(fault, scrub(say), answer, code=code, param=_word(inner.get("param")), kind=kind)


def write_problem(p: Problem, request_id: str = "") -> bytes:
    """The body of an OpenAI error: all four fields present, `param` and `code` null where unknown.

    The provider's own type is kept where the fault is the caller's to mend; else the type says whose it is. A refusal
    of the gateway's credentials never carries the provider's code, which would tell the caller that its key is bad.
    """
    kind = p.kind if p.kind and p.fault in ("client", "missing", "limit") else _TYPES[p.fault]
    code = "provider_auth" if p.fault == "provider_auth" else p.code or _DEFAULT_CODES.get(p.fault)
    error = {"message": p.say, "type": kind, "param": p.param, "code": code}
    return msgspec.json.encode({"error": error})


def write_stream_problem(p: Problem) -> bytes:
    """The same as an event inside a stream that has begun; no [DONE] follows it."""
    return sse.event(write_problem(p))


def _fields(body: bytes) -> dict[str, object]:
    """The JSON object in `body`, the first of a list of them, {} when there is none."""
    try:
        value: object = msgspec.json.decode(body[:_READ_LIMIT_BYTES])
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        return {"message": value}
    return _object(value)


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str | None:
    """A short machine word: text, or a number as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return None
    return scrub(str(value))[:200]


def _message(error: object, inner: dict[str, object], fields: dict[str, object]) -> str:
    """The words for people, wherever the provider put them; "" when there are none."""
    own = ("message", "Message", "msg", "detail", "errors")
    for value in (
        *((fields.get("message"), error) if isinstance(error, str) else ()),
        *(inner.get(name) for name in own),
        fields.get("message"),
        fields.get("detail"),
        inner.get("title"),
    ):
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list | dict) and value:
            try:
                return msgspec.json.encode(value).decode()
            except RecursionError:
                continue
    return ""


def _page(status: int, body: bytes, is_json: bool) -> str:
    """What to say of a body that is no error object: a web page by its title, plain text as it is."""
    text = body[: SAY_LIMIT * 4].decode("utf-8", "replace").strip()
    if not scrub(text).strip():
        return f"the provider answered {status} with an empty body"
    if text[:1] == "<":
        title = _TITLE.search(text)
        named = f", titled {title.group(1)!r}" if title else ""
        return f"the provider answered {status} with a web page{named}"
    return f"the provider answered {status}: {text}" if is_json else text


def _inner_status(inner: dict[str, object], fields: dict[str, object], code: str | None, kind: str | None) -> int:
    """The HTTP status that an error inside a success would have had; 502 when it does not tell."""
    for value in (
        inner.get("status_code"),
        inner.get("status"),
        inner.get("code"),
        fields.get("status_code"),
        fields.get("code"),
    ):
        if isinstance(value, str) and len(value) == 3 and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    for word in (code, kind):
        if word in _CODES:
            return _CODES[word]
    return 502
