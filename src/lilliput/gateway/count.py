"""How many tokens a request has: asked of the provider where it counts, else estimated, and then said so."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, cast

from msgspec import Raw, Struct

from lilliput.gateway import gates
from lilliput.gateway.chat import Ask, forwarded, read_fields
from lilliput.gateway.exchange import JSON, Visit, told
from lilliput.gateway.observe import Record
from lilliput.gateway.outward import raise_problem, send, way
from lilliput.neutral import Media, Message, Request, Target, Text, Thinking, ToolCall, ToolResult
from lilliput.router.attempts import Step
from lilliput.wire import dialects
from lilliput.wire.port import Asked, Headers

BYTES_A_TOKEN = 3.5
"""Of English text and of JSON, on the safe side (OpenAI's help pages say about 4 characters)."""
TOKENS_A_PICTURE = 1_500
TOKENS_A_MESSAGE = 4
ESTIMATED = b"x-lilliput-estimate: input tokens\r\n"


class Counter(Protocol):
    """What a dialect that counts offers."""

    def check_count(self, body: bytes, path: str) -> Asked: ...
    def count_endpoint(self, target: Target) -> tuple[str, Headers]: ...
    def count_body(self, r: Request, target: Target) -> bytes: ...
    def read_count(self, body: bytes) -> int: ...
    def write_count(self, tokens: int) -> bytes: ...


class Count(Struct, frozen=True, eq=False):
    """The operation, for callers of one `dialect` that has it."""

    dialect: str
    name: str = "count_tokens"
    is_paid: bool = False

    async def read(self, gate: gates.Gate, visit: Visit) -> Ask:
        counter = cast(Counter, dialects.client(self.dialect))
        asked, fields = read_fields(visit, counter.check_count)
        path = visit.target.decode("latin-1")
        request = dialects.client(self.dialect).read_request(visit.body, path)
        return Ask(asked, fields, visit.body, path, asked.model, False, request)

    def told(self, ask: Ask) -> tuple[dict[str, Raw], Request | None]:
        return ask.fields, ask.request

    async def attempt(self, gate: gates.Gate, visit: Visit, record: Record, step: Step, ask: Ask) -> None:
        target, r = step.target, ask.request
        assert r is not None
        speaker: Any = dialects.provider(target.dialect)
        lines = b""
        record.route = b"%b; tries=%d; why=%b" % (gates.served(target), step.number, record.why)
        if hasattr(speaker, "count_endpoint"):
            extra = forwarded(visit) if target.dialect == "anthropic" else ()
            known = way(gate, target, ("count", extra), partial(_endpoint, speaker, extra))
            answer = await send(gate, known, speaker.count_body(r, target))
            try:
                if answer.status != 200:
                    await raise_problem(answer, speaker.read_problem)
                tokens = speaker.read_count(await answer.read())
            finally:
                answer.release()
        else:
            tokens, lines = estimate(r), ESTIMATED
        body = cast(Counter, dialects.client(self.dialect)).write_count(tokens)
        slow = visit.reply(200, JSON + lines + told(record), body)
        if slow is not None:
            await slow


def estimate(r: Request) -> int:
    """About how many tokens `r` has, from the size of its text and the number of its pictures and sounds."""
    size = sum(len(t.name) + len((t.description or "").encode()) + len(bytes(t.schema or b"")) for t in r.tools)
    media = 0
    for m in r.messages:
        size += _size(m)
        media += sum(isinstance(p, Media) for p in m.parts)
    return round(size / BYTES_A_TOKEN) + media * TOKENS_A_PICTURE + len(r.messages) * TOKENS_A_MESSAGE


def _size(m: Message) -> int:
    total = 0
    for p in m.parts:
        if isinstance(p, Text | Thinking):
            total += len(p.text.encode())
        elif isinstance(p, ToolCall):
            total += len(p.name) + len(p.arguments.encode())
        elif isinstance(p, ToolResult):
            total += sum(len(q.text.encode()) for q in p.parts if isinstance(q, Text))
    return total


def _endpoint(counter: Counter, extra: Headers, target: Target) -> tuple[str, Headers]:
    url, headers = counter.count_endpoint(target)
    names = {name for name, _ in extra}
    return url, (*(h for h in headers if h[0] not in names), *extra)
