"""The models as each dialect lists them: OpenAI's form unless the headers are Anthropic's or the path is Gemini's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lilliput.catalogue.rows import Model
from lilliput.neutral import Problem
from lilliput.wire.anthropic import count as anthropic_count
from lilliput.wire.gemini import address as gemini_endpoint

MOST = 1000
"""Models on one of Anthropic's pages."""


def models(request: Request, known: Sequence[Model]) -> Response:
    """The list; Anthropic's comes in pages, by `limit`, `after_id` and `before_id`."""
    form = dialect(request)
    if form == "gemini":
        listed = [(m.id, m.context_tokens or None, m.max_output_tokens or None) for m in known]
        return _sent(gemini_endpoint.write_models(listed))
    if form == "anthropic":
        page, more = _page(request, known)
        return _sent(anthropic_count.write_models([(m.id, m.title or m.id, 0) for m in page], has_more=more))
    return _sent(msgspec.json.encode({"object": "list", "data": [shown(m) for m in known]}))


def model(request: Request, found: Model) -> Response:
    """One model."""
    form = dialect(request)
    if form == "gemini":
        raw = gemini_endpoint.write_models([(found.id, found.context_tokens or None, found.max_output_tokens or None)])
        return _sent(msgspec.json.encode(msgspec.json.decode(raw)["models"][0]))
    if form == "anthropic":
        raw = anthropic_count.write_models([(found.id, found.title or found.id, 0)])
        return _sent(msgspec.json.encode(msgspec.json.decode(raw)["data"][0]))
    return _sent(msgspec.json.encode(shown(found)))


def dialect(request: Request) -> str:
    """The form of a cold route's answer: by its path, and of the model lists that several clients ask for by header."""
    path: str = request.scope["path"]  # not `request.url`, in which the Host header has a say
    if path.startswith("/v1beta/"):
        return "gemini"
    if path.startswith("/anthropic/"):
        return "anthropic"
    if not path.removeprefix("/openai").startswith("/v1/models"):
        return "openai_chat"
    if "x-goog-api-key" in request.headers:
        return "gemini"
    is_anthropic = "anthropic-version" in request.headers or "x-api-key" in request.headers
    return "anthropic" if is_anthropic else "openai_chat"


def _page(request: Request, known: Sequence[Model]) -> tuple[Sequence[Model], bool]:
    """The models that the query asks for, and whether there are more; raises Problem (400)."""
    asked = request.query_params
    limit = asked.get("limit", str(MOST))
    if not limit.isdecimal() or not 1 <= int(limit) <= MOST:
        raise Problem("client", f"limit is {limit[:20]!r}; send 1 to {MOST}", code="invalid_value", param="limit")
    ids = [m.id for m in known]
    for name in ("after_id", "before_id"):
        if name in asked and asked[name] not in ids:
            raise Problem("client", f"{name} is no model of this list", code="invalid_value", param=name)
    start = ids.index(asked["after_id"]) + 1 if "after_id" in asked else 0
    stop = ids.index(asked["before_id"]) if "before_id" in asked else len(ids)
    if "before_id" in asked and "after_id" not in asked:
        start = max(0, stop - int(limit))
        return known[start:stop], start > 0
    return known[start:stop][: int(limit)], stop - start > int(limit)


def _sent(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def shown(model: Model) -> dict[str, Any]:
    """A model in OpenAI's form, with what we know besides; what is not known is left out."""
    facts = {
        "name": model.title,
        "context_window": model.context_tokens,
        "max_output_tokens": model.max_output_tokens,
        "input_modalities": list(model.input),
        "output_modalities": list(model.output),
        "pricing": _prices(model),
        "retires_on": model.retires_on,
        "checked": model.checked,
        "source": model.source,
    }
    head = {"id": model.id, "object": "model", "created": 0, "owned_by": model.maker}
    return head | {name: value for name, value in facts.items() if value}


def _prices(model: Model) -> dict[str, Any]:
    if model.price is None:
        return {}
    given = msgspec.to_builtins(model.price)
    return {"unit": "USD per million tokens", **_dollars(given)}


def _dollars(given: dict[str, Any]) -> dict[str, Any]:
    """Nano-dollar figures as decimal strings in dollars; what is unknown is left out."""
    out: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, list | tuple) and value:
            out[name] = [_dollars(v) if isinstance(v, dict) else v for v in value]
        elif isinstance(value, dict):
            out[name] = _dollars(value)
        elif isinstance(value, int) and name.endswith(("_tokens", "_minute")):
            out[name] = value
        elif isinstance(value, int):
            whole, rest = divmod(value, 10**9)
            out[name] = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return out
