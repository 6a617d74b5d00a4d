"""The shape of the operations that are no chat, and what they have in common.

An operation's module (`embeddings`, `rerank`, `transcription`, `speech`, `images`, `moderation`) checks the client's
body, which is in OpenAI's form, and holds an adapter for each dialect of a provider; `modalities` lists them all.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.neutral import Problem, Sent, Target, Usage
from lilliput.wire import quirks
from lilliput.wire.broken import invalid_answer
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.openai.types import typed
from lilliput.wire.openai.usage import read_usage
from lilliput.wire.port import Asked, Headers, Watch

A = TypeVar("A", bound=Asked)
T = TypeVar("T", bound=Struct)

JSON = "application/json"
NULL = Raw(b"null")

Header = Callable[[bytes], bytes | None]
"""Gives a header of the provider's answer by its name in lower case, None where it has none."""


class Answer(Struct, frozen=True):
    """A whole answer as the client gets it; `usage` is None where the provider does not tell."""

    body: bytes
    content_type: str = JSON
    usage: Usage | None = None


class Adapter(Struct, Generic[A], frozen=True, eq=False):
    """How one dialect of a provider does one operation.

    `endpoint` gives the URL and all headers of a call, its content type too; where it `varies` with what is asked, it
    may not be kept for the next call. `write` makes the body and raises Problem (400) for what this dialect cannot be
    asked. `read` takes a whole answer of any status and raises Problem for what is no answer. `watch` makes the
    watch of a stream that passes; None: this dialect streams nothing, and `read` serves whoever asked for a stream.
    """

    endpoint: Callable[[Target, A], tuple[str, Headers]]
    write: Callable[[bytes, A, Target], Sent]
    read: Callable[[int, bytes, Header, A, Target], Answer]
    varies: bool = False
    watch: Callable[[], Watch] | None = None


class Operation(Struct, Generic[A], frozen=True, eq=False):
    """One kind of call: where its path ends, how its body is checked, and who can do it by the target's dialect.

    `check` takes the body and its content type. A body of a `form` operation may be multipart/form-data, else JSON.
    """

    name: str
    path: str
    check: Callable[[bytes, str], A]
    adapters: Mapping[str, Adapter[A]]
    form: bool = False


OPENAI_FORM = ("openai_chat", "openai_completions", "openai_responses", "azure", "mistral")
"""Dialects whose providers offer the other operations in OpenAI's form, if at all."""


def openai_form(adapter: Adapter[A]) -> dict[str, Adapter[A]]:
    """`adapter` for every dialect of OpenAI's form."""
    return dict.fromkeys(OPENAI_FORM, adapter)


# -- asking ------------------------------------------------------------------------------------------------------


def endpoint(
    target: Target,
    path: str,
    content_type: str = JSON,
    accept: str = JSON,
    query: Sequence[tuple[str, str]] = (),
) -> tuple[str, Headers]:
    """The URL of `path` at the target, with `query` added to the target's own, and the headers of the call."""
    if query:
        target = structs.replace(target, query="&".join(filter(None, (target.query, urlencode(query)))))
    url, headers = openai_endpoint.endpoint(target, path)
    ours = {"content-type": content_type, "accept": accept}
    return url, tuple((name, ours.get(name, value)) for name, value in headers)


def at(path: str, accept: str = JSON) -> Callable[[Target, A], tuple[str, Headers]]:
    """An `Adapter.endpoint` for JSON bodies to one path, whatever is asked."""
    return lambda target, asked: endpoint(target, path, accept=accept)


def fields(body: bytes) -> dict[str, Raw]:
    """The caller's fields as they came, without nulls, which are the same as absent but trouble some servers."""
    return {name: raw for name, raw in typed(_fields, body).items() if bytes(raw) != b"null"}


def pack(fields: Mapping[str, object], target: Target, dropped: Sequence[str] = ()) -> Sent:
    """`fields` as the body for `target`, its quirks applied; None stands for absent. `dropped` is told on."""
    raw = {n: v if type(v) is Raw else Raw(_encode(v)) for n, v in fields.items() if v is not None}
    return Sent(_encode(quirks.apply(raw, target)), (*dropped, *quirks.dropped(raw, target)))


def rewrite(body: bytes, asked: Asked, target: Target) -> Sent:
    """The caller's own body with the target's name for the model."""
    return pack(fields(body) | {"model": target.model}, target)


def lost(given: Mapping[str, Raw], kept: Sequence[str]) -> tuple[str, ...]:
    """The caller's fields that are not sent, for `Sent.dropped`."""
    return tuple(name for name in given if name not in kept)


def unable(target: Target, what: str, param: str | None = None) -> Problem:
    """What to raise where `target` cannot do `what` (a phrase such as "token numbers as input")."""
    say = f"{target.provider} does not take {what}; leave it out, or ask another provider"
    return Problem("client", say, code="unsupported_parameter", param=param)


# -- answers -----------------------------------------------------------------------------------------------------


def whole(decode: Callable[[Raw | bytes], T], status: int, body: bytes) -> T:
    """`body` typed; raises Problem for an error, whatever its status, and for what cannot be decoded.

    A type whose fields may all be missing has `error` among them, which is None in an answer.
    """
    if status >= 400:
        raise read_problem(status, body)
    value = inner(decode, body) if _is_utf8(body) else None
    failed = inner(_failed, body) if value is None else value
    if getattr(failed, "error", None) is not None:
        raise read_problem(status, body)
    if value is None:
        raise invalid_answer(body, "it is not what was asked for")
    return value


def _is_utf8(body: bytes) -> bool:
    """True for text; the decoders look only at what is asked of them, and the rest goes on to the client."""
    try:
        return body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        return False


def inner(decode: Callable[[Raw | bytes], T], raw: Raw | bytes) -> T | None:
    """JSON inside an answer, typed; None where it is missing or of another kind."""
    try:
        return decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def tokens(given: Raw, media_out: str | None = None) -> Usage | None:
    """The counts in a usage object of OpenAI's: chat's names, or `input_tokens` and `output_tokens`; None without any.

    A lone `total_tokens` is all input (Voyage). `media_out` names the bucket of what was made, if that is no text. An
    object without counts (a duration, searches) is kept as `given`.
    """
    told = inner(_told, given)
    if told is None:
        return None
    if told.prompt_tokens is not None or told.completion_tokens is not None:
        return read_usage(given)
    prompt = told.total_tokens if told.input_tokens is None and told.output_tokens is None else told.input_tokens
    if prompt is None and told.output_tokens is None:
        return Usage(given=Raw(bytes(given)))
    made = {f"{media_out}_tokens": told.output_tokens} if media_out else None
    return counted(prompt, told.output_tokens, told.input_tokens_details or told.input_token_details, made, given)


def counted(
    prompt: object, answer: object = 0, details: object = None, made: object = None, given: Raw = NULL
) -> Usage | None:
    """Token counts as a provider tells them, absurd ones put right; None where `prompt` is no number."""
    if not isinstance(prompt, int | float):
        return None
    chat = {
        "prompt_tokens": prompt,
        "completion_tokens": answer if isinstance(answer, int | float) else 0,
        "prompt_tokens_details": _numbers(details),
        "completion_tokens_details": _numbers(made),
    }
    usage = read_usage(_encode(chat))
    return usage and structs.replace(usage, given=None if bytes(given) == b"null" else Raw(bytes(given)))


def _numbers(details: object) -> dict[str, float]:
    given = details if isinstance(details, dict) else {}
    return {name: n for name, n in given.items() if isinstance(n, int | float)}


def float32(values: Sequence[float], body: bytes) -> str:
    """`values` as base64 of little-endian 32-bit floats, OpenAI's second form of a vector."""
    try:
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    except (OverflowError, struct.error):
        raise invalid_answer(body, "a number in it is no 32-bit float") from None


def is_text(header: Header) -> bool:
    """True for an answer that its content type calls words rather than media."""
    kind = (header(b"content-type") or b"").lower()
    return kind.startswith((b"application/json", b"text/", b"application/problem"))


class _Failed(Struct):
    error: Any = None


class _Told(Struct, gc=False):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    input_tokens_details: Any = None
    input_token_details: Any = None


_failed = msgspec.json.Decoder(_Failed).decode
_told = msgspec.json.Decoder(_Told).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
