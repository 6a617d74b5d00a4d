"""Where a Gemini call goes, at AI Studio and at Vertex AI, and the two side calls: count tokens and list models.

A base of AI Studio ends in /v1beta, one of Vertex in /v1/projects/<project>/locations/<location>/publishers/google.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Request, Target
from lilliput.wire.broken import invalid_answer
from lilliput.wire.gemini.call import write_body
from lilliput.wire.openai import address as openai_endpoint

_PATHS = ("models/", "tunedModels/", "endpoints/", "publishers/")


class _Counted(Struct):
    total: int = msgspec.field(name="totalTokens")


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_counted = msgspec.json.Decoder(_Counted).decode
_encode = msgspec.json.Encoder().encode


def endpoint(target: Target, stream: bool) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The URL of an answer, streamed as events or whole, and the headers of every call there."""
    if not stream:
        return _action(target, "generateContent")
    url, headers = _action(target, "streamGenerateContent")
    return f"{url}{'&' if target.query else '?'}alt=sse", headers


def count_endpoint(target: Target) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The same for counting a request's tokens."""
    return _action(target, "countTokens")


def count_body(r: Request, target: Target) -> bytes:
    """The body that asks how many tokens `r` has: AI Studio wants the request inside, Vertex its own fields alone."""
    asked = _fields(write_body(r, target).body)
    if "/publishers/" in target.base:
        names = ("contents", "systemInstruction", "tools", "generationConfig")
        return _encode({name: asked[name] for name in names if name in asked})
    return _encode({"generateContentRequest": {"model": _path(target.model), **asked}})


def read_count(body: bytes) -> int:
    """The tokens counted; raises Problem for an answer that does not say."""
    try:
        return _counted(body).total
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid_answer(body, "it has no totalTokens") from None


def write_count(tokens: int) -> bytes:
    """The answer to a client that asked for a count."""
    return _encode({"totalTokens": tokens})


def write_models(models: Iterable[tuple[str, int | None, int | None]]) -> bytes:
    """The list of models, each with how many tokens it takes and gives where that is known."""
    out = []
    for name, taken, given in models:
        limits = {"inputTokenLimit": taken, "outputTokenLimit": given}
        known: dict[str, object] = {limit: n for limit, n in limits.items() if n is not None}
        methods = ["generateContent", "streamGenerateContent", "countTokens"]
        about = {"name": f"models/{name}", "displayName": name, **known, "supportedGenerationMethods": methods}
        out.append(about)
    return _encode({"models": out})


def _action(target: Target, action: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    url, headers = openai_endpoint.endpoint(target, f"/{quote(_path(target.model), safe='/@')}:{action}")
    if target.model.startswith(("endpoints/", "publishers/")):
        url = url.replace("/publishers/google/", "/", 1)  # these stand beside Google's own models
    return url, headers


def _path(model: str) -> str:
    return model if model.startswith(_PATHS) else f"models/{model}"
