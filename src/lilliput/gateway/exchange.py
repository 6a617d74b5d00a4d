"""The life of one request, top to bottom: read it, choose a target, send, relay, and note what happened.

Both sides speak OpenAI's dialect here, so bytes pass and are only watched; the model's name is rewritten and usage is
always asked for. The request has been admitted (`gates.admit`) before this begins. No rule that may refuse is written
here (see `gates`), nor anything that only watches (see `observe`).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.gateway import gates
from lilliput.gateway.answer import Answer
from lilliput.gateway.observe import REFUSED, Record
from lilliput.neutral import Key, Problem, Target
from lilliput.router.attempts import Step, attempts
from lilliput.wire import embeddings, openai_endpoint, openai_problem, openai_types, openai_watch, quirks, strict

Lines = bytes
"""Header lines as they go on the wire, each ended by CRLF."""

JSON = b"content-type: application/json\r\n"
SSE = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"


class Visit(Protocol):
    """One admitted request and the way back to its caller; a caller that leaves cancels the task that serves it.

    `reply`, `start`, `write` and `finish` return None, or something to await while the caller is slow.
    """

    key: Key
    body: bytes
    request_id: bytes
    has_started: bool

    def header(self, name: bytes) -> bytes | None: ...
    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None] | None: ...
    def start(self, status: int, headers: Lines) -> Awaitable[None] | None: ...
    def write(self, data: bytes) -> Awaitable[None] | None: ...
    def finish(self) -> Awaitable[None] | None: ...


class Asked(Protocol):
    """What every operation's typed body tells."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...


class Operation(Struct, frozen=True, eq=False):
    """A kind of call: where its path ends, how its body is checked, and how its whole answer is read for usage."""

    name: str
    path: str
    check: Callable[[bytes], Asked]
    whole: Callable[[int, bytes], dict[str, Any] | None]


CHAT = Operation("chat", "/chat/completions", openai_types.check, openai_watch.whole)
EMBEDDINGS = Operation("embeddings", "/embeddings", embeddings.check, embeddings.whole)

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_WHOLE = (b"application/json", b"text/html")
"""What a provider calls an answer that is no stream, whatever was asked."""
_NUMBER = re.compile(rb"\d{1,9}(\.\d{1,9})?")
_ASK_USAGE = Raw(b'{"include_usage":true}')


class _Ask(Struct, frozen=True):
    """What the caller's body says to the gateway; `fields` keep their bytes."""

    fields: dict[str, Raw]
    is_stream: bool
    wants_usage: bool


async def exchange(gate: gates.Gate, op: Operation, visit: Visit) -> None:
    """Serves one request to its end. Every Problem becomes an answer in OpenAI's form; only cancellation escapes."""
    record = Record(
        request_id=visit.request_id, operation=op.name, key_id=visit.key.id, began_at=gate.clock(), left_early=True
    )
    try:
        ask, target = _read(gate, op, visit, record)
        steps = attempts([target], gate.dice)
        step = next(steps)
        while True:
            record.served_by, record.tries = step.target.id, step.number
            try:
                await _attempt(gate, op, visit, record, step, ask)
                break
            except Problem as problem:
                if visit.has_started:
                    raise
                step = steps.send(problem)
        record.left_early = False
    except Problem as problem:
        record.problem, record.left_early = problem, False
        await refuse(visit, problem, record)
    except asyncio.CancelledError:
        if gate.is_closing:
            record.problem = Problem("server", "the gateway is shutting down; ask again", code="server_shutdown")
            await refuse(visit, record.problem, record)
        raise
    finally:
        gate.meter.note(record)


def _read(gate: gates.Gate, op: Operation, visit: Visit, record: Record) -> tuple[_Ask, Target]:
    """What is asked, and of whom; raises Problem for a body or a model that this key may not send."""
    gates.is_json(visit.header(b"content-type"))
    strict.screen(visit.body)
    asked = op.check(visit.body)
    record.model, record.is_stream = asked.model, bool(asked.stream)
    target = gate.target(asked.model)
    if visit.key.models:
        gates.may_call(gate, visit.key, target)
    ask = _Ask(_fields(visit.body), record.is_stream, record.is_stream and _wants_usage(asked))
    strict.unique(visit.body, len(_encode(ask.fields)), len(ask.fields))
    return ask, target


def _wants_usage(asked: Asked) -> bool:
    options = getattr(asked, "stream_options", None)
    return bool(options and options.include_usage)


async def _attempt(gate: gates.Gate, op: Operation, visit: Visit, record: Record, step: Step, ask: _Ask) -> None:
    """One call to one target, relayed to the caller; raises Problem, and another try is free until `has_started`."""
    if step.wait_s:
        await asyncio.sleep(step.wait_s)
    target = step.target
    here = gate.here.get(target.provider)
    if here is not None:
        ask = structs.replace(ask, fields=here.fit(op.name, ask.fields))
        target = await here.wake(target)
    known = way(gate, target, op.path)
    record.route = known.route if step.number == 1 else b"%b; tries=%d; why=named" % (known.served, step.number)
    answer = await known.link.send(rewrite(ask, known))
    drains = False
    try:
        if answer.status != 200:
            await _raise_problem(answer)
        content_type = answer.header(b"content-type") or b""
        if ask.is_stream and not content_type.lower().startswith(_WHOLE):
            await _relay(visit, answer, record, ask.wants_usage)
            drains = True
            return
        body = answer.rest() if answer.is_done else await answer.read()
        record.usage = op.whole(answer.status, body)
        if ask.is_stream:
            raise openai_problem.invalid_answer(body)
        slow = visit.reply(200, JSON + told(record.request_id, record.route), body)
        if slow is not None:
            await slow
    finally:
        answer.release(drains)


async def _relay(visit: Visit, answer: Answer, record: Record, wants_usage: bool) -> None:
    """The provider's stream to the caller, event by event, each checked; raises Problem when it proves bad."""
    watch = openai_watch.Watch(wants_usage)

    def give(out: bytes) -> Awaitable[None] | None:
        if watch.done or watch.trouble is not None:
            answer.stop()
        if not out:
            return None
        if not visit.has_started:
            visit.start(200, SSE + told(record.request_id, record.route))
        return visit.write(out)

    try:
        await answer.pour(lambda chunk: give(watch.feed(chunk)))
        slow = None if watch.done or watch.trouble is not None else give(watch.end())
        if slow is not None:
            await slow
        if watch.trouble is not None:
            raise watch.trouble
    finally:
        record.usage = watch.usage
    slow = visit.finish()
    if slow is not None:
        await slow


async def refuse(visit: Visit, problem: Problem, record: Record | None = None) -> None:
    """Tells the caller of a problem: as an HTTP error, or as the last event of a stream that has begun."""
    if visit.has_started:
        slow = visit.write(openai_problem.write_stream_problem(problem))
        if slow is not None:
            await slow
        slow = visit.finish()
    else:
        lines = problem_headers(problem) + told(visit.request_id, record.route if record is not None else REFUSED)
        slow = visit.reply(problem.status, lines, openai_problem.write_problem(problem))
    if slow is not None:
        await slow


def problem_headers(problem: Problem) -> Lines:
    lines = JSON
    if problem.retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % math.ceil(problem.retry_after_s)
    if problem.allow:
        lines += b"allow: %b\r\n" % problem.allow.encode()
    return lines


def told(request_id: bytes, route: bytes) -> Lines:
    """What every answer says of itself: its id, and who served it, after how many tries, and why."""
    return b"x-request-id: %b\r\nx-lilliput-route: %b\r\n" % (request_id, route)


def way(gate: gates.Gate, target: Target, path: str) -> gates.Way:
    """The way to a target's endpoint, made once and kept while the target stays the same object."""
    known = gate.ways.get((target.id, path))
    if known is not None and known.target is target:
        return known
    gates.is_printable(target)
    url, headers = openai_endpoint.endpoint(target, path)
    made = gate.upstream.link(url, headers, allow_private=target.allow_private)
    served = target.id.encode("ascii", "backslashreplace")
    known = gates.Way(target, made, Raw(_encode(target.model)), served, served + b"; tries=1; why=named")
    if len(gate.ways) >= gates.MOST_WAYS:
        gate.ways.clear()
    gate.ways[target.id, path] = known
    return known


def rewrite(ask: _Ask, known: gates.Way) -> bytes:
    """The caller's body for this target: its model's own name, usage asked for, the row's quirks applied."""
    fields = ask.fields.copy()
    fields["model"] = known.model
    if ask.is_stream and not ask.wants_usage:
        options = fields.get("stream_options")
        if options is None or bytes(options) in (b"null", b"{}"):
            fields["stream_options"] = _ASK_USAGE
        else:
            fields["stream_options"] = Raw(_encode(_fields(options) | {"include_usage": True}))
    return _encode(quirks.apply(fields, known.target))


async def _raise_problem(answer: Answer) -> None:
    """Reads an answer that is no success and raises what it says as a Problem."""
    body = await answer.read()
    status = answer.status
    if status < 400:
        say = f"the provider answered {status}, which is neither an answer nor an error; redirects are not followed"
        raise Problem("provider", say, code="upstream_invalid")
    problem = openai_problem.read_problem(status, body)
    problem.retry_after_s = _wait_s(answer)
    raise problem


def _wait_s(answer: Answer) -> float | None:
    """How long a provider asks to wait, told in milliseconds or seconds; None for a date, or when it does not ask."""
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        given = answer.header(name)
        if given is not None and _NUMBER.fullmatch(given):
            return float(given) * unit_s
    return None
