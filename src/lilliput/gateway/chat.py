"""Chat, whichever of the dialects the caller speaks and whichever the target: bytes pass where they are the same.

Otherwise the two sides meet in events: the target's reader, the caller's writer, and nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import msgspec
from msgspec import Raw, Struct, structs

from lilliput.gateway import able, gates, relay, threads
from lilliput.gateway.answer import Answer
from lilliput.gateway.exchange import JSON, Visit, told
from lilliput.gateway.observe import Record
from lilliput.gateway.outward import made, raise_problem, routed, send, way
from lilliput.gateway.routing import without_wishes
from lilliput.neutral import Event, Reply, Request, Target, Usage, fold
from lilliput.router.attempts import Step
from lilliput.wire import cost, custom_tools, dialects, quirks, strict
from lilliput.wire.broken import invalid_answer
from lilliput.wire.port import Asked, Client, Headers, Reader

FORWARDED = (b"anthropic-version", b"anthropic-beta")
"""A caller's headers that go with a body that passes as it is."""
_PREFIXES = {
    "openai_chat": "chatcmpl-",
    "openai_responses": "resp_",
    "anthropic": "msg_",
    "openai_completions": "cmpl-",
}
_WHOLE = (b"application/json", b"text/html")
"""What a provider calls an answer that is no stream, whatever was asked."""
_LONGEST = ("max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens")
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class Ask(Struct):
    """A chat request as it came: typed, its fields with their bytes, and (once a target needs it) translated."""

    asked: Asked
    fields: dict[str, Raw]
    body: bytes
    path: str
    model: str
    stream: bool
    request: Request | None = None
    most: int | None = None
    keep: threads.Keep | None = None
    previous: Raw | None = None


class Chat(Struct, frozen=True, eq=False, dict=True):
    """The operation, for callers of one `dialect`."""

    name: str
    dialect: str
    is_paid: bool = True

    @cached_property
    def client(self) -> Client:
        return dialects.client(self.dialect)

    @cached_property
    def read_checked(self) -> Callable[[Asked, dict[str, Raw]], Request] | None:
        """The dialect's reader of a body that is taken apart already, where it has one."""
        return getattr(self.client, "read_checked", None)

    async def read(self, gate: gates.Gate, visit: Visit) -> Ask:
        asked, fields = read_fields(visit, self.client.check)
        body, path = visit.body, visit.target.decode("latin-1")
        ask = Ask(asked, fields, body, path, asked.model, bool(asked.stream))
        if gate.till is not None:
            ask.most = _most(fields)
        if self.dialect == "openai_responses" and gate.threads is not None:
            ask.fields = await threads.expand(gate.threads, visit.key.id, fields)
            ask.body = body if ask.fields is fields else _encode(ask.fields)
            ask.previous = fields.get("previous_response_id")
            ask.keep = partial(threads.remember, gate.threads, visit.key.id, fields)
        return ask

    def told(self, ask: Ask) -> tuple[dict[str, Raw], Request | None]:
        fields, ask.fields = ask.fields, without_wishes(ask.fields)
        if len(ask.fields) != len(fields):
            ask.body = _encode(ask.fields)
        ask.request = None
        return fields, self.request(ask)

    async def attempt(self, gate: gates.Gate, visit: Visit, record: Record, step: Step, ask: Ask) -> None:
        target = step.target
        here = gate.here.get(target.provider)
        if here is not None:
            target = await here.wake(target)
        same = dialects.passes(self.dialect, target)
        speaks = same or target.dialect
        if same is None:
            r = self.request(ask)
            fit, cut = able.fitted(gate.model(target.id), r)
            sent = dialects.provider(speaks).write_body(fit, target)
            body, record.dropped = sent.body, (*cut, *sent.dropped)
            if here is not None:
                body = _encode(here.fit("chat", _fields(body)))
            extra: Headers = ()
        else:
            fields = ask.fields if here is None else here.fit("chat", ask.fields)
            spoken = target if speaks == target.dialect else structs.replace(target, dialect=speaks)
            body = self.client.rewrite(fields, ask.asked, spoken)
            record.dropped = quirks.dropped(fields, target) if target.drop else ()
            extra = forwarded(visit) if self.dialect == "anthropic" else ()
        place = (speaks, ask.stream, extra)
        known = made(gate, target, place) or way(gate, target, place, partial(_endpoint, *place))
        record.route = routed(known, record, step)
        answer = await send(gate, known, body, record.trace, anew=step.is_again)
        drains = False
        try:
            if answer.status != 200:
                await raise_problem(answer, dialects.provider(speaks).read_problem)
            if same is None:
                reader = dialects.provider(speaks).reader(ask.stream)
                drains = await self._translate(gate, visit, record, answer, reader, r, ask)
                return
            if ask.stream and (kind := self._stream_kind(answer)):
                await relay.passing(
                    visit, record, answer, self.client.watch(ask.asked), kind, _closing(gate, record, ask)
                )
                drains = True  # only its formal end is left to be read
                return
            body = answer.rest() if answer.is_done else await answer.read()
            record.usage = self.client.whole(answer.status, body)
            if ask.stream:
                raise invalid_answer(body)
            await _close(gate, record, ask, body)
            body = relay.priced(record, cost.whole, body)
            slow = visit.reply(200, JSON + told(record), body)
            if slow is not None:
                await slow
        finally:
            answer.release(drains)

    async def give(
        self, gate: gates.Gate, visit: Visit, record: Record, ask: Ask, events: Sequence[Event], usage: Usage
    ) -> None:
        """Answers with what was said elsewhere than at a target; raises Problem."""
        r = self.request(ask)
        record.usage = usage
        if not r.stream:
            await self._reply(gate, visit, record, ask, r, fold(events))
            return
        writer = self.client.writer(r, *self._named(gate, visit))
        visit.last_word = writer.problem
        visit.start(200, relay.head(record, writer.content_type))
        record.first_at, record.pieces = record.clock(), 1
        visit.write(b"".join([writer(e) for e in events]))
        end = writer.end()
        closing = _closing(gate, record, ask)
        if closing is not None:
            await closing(writer)
        end = relay.priced(record, cost.events, end)
        slow = visit.write(end) if end else None
        if slow is not None:
            await slow
        slow = visit.finish()
        if slow is not None:
            await slow

    def request(self, ask: Ask) -> Request:
        """The request, read once."""
        r = ask.request = ask.request or self._request(ask)
        return r

    def _named(self, gate: gates.Gate, visit: Visit) -> tuple[str, int]:
        """The id and time (Unix seconds) of an answer that has none of its own."""
        id = _PREFIXES.get(self.dialect, "") + visit.request_id.decode().removeprefix("req_")
        return id, int(gate.clock())

    async def _reply(self, gate: gates.Gate, visit: Visit, record: Record, ask: Ask, r: Request, reply: Reply) -> None:
        body = self.client.write_reply(reply, r, *self._named(gate, visit))
        await _close(gate, record, ask, body)
        body = relay.priced(record, cost.whole, body)
        slow = visit.reply(200, JSON + told(record), body)
        if slow is not None:
            await slow

    def _request(self, ask: Ask) -> Request:
        if self.read_checked is not None:
            return self.read_checked(ask.asked, ask.fields)
        r = self.client.read_request(ask.body, ask.path)
        if ask.previous is None:
            return r
        return structs.replace(r, extra={**r.extra, "$previous_response_id": ask.previous})

    def _stream_kind(self, answer: Answer) -> bytes:
        """The content type under which an answer of the caller's own dialect streams on; b"" for a whole one."""
        content_type = answer.header(b"content-type") or b""
        if self.dialect == "gemini" and b"json" in content_type:
            return content_type
        return b"" if content_type.lower().startswith(_WHOLE) else relay.SSE

    async def _translate(
        self,
        gate: gates.Gate,
        visit: Visit,
        record: Record,
        answer: Answer,
        reader: Reader,
        r: Request,
        ask: Ask,
    ) -> bool:
        """Relays the answer through events; true when only the formal end of a stream is left to be read."""
        restore = custom_tools.restorer(r) if r.tools else None
        if r.stream:
            writer = self.client.writer(r, *self._named(gate, visit))
            closing = _closing(gate, record, ask)
            if (answer.header(b"content-type") or b"").lower().startswith(b"text/html"):
                raise invalid_answer(await answer.read(), "it is a web page")
            return await relay.Translated(visit, record, answer, reader, writer, restore, closing).run()
        data = answer.rest() if answer.is_done else await answer.read()
        events = [*reader(data), *reader(b"")]
        if reader.trouble is not None:
            raise reader.trouble
        reply = fold(restore(events) if restore is not None else events)
        record.usage = reply.usage
        if not reply.choices:
            raise invalid_answer(data, "it has no choices")
        await self._reply(gate, visit, record, ask, r, reply)
        return False


async def _close(gate: gates.Gate, record: Record, ask: Ask, body: bytes) -> None:
    """All that must be on record before the caller learns that the answer is over."""
    if ask.keep is not None:
        await ask.keep(body)
    if gate.till is not None:
        await gate.till.settle(record)


def _closing(gate: gates.Gate, record: Record, ask: Ask) -> relay.Closing | None:
    """The same for a stream, None where there is nothing to be recorded."""
    if ask.keep is None and gate.till is None:
        return None

    async def close(source: object) -> None:
        await _close(gate, record, ask, getattr(source, "response", b""))

    return close


def _most(fields: dict[str, Raw]) -> int | None:
    """The longest answer that a body allows, under whichever dialect's name, times the answers asked for."""
    config = fields.get("generationConfig") or fields.get("generation_config")
    if config is not None and bytes(config)[:1] == b"{":
        fields = fields | _fields(config)
    found = next((n for name in _LONGEST if (n := _number(fields.get(name))) is not None), None)
    return None if found is None else found * (_number(fields.get("n")) or _number(fields.get("candidateCount")) or 1)


def _number(raw: Raw | None) -> int | None:
    text = b"" if raw is None else bytes(raw)
    return int(text) if text.isdigit() and len(text) < 12 else None


def _endpoint(dialect: str, stream: bool, extra: Headers, target: Target) -> tuple[str, Headers]:
    """The endpoint of `dialect` at the target; a caller's own headers take the place of ours."""
    spoken = target if dialect == target.dialect else structs.replace(target, dialect=dialect)
    url, headers = dialects.provider(dialect).endpoint(spoken, stream)
    names = {name for name, _ in extra}
    return url, (*(h for h in headers if h[0] not in names), *extra)


def read_fields(visit: Visit, check: Callable[[bytes, str], Asked]) -> tuple[Asked, dict[str, Raw]]:
    """The body, typed, and its fields with their bytes; raises Problem (400, 415) for what is no honest JSON."""
    gates.is_json(visit.header(b"content-type"))
    strict.screen(visit.body)
    asked = check(visit.body, visit.target.decode("latin-1"))
    fields = _fields(visit.body)
    strict.unique(visit.body, len(_encode(fields)), len(fields))
    return asked, fields


def forwarded(visit: Visit) -> Headers:
    """Those of a caller's headers that mean something to its own dialect's providers."""
    given = [(name, visit.header(name)) for name in FORWARDED]
    return tuple([(name.decode(), value.decode("latin-1")) for name, value in given if value is not None])
