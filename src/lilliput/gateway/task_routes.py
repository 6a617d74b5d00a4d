"""`/v1/tasks` and `/v1/forget`: what `lilliput task` does, over HTTP.

A key without a scope may order all of it. A key with a scope of models sees the tasks that it may call (`task/NAME` is
in it), and judges the answers that it was given; whose rows there are else is not its business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response

from lilliput.gateway.gates import Gate, is_json
from lilliput.gateway.task_desk import Desk, Given
from lilliput.loop import lifecycle
from lilliput.loop.declare import Declared
from lilliput.neutral import Key, Problem
from lilliput.tasks import PREFIX, Row, State, Task, Terms

T = TypeVar("T")
MOST = 1000
"""Items of one page."""


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/state`. `key`, `consent`, `terms` and `override` belong to `capturing`."""

    to: State | Literal["resume"]
    why: str = ""
    key: str | None = None
    consent: str | None = None
    terms: Terms | None = None
    override: str | None = None


class Promotion(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/student`: a bundle's id, or the order to take the last one back."""

    student: str | None = None
    live: bool = False
    rollback: bool = False


class Feedback(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/feedback`: which answer, by `row` or by `request_id`, and what is thought of it."""

    row: str | None = None
    request_id: str | None = None
    score: float | None = None
    correction: str | None = None


class Brought(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `/rows`: by which consent, and the rows."""

    rows: tuple[Given, ...]
    consent: str
    teacher: str = ""
    terms: Terms | None = None


class Who(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `/v1/forget`: one of the two."""

    key: str | None = None
    subject: str | None = None


BODIES: dict[str, type] = {
    "create_task": Declared,
    "task_state": Order,
    "add_task_rows": Brought,
    "task_feedback": Feedback,
    "task_student": Promotion,
    "forget": Who,
}
"""What each route reads, by its name."""
_decoders: dict[type, msgspec.json.Decoder[Any]] = {body: msgspec.json.Decoder(body) for body in BODIES.values()}


def endpoints(gate: Gate) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
    run = {
        "tasks": listing,
        "create_task": create,
        "task": show,
        "delete_task": delete,
        "task_state": state,
        "task_rows": rows,
        "add_task_rows": add_rows,
        "task_feedback": feedback,
        "task_student": student,
        "task_audits": audits,
        "task_savings": savings,
        "forget": forget,
    }
    return {name: partial(endpoint, gate) for name, endpoint in run.items()}


async def listing(gate: Gate, request: Request) -> Response:
    key, limit, after = _key(request), _number(request, "limit", 100, 1, MOST), request.query_params.get("after", "")
    found = [t for t in await _desk(gate).store.tasks() if t.name > after and _sees(gate, key, t.name)]
    return _page([shown(t, key) for t in found[:limit]], len(found) > limit)


async def create(gate: Gate, request: Request) -> Response:
    _manages(request)
    desk = _desk(gate)
    return _json(shown(await desk.create(await _body(request, Declared))))


async def show(gate: Gate, request: Request) -> Response:
    name = _seen(gate, request)
    return _json(shown(await _desk(gate).named(name), _key(request)))


async def delete(gate: Gate, request: Request) -> Response:
    _manages(request)
    await _desk(gate).drop(_name(request))
    return _json({"id": _name(request), "object": "task.deleted", "deleted": True})


async def state(gate: Gate, request: Request) -> Response:
    """Moves a task on; `capturing` takes whose calls and by which consent."""
    _manages(request)
    desk, name = _desk(gate), _name(request)
    order = await _body(request, Order)
    to = order.to
    words = (order.key, order.consent, order.terms, order.override)
    if to == "resume":
        task = await desk.change(name, lifecycle.resume)
    elif to == "capturing" and any(w is not None for w in words):
        task = await desk.capture(name, *words)
    else:
        task = await desk.change(name, lambda t: lifecycle.move(t, to, order.why))
    return _json(shown(task))


async def student(gate: Gate, request: Request) -> Response:
    _manages(request)
    desk, name = _desk(gate), _name(request)
    order = await _body(request, Promotion)
    if (order.student is None) != order.rollback:
        raise _bad("student", 'send {"student": ID}, with "live": true to let it answer, or {"rollback": true}')
    if order.student is None:
        return _json(shown(await desk.rollback(name)))
    return _json(shown(await desk.promote(name, order.student, live=order.live)))


async def feedback(gate: Gate, request: Request) -> Response:
    name, key = _seen(gate, request), _key(request)
    desk = _desk(gate)
    said = await _body(request, Feedback)
    if (said.row is None) == (said.request_id is None):
        raise _bad("row", "name the answer by its row or by its request_id, one of the two")
    row = await desk.feedback(
        name, said.row or said.request_id or "", said.score, said.correction, key.id if key.models else None
    )
    about = {"id": row.id, "task": row.task, "score": row.feedback, "correction": row.correction}
    return _json({"object": "task.feedback", **about})


async def rows(gate: Gate, request: Request) -> Response:
    _manages(request)
    desk = _desk(gate)
    limit, offset = _number(request, "limit", 100, 1, MOST), _number(request, "offset", 0, 0, 10**12)
    task = await desk.named(_name(request))
    found = await desk.store.rows(task.name, limit=limit + 1, offset=offset)
    return _page([shown_row(r) for r in found[:limit]], len(found) > limit)


async def add_rows(gate: Gate, request: Request) -> Response:
    _manages(request)
    desk = _desk(gate)
    brought = await _body(request, Brought)
    new, of = await desk.bring(_name(request), brought.rows, brought.consent, brought.terms, brought.teacher)
    return _json({"object": "task.import", "new": new, "rows": of})


async def audits(gate: Gate, request: Request) -> Response:
    name, limit = _seen(gate, request), _number(request, "limit", 100, 1, MOST)
    desk = _desk(gate)
    await desk.named(name)
    found = await desk.store.audits(name, request.query_params.get("student"), limit=limit + 1)
    return _page([{"object": "task.audit", **structs.asdict(a)} for a in found[-limit:]], len(found) > limit)


async def savings(gate: Gate, request: Request) -> Response:
    name = _seen(gate, request)
    return _json(await _desk(gate).savings(name))


async def forget(gate: Gate, request: Request) -> Response:
    _manages(request)
    desk = _desk(gate)
    who = await _body(request, Who)
    return _json(await desk.forget(who.key, who.subject))


def shown(task: Task, key: Key | None = None) -> dict[str, Any]:
    """The task as JSON; a key with a scope is shown no other key's id."""
    fields = {"object": "task", "id": PREFIX + task.name, **structs.asdict(task)}
    if key is not None and key.models:
        fields["keys"] = [k for k in task.keys if k == key.id]
    return fields


def shown_row(row: Row) -> dict[str, Any]:
    return {"object": "task.row", **structs.asdict(row)}


def _desk(gate: Gate) -> Desk:
    if gate.desk is None:
        raise Problem("missing", "this gateway keeps no tasks", code="not_found")
    return gate.desk


def _manages(request: Request) -> None:
    """Raises Problem (403) for a key with a scope of models."""
    if _key(request).models:
        say = "this key is for models alone and may not order tasks about; use a key without a scope"
        raise Problem("permission", say, code="tasks_not_allowed")


def _seen(gate: Gate, request: Request) -> str:
    """The task's name; raises Problem (403) where it is outside the key's scope, there or not."""
    key, name = _key(request), _name(request)
    if not _sees(gate, key, name):
        say = f"this key may not call {PREFIX + name!r}; it may call {', '.join(key.models)}"
        raise Problem("permission", say, code="model_not_allowed", param="model")
    return name


def _sees(gate: Gate, key: Key, name: str) -> bool:
    return not key.models or gate.allows(key, PREFIX + name)


def _name(request: Request) -> str:
    name: str = request.path_params["id"]
    return name.removeprefix(PREFIX)


async def _body(request: Request, type: type[T]) -> T:
    """The body as a value of this type; raises Problem (400, 415) that names the field."""
    is_json(request.headers.get("content-type", "").encode("latin-1") or None)
    try:
        decoded: T = _decoders[type].decode(await request.body())
        return decoded
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        say, _, where = str(e).partition(" - at `$")
        raise _bad(where.strip(".`") or None, f"the body is not what is read here: {say}") from None


def _number(request: Request, name: str, otherwise: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) < 14 and least <= int(text) <= most):
        raise _bad(name, f"{name} is {text[:20]!r}; send {least} to {most}")
    return int(text)


def _key(request: Request) -> Key:
    key: Key = request.scope["state"]["key"]
    return key


def _page(data: list[dict[str, Any]], has_more: bool) -> Response:
    return _json({"object": "list", "data": data, "has_more": has_more})


def _bad(param: str | None, say: str) -> Problem:
    return Problem("client", say, code="invalid_value", param=param)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
