"""The cold routes, on Starlette: models, health, version and the OpenAPI document.

Admission has happened before any of these runs; what they show is read from the gate they are built over.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from lilliput import __version__
from lilliput.catalogue.rows import Model
from lilliput.gateway import gates, listing, task_routes, threads, usage_route
from lilliput.gateway.metrics_page import Page
from lilliput.gateway.routes import Routes
from lilliput.neutral import Key, Problem
from lilliput.wire import dialects


def build(gate: gates.Gate, routes: Routes, page: Page | None = None) -> Starlette:
    """The Starlette app that answers every cold row of the table; a row without an endpoint here raises KeyError."""
    page = page or Page(gate)

    async def models(request: Request) -> Response:
        key: Key = request.scope["state"]["key"]
        known = [*gate.models(), *(await gate.tasks.models() if gate.tasks is not None else ())]
        return listing.models(request, [m for m in known if _may(gate, key, m.id)])

    async def model(request: Request) -> Response:
        name = request.path_params["id"].removeprefix("models/")
        key: Key = request.scope["state"]["key"]
        if gate.tasks is not None and gate.tasks.has(name):
            return listing.model(request, await gate.tasks.model(key, name))
        known = {m.id: m for m in gate.models()}
        target = gate.target(name)
        gates.may_call(gate, key, target)
        found = known.get(name) or known.get(target.id)
        return listing.model(request, found or Model(id=target.id, maker=target.provider))

    async def response(request: Request) -> Response:
        body = await threads.response(_threads(gate), _owner(request), request.path_params["id"])
        return Response(body, media_type="application/json")

    async def delete_response(request: Request) -> Response:
        id = request.path_params["id"]
        await threads.forget(_threads(gate), _owner(request), id)
        return _json({"id": id, "object": "response", "deleted": True})

    async def root(_: Request) -> Response:
        return _json({"name": "lilliput", "version": __version__, "openapi": "/openapi.json"})

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        faults = gate.ready()
        closing = {"gateway": "shutting down"} if gate.is_closing else {}
        faults = {**faults, **closing}
        return _json({"status": "unready" if faults else "ready", "faults": faults}, 503 if faults else 200)

    async def version(_: Request) -> Response:
        return _json({"name": "lilliput", "version": __version__})

    async def metrics(request: Request) -> Response:
        body, kind = page.text(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    async def openapi(_: Request) -> Response:
        return Response(_document(routes), media_type="application/json")

    named = {
        "models": models,
        "model": model,
        "response": response,
        "delete_response": delete_response,
        "root": root,
        "healthz": healthz,
        "readyz": readyz,
        "version": version,
        "metrics": metrics,
        "openapi": openapi,
        **usage_route.endpoints(gate),
        **task_routes.endpoints(gate),
    }
    rows = [r for r in routes.table if r.operation is None]
    app_routes = [StarletteRoute(r.path, named[r.name], methods=[r.method]) for r in rows]
    return Starlette(routes=app_routes, exception_handlers={Problem: _told, 404: _nothing, Exception: _told})


@cache
def _document(routes: Routes) -> bytes:
    from lilliput.gateway.openapi import document  # noqa: PLC0415  (it loads every dialect, which few are asked for)

    return msgspec.json.encode(document(routes.table))


async def _told(request: Request, fault: Exception) -> Response:
    """Any failure in the caller's dialect; what is no Problem is a fault of ours, and goes on to be logged."""
    broken = Problem("server", "the gateway failed; report this with its request id", 500, code="internal")
    problem = gates.shown(fault) if isinstance(fault, Problem) else broken
    request_id: bytes = request.scope["state"]["request_id"]
    body = dialects.client(listing.dialect(request)).write_problem(problem, request_id.decode())
    return Response(body, problem.status, media_type="application/json")


async def _nothing(request: Request, _: Exception) -> Response:
    """What Starlette's patterns do not find although the table's do: an id with a line break in it."""
    return await _told(request, Problem("missing", f"nothing is at {request.scope['path'][:200]!r}", code="not_found"))


def _threads(gate: gates.Gate) -> threads.Threads:
    if gate.threads is None:
        raise Problem("missing", "this gateway keeps no responses", code="not_found")
    return gate.threads


def _owner(request: Request) -> str:
    key: Key = request.scope["state"]["key"]
    return key.id


def _may(gate: gates.Gate, key: Key, model_id: str) -> bool:
    return not key.models or gate.allows(key, model_id)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
