"""The cold routes, on Starlette: models, health, version and the OpenAPI document.

Admission has happened before any of these runs; what they show is read from the gate they are built over.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from lilliput import __version__
from lilliput.catalogue.rows import Model
from lilliput.gateway import gates
from lilliput.gateway.openapi import document
from lilliput.gateway.routes import Routes
from lilliput.neutral import Key, Problem
from lilliput.wire import openai_problem


def build(gate: gates.Gate, routes: Routes) -> Starlette:
    """The Starlette app that answers every cold row of the table; a row without an endpoint here raises KeyError."""
    spec = msgspec.json.encode(document(routes.table))

    async def models(request: Request) -> Response:
        key: Key = request.scope["state"]["key"]
        return _json({"object": "list", "data": [shown(m) for m in gate.models() if _may(gate, key, m.id)]})

    async def model(request: Request) -> Response:
        name = request.path_params["id"]
        key: Key = request.scope["state"]["key"]
        known = {m.id: m for m in gate.models()}
        target = gate.target(name)
        gates.may_call(gate, key, target)
        found = known.get(name) or known.get(target.id)
        if found is None:
            return _json({"id": target.id, "object": "model", "created": 0, "owned_by": target.provider})
        return _json(shown(found))

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        faults = gate.ready()
        closing = {"gateway": "shutting down"} if gate.is_closing else {}
        faults = {**faults, **closing}
        return _json({"status": "unready" if faults else "ready", "faults": faults}, 503 if faults else 200)

    async def version(_: Request) -> Response:
        return _json({"name": "lilliput", "version": __version__})

    async def openapi(_: Request) -> Response:
        return Response(spec, media_type="application/json")

    named = {
        "models": models,
        "model": model,
        "healthz": healthz,
        "readyz": readyz,
        "version": version,
        "openapi": openapi,
    }
    rows = [r for r in routes.table if r.operation is None]
    app_routes = [StarletteRoute(r.path, named[r.name], methods=[r.method]) for r in rows]
    return Starlette(routes=app_routes, exception_handlers={Problem: _told, Exception: _told})


async def _told(_: Request, fault: Exception) -> Response:
    """Any failure in OpenAI's form; what is no Problem is a fault of ours, and goes on to be logged."""
    broken = Problem("server", "the gateway failed; report this with its request id", 500, code="internal")
    problem = fault if isinstance(fault, Problem) else broken
    return Response(openai_problem.write_problem(problem), problem.status, media_type="application/json")


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


def _may(gate: gates.Gate, key: Key, model_id: str) -> bool:
    return not key.models or gate.allows(key, model_id)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
