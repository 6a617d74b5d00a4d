"""The OpenAPI 3.1 document of the route table; request schemas are made from the types that decode the requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lilliput import __version__
from lilliput.gateway.metrics_page import OPEN, PLAIN
from lilliput.gateway.task_routes import BODIES as TASK_BODIES
from lilliput.gateway.usage_route import ASKED
from lilliput.wire.anthropic import types as anthropic_types
from lilliput.wire.completions import client as openai_completions_client
from lilliput.wire.gemini import types as gemini_types
from lilliput.wire.openai import types as openai_types
from lilliput.wire.operations import embeddings, images_form, moderation, rerank, speech
from lilliput.wire.responses import types as responses_types

if TYPE_CHECKING:
    from lilliput.gateway.routes import Route

_SUMMARY = {
    "chat": "Answer a conversation, whole or as a stream of server-sent events",
    "responses": "The same in the form of OpenAI's Responses, which keeps the conversation",
    "messages": "The same in the form of Anthropic's Messages",
    "generate": "The same in the form of Gemini's generateContent and streamGenerateContent",
    "embeddings": "Turn texts into vectors",
    "completions": "Complete a prompt (OpenAI's legacy form)",
    "count_tokens": "Count the tokens of a request before it is sent",
    "count_generate": "The same in Gemini's form",
    "embed": "Turn texts into vectors, in Gemini's form",
    "rerank": "Order documents by how well they answer a query",
    "transcription": "Write down what is said in a recording",
    "translation": "Write down in English what is said in a recording",
    "speech": "Say a text aloud",
    "images": "Make pictures from a description",
    "image_edits": "Change a picture as described",
    "moderation": "Judge whether texts or pictures are harmful",
    "files": "Files and batches of the provider that the request names",
    "response": "Show a kept response",
    "delete_response": "Forget a kept response",
    "usage": "What this key's account used and what it cost, added up",
    "credits": "What this key's account may spend, has spent and holds",
    "tasks": "List the tasks that this key may call",
    "create_task": "Make a task: the route task/NAME, answered by its teacher",
    "task": "Show one task: its teacher, state, student, consent and bound",
    "delete_task": "Forget a task with its rows and audits",
    "task_state": "Move a task to another state, or say whose calls it captures and by which consent",
    "task_student": "Put a student in place, or take the last one back",
    "task_feedback": "Judge a captured answer by its request id: a score, the right answer, or both",
    "add_task_rows": "Add rows from elsewhere, with the consent they come by",
    "task_rows": "List a task's rows, oldest first",
    "task_audits": "List the student's answers that were held against the teacher's",
    "task_savings": "What the student saved against asking the teacher each time",
    "forget": "Erase all that is kept of a key or a subject, and block the students that learned from it",
    "root": "Name and version",
    "models": "List the models that this key may call",
    "model": "Show one model: price, context, modalities",
    "healthz": "The process is alive",
    "readyz": "The process can serve: 503 with the reasons when it cannot",
    "version": "Name and version",
    "metrics": "Counters for Prometheus, as text or as OpenMetrics",
    "openapi": "This document",
}
_BODIES: dict[str, type] = {
    "chat": openai_types.Body,
    "responses": responses_types.Body,
    "messages": anthropic_types.Body,
    "generate": gemini_types.Body,
    "completions": openai_completions_client.Body,
    "count_tokens": anthropic_types.Body,
    "count_generate": gemini_types.Body,
    "embeddings": embeddings.Body,
    "rerank": rerank.Body,
    "speech": speech.Body,
    "images": images_form.Body,
    "moderation": moderation.Body,
    **TASK_BODIES,
}
_FORMS = ("transcription", "translation", "image_edits")
_REF = "#/components/schemas/{name}"
_OBJECT = {"type": "object"}
_ANY_DIALECT = ("models", "model", "response", "delete_response")
"""Routes whose errors are told in the dialect that the request's headers speak."""


def _error(**properties: Any) -> dict[str, Any]:
    """The schema of an error body: an object under `error` that has all of `properties`."""
    inner = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "object", "required": ["error"], "properties": {"error": inner}}


_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_ERRORS = {
    "Error": _error(message=_TEXT, type=_TEXT, param=_MAYBE_TEXT, code=_MAYBE_TEXT),
    "AnthropicError": _error(type=_TEXT, message=_TEXT),
    "GeminiError": _error(code={"type": "integer"}, message=_TEXT, status=_TEXT),
}
_ERROR_OF = {"anthropic": "AnthropicError", "gemini": "GeminiError"}


def document(table: Sequence[Route]) -> dict[str, Any]:
    """The document for these routes."""
    refs, schemas = msgspec.json.schema_components(_BODIES.values(), schema_hook=_anything, ref_template=_REF)
    bodies = dict(zip(_BODIES, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    names: dict[str, int] = {}
    for route in table:
        op = _name(route)
        names[op] = names.get(op, 0) + 1
        alias = f"_{names[op]}" if names[op] > 1 else ""
        item: dict[str, Any] = {
            "operationId": op + alias,
            "summary": _SUMMARY[op],
            "responses": _responses(route, op),
            "security": [] if route.permission == "open" else [{"key": []}],
        }
        if route.method == "POST":
            kind = "multipart/form-data" if op in _FORMS else "application/json"
            item["requestBody"] = {"required": op != "files", "content": {kind: {"schema": bodies.get(op, _OBJECT)}}}
        if "{id:path}" in route.path:
            item["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
        if op == "usage":
            item["parameters"] = [{"name": n, "in": "query", "schema": {"type": "string"}} for n in ASKED]
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
            "schemas": {**schemas, **_ERRORS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _name(route: Route) -> str:
    if route.operation is None:
        return route.name
    return "embed" if (route.operation.name, route.dialect) == ("embeddings", "gemini") else route.operation.name


def _anything(of: type) -> dict[str, Any]:
    """The schema of a field whose content is not ours to judge."""
    if of is object:
        return {"description": "any JSON value"}
    raise NotImplementedError(of)


def _responses(route: Route, op: str) -> dict[str, Any]:
    whole = {"type": "array"} if route.path.endswith(":streamGenerateContent") else _OBJECT
    ok: dict[str, Any] = {"application/json": {"schema": whole}}
    if op == "metrics":
        ok = {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in (PLAIN, OPEN)}
    if op in ("chat", "responses", "messages", "generate"):
        ok["text/event-stream"] = {"schema": {"type": "string"}}
    if op == "usage":
        ok["text/csv"] = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {"200": {"description": "The answer", "content": ok}}
    if op == "readyz":
        responses["503"] = {"description": "Not ready", "content": {"application/json": {"schema": _OBJECT}}}
    told: dict[str, Any] = {"$ref": _REF.format(name=_ERROR_OF.get(route.dialect, "Error"))}
    if op in _ANY_DIALECT:
        told = {"anyOf": [{"$ref": _REF.format(name=name)} for name in _ERRORS]}
    error = {"content": {"application/json": {"schema": told}}}
    if route.permission != "open":
        responses["401"] = {"description": "The key is missing, unknown, expired or revoked", **error}
        responses["default"] = {"description": "What was wrong, where, and how to mend it", **error}
    return responses
