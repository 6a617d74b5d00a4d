"""Files and batches: calls without a model that pass, as they come, to the provider that the caller names."""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote

from msgspec import Raw, Struct

from lilliput.gateway import gates
from lilliput.gateway.exchange import Visit, told
from lilliput.gateway.observe import Record
from lilliput.gateway.outward import raise_problem, routed, send, way
from lilliput.neutral import Problem, Request
from lilliput.router.attempts import Step
from lilliput.wire import strict
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.operations import files, modality


class Ask(Struct):
    """`model` stands for all models of the provider, which a key with a scope of models may not touch."""

    call: files.Call
    body: bytes
    content_type: str
    model: str
    stream: bool = False
    most: int | None = None


class Files(Struct, frozen=True, eq=False):
    """The operation; problems are told in OpenAI's dialect."""

    name: str = "files"
    dialect: str = "openai_chat"
    is_paid: bool = False

    async def read(self, gate: gates.Gate, visit: Visit) -> Ask:
        path, _, query = visit.target.decode("latin-1").partition("?")
        named = (visit.header(files.HEADER) or b"").decode("latin-1")
        call = files.read(visit.method.decode(), unquote(path).partition("/v1")[2], query, named or None)
        if call is None:
            raise Problem("missing", f"nothing is at {path[:200]!r}", code="not_found")
        content_type = (visit.header(b"content-type") or b"").decode("latin-1")
        body = files.upload(visit.body, content_type) if call.uploads else visit.body
        if body and not call.uploads:
            gates.is_json(visit.header(b"content-type"))
            strict.screen(body)
            modality.fields(body)
        return Ask(call, body, content_type or "application/json", f"{call.provider}/*")

    def told(self, ask: Ask) -> tuple[dict[str, Raw], Request | None]:
        return {}, None

    async def attempt(self, gate: gates.Gate, visit: Visit, record: Record, step: Step, ask: Ask) -> None:
        target, call = step.target, ask.call
        endpoint = partial(files.endpoint, call=call, content_type=ask.content_type)
        known = way(gate, target, ("files",), endpoint, call.method, keeps=False)
        record.route = routed(known, record, step)
        answer = await send(gate, known, ask.body)
        try:
            if not 200 <= answer.status < 300:
                await raise_problem(answer, read_problem)
            status, body = answer.status, await answer.read()
            kind = answer.header(b"content-type") or b"application/octet-stream"
        finally:
            answer.release()
        lines = b"content-type: %b\r\n" % kind + told(record)
        slow = visit.reply(status, lines, body)
        if slow is not None:
            await slow
