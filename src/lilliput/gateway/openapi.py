"""The OpenAPI 3.1 document of the route table; request schemas are made from the types that decode the requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lilliput import __version__
from lilliput.wire import embeddings, openai_types

if TYPE_CHECKING:
    from lilliput.gateway.routes import Route

_SUMMARY = {
    "chat": "Answer a conversation, whole or as a stream of server-sent events",
    "embeddings": "Turn texts into vectors",
    "models": "List the models that this key may call",
    "model": "Show one model: price, context, modalities",
    "healthz": "The process is alive",
    "readyz": "The process can serve: 503 with the reasons when it cannot",
    "version": "Name and version",
    "openapi": "This document",
}
_BODIES: dict[str, type] = {"chat": openai_types.Body, "embeddings": embeddings.Body}
_REF = "#/components/schemas/{name}"
_OBJECT = {"type": "object"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def document(table: Sequence[Route]) -> dict[str, Any]:
    """The document for these routes."""
    refs, schemas = msgspec.json.schema_components(_BODIES.values(), schema_hook=_anything, ref_template=_REF)
    bodies = dict(zip(_BODIES, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        op = route.operation.name if route.operation else route.name
        alias = "_alias" if route.path.startswith("/openai/") else ""
        item: dict[str, Any] = {
            "operationId": op + alias,
            "summary": _SUMMARY[op],
            "responses": _responses(route, op),
            "security": [{"key": []}] if route.permission == "key" else [],
        }
        if op in bodies:
            item["requestBody"] = {"required": True, "content": {"application/json": {"schema": bodies[op]}}}
        if "{id:path}" in route.path:
            item["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
        paths.setdefault(route.path.replace("{id:path}", "{id}"), {})[route.method.lower()] = item
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lilliput",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _anything(of: type) -> dict[str, Any]:
    """The schema of a field whose content is not ours to judge."""
    if of is object:
        return {"description": "any JSON value"}
    raise NotImplementedError(of)


def _responses(route: Route, op: str) -> dict[str, Any]:
    ok: dict[str, Any] = {"application/json": {"schema": _OBJECT}}
    if op == "chat":
        ok["text/event-stream"] = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {"200": {"description": "The answer", "content": ok}}
    if op == "readyz":
        responses["503"] = {"description": "Not ready", "content": {"application/json": {"schema": _OBJECT}}}
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    if route.permission == "key":
        responses["401"] = {"description": "The key is missing, unknown, expired or revoked", **error}
        responses["default"] = {"description": "What was wrong, where, and how to mend it", **error}
    return responses
