"""The operations that are no chat: asked in OpenAI's form, converted by the adapter of the target's dialect."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct

from lilliput.gateway import gates, relay
from lilliput.gateway.answer import Answer
from lilliput.gateway.exchange import Visit, told
from lilliput.gateway.observe import Record
from lilliput.gateway.outward import raise_problem, routed, send, way
from lilliput.neutral import Problem, Request, Target
from lilliput.router.attempts import Step
from lilliput.wire import cost, strict
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.operations import modalities, modality
from lilliput.wire.port import Asked

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class Ask(Struct):
    """A request as it came, typed by its operation."""

    asked: Asked
    body: bytes
    path: str
    model: str
    stream: bool
    most: int | None = 0


class Convert(Struct, frozen=True, eq=False):
    """One such operation, by its name in `wire.operations.modalities`.

    A caller of another `dialect` than OpenAI's has its body and the answer's turned by two functions, which also get
    the path.
    """

    name: str
    dialect: str = "openai_chat"
    is_paid: bool = True
    turned_in: Callable[[bytes, str], bytes] | None = None
    turned_out: Callable[[bytes, str], bytes] | None = None

    async def read(self, gate: gates.Gate, visit: Visit) -> Ask:
        operation, body = modalities.operation(self.name), visit.body
        content_type = visit.header(b"content-type") or b""
        if not (operation.form and content_type[:20].lower() == b"multipart/form-data;"):
            gates.is_json(content_type or None)
            strict.screen(body)
        path = visit.target.decode("latin-1")
        if self.turned_in is not None:
            body = self.turned_in(body, path)
        asked = operation.check(body, content_type.decode("latin-1"))
        if body[:1] == b"{":
            fields = _fields(body)
            strict.unique(body, len(_encode(fields)), len(fields))
        return Ask(asked, body, path, asked.model, bool(asked.stream))

    def told(self, ask: Ask) -> tuple[dict[str, Raw], Request | None]:
        return {}, None

    async def attempt(self, gate: gates.Gate, visit: Visit, record: Record, step: Step, ask: Ask) -> None:
        target = step.target
        adapter = modalities.operation(self.name).adapters.get(target.dialect)
        if adapter is None:
            raise modalities.lacking(self.name, target)
        here, body = gate.here.get(target.provider), ask.body
        if here is not None:
            if self.name != "embeddings":
                raise modalities.lacking(self.name, target)
            body = _encode(here.fit(self.name, _fields(body)))
            target = await here.wake(target)
        sent = adapter.write(body, ask.asked, target)
        record.dropped = sent.dropped
        known = way(gate, target, (self.name,), partial(_endpoint, adapter, ask.asked), keeps=not adapter.varies)
        record.route = routed(known, record, step)
        answer = await send(gate, known, sent.body, record.trace, anew=step.is_again)
        drains = False
        try:
            if answer.status >= 300:
                await raise_problem(answer, partial(_problem, adapter, answer, ask.asked, target))
            content_type = (answer.header(b"content-type") or b"").lower()
            if adapter.watch is not None and ask.stream and content_type.startswith(b"text/event-stream"):
                await relay.passing(visit, record, answer, adapter.watch(), closing=_closing(gate, record))
                drains = True
                return
            data = answer.rest() if answer.is_done else await answer.read()
            whole = adapter.read(answer.status, data, answer.header, ask.asked, target)
        finally:
            answer.release(drains)
        record.usage = whole.usage
        if gate.till is not None:
            await gate.till.settle(record)
        body = whole.body if self.turned_out is None else self.turned_out(whole.body, ask.path)
        body = relay.priced(record, cost.whole, body)
        kind = b"content-type: %b\r\n" % whole.content_type.encode()
        slow = visit.reply(200, kind + told(record), body)
        if slow is not None:
            await slow


def _closing(gate: gates.Gate, record: Record) -> relay.Closing | None:
    """What must be on record before the caller learns that a stream is over; None where nothing is kept."""
    till = gate.till
    return None if till is None else lambda _: till.settle(record)


def _endpoint(adapter: modality.Adapter[Any], asked: Asked, target: Target) -> tuple[str, Any]:
    return adapter.endpoint(target, asked)


def _problem(
    adapter: modality.Adapter[Any], answer: Answer, asked: Asked, target: Target, status: int, body: bytes
) -> Problem:
    """What an error says, in the words of the adapter that knows it."""
    try:
        adapter.read(status, body, answer.header, asked, target)
    except Problem as problem:
        return problem
    return read_problem(status, body)
