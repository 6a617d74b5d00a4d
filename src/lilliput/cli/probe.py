"""`lilliput providers test`: one tiny call to a provider, by the way that the gateway's own calls go."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from lilliput.catalogue.load import LOCAL, Catalogue, Model
from lilliput.catalogue.price import cost_nusd
from lilliput.catalogue.strict import nearest
from lilliput.cli import embedded, here
from lilliput.cli.models import dollars
from lilliput.cli.output import one_line, show_json
from lilliput.config import Config, Home
from lilliput.gateway.gates import Gate
from lilliput.gateway.outward import raise_problem, send, way
from lilliput.gateway.upstream import Upstream
from lilliput.neutral import Message, Problem, Request, Target, Text, Usage, fold
from lilliput.wire import dialects
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.operations import modalities

WORD = "ping"
ANSWER_TOKENS = 16
_encode = msgspec.json.encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class Found(Struct, frozen=True):
    """What came back: `answered` is the model that the provider says it was, `said` "" for vectors."""

    answered: str | None
    usage: Usage | None
    said: str = ""


def probe(env: Mapping[str, str], config_file: Path | None, name: str, model: str | None, as_json: bool) -> None:
    """Call the provider once and print what came back; Problem when nothing did, or it is not ready to be called."""
    place, config = here.settings(env, config_file)
    catalogue = here.catalogue(env, place, config)
    id = _chosen(catalogue, name, model)
    target = catalogue.target(id)
    began = time.monotonic()
    try:
        found = asyncio.run(_asked(catalogue, place, config, target))
    except Problem as problem:
        raise Problem(problem.fault, f"{id}: {problem.say}{_advice(catalogue, target, problem)}") from None
    took_s = time.monotonic() - began
    usage = found.usage
    price = catalogue.price(id)
    cost = cost_nusd(price, usage, time.time()) if price is not None and usage is not None else None
    if as_json:
        report = {
            "provider": name,
            "model": id,
            "answered": found.answered,
            "seconds": round(took_s, 3),
            "prompt_tokens": usage and usage.prompt_tokens,
            "completion_tokens": usage and usage.completion_tokens,
            "cost_usd": None if cost is None else dollars(cost),
            "said": found.said,
        }
        show_json(report, sys.stdout)
        return
    tokens = f"{usage.prompt_tokens} tokens in, {usage.completion_tokens} out" if usage else "tokens not told"
    paid = "price unknown" if cost is None else f"${dollars(cost)}"
    print(one_line(f"{id} answered in {took_s:.2f} s as {found.answered or 'no model named'}: {tokens}, {paid}"))


async def _asked(catalogue: Catalogue, place: Home, config: Config, target: Target) -> Found:
    upstream = Upstream(asyncio.get_running_loop())
    gate = Gate(upstream=upstream, find_key=lambda token: None, allows=lambda key, id: False, target=catalogue.target)
    mini = embedded.Mini(place, config)
    try:
        if target.dialect in dialects.PROVIDERS:
            return await _chat(gate, mini, target)
        return await _embedding(gate, target)
    finally:
        await mini.stop()
        upstream.close()


async def _chat(gate: Gate, mini: embedded.Mini, target: Target) -> Found:
    speaks = dialects.provider(target.dialect)
    request = Request(model=target.model, messages=(Message("user", (Text(WORD),)),), max_tokens=ANSWER_TOKENS)
    if target.provider == LOCAL:
        target = await mini.wake(target)
    body = speaks.write_body(request, target).body
    if target.provider == LOCAL:
        body = _encode(mini.fit("chat", _fields(body)))
    answer = await send(gate, way(gate, target, (), lambda t: speaks.endpoint(t, False)), body)
    try:
        if answer.status != 200:
            await raise_problem(answer, speaks.read_problem)
        data = answer.rest() if answer.is_done else await answer.read()
    finally:
        answer.release(False)
    reader = speaks.reader(False)
    events = [*reader(data), *reader(b"")]
    if reader.trouble is not None:
        raise reader.trouble
    reply = fold(events)
    return Found(reply.model, reply.usage, reply.choices[0].text if reply.choices else "")


async def _embedding(gate: Gate, target: Target) -> Found:
    operation = modalities.operation("embeddings")
    adapter = operation.adapters.get(target.dialect)
    if adapter is None:
        say = (
            f"{target.provider} offers neither chat nor embeddings, and a probe asks for nothing else; call it instead"
        )
        raise Problem("client", say, code="unsupported_operation")
    given = _encode({"model": target.model, "input": WORD})
    asked = operation.check(given, "application/json")
    body = adapter.write(given, asked, target).body
    answer = await send(gate, way(gate, target, (), lambda t: adapter.endpoint(t, asked)), body)
    try:
        if answer.status != 200:
            await raise_problem(answer, read_problem)
        data = answer.rest() if answer.is_done else await answer.read()
        return Found(None, adapter.read(200, data, answer.header, asked, target).usage)
    finally:
        answer.release(False)


def _advice(catalogue: Catalogue, target: Target, problem: Problem) -> str:
    """What may help, by whose fault it is."""
    row = next(s.provider for s in catalogue.providers() if s.name == target.provider)
    if problem.fault == "provider_auth":
        return f"; check the key in {row.key_env}" if row.key_env else "; it wants a key: name its variable in key_env"
    if problem.fault in ("client", "missing") and problem.code != "unsupported_operation":
        return "; or ask another model with --model"
    if problem.code in ("upstream_unreachable", "upstream_timeout"):
        return f"; check the network, and its base {target.base}"
    return ""


def _chosen(catalogue: Catalogue, name: str, model: str | None) -> str:
    """The id to call; raises Problem for a provider that is not known, not ready, or has no model to choose."""
    status = {s.name: s for s in catalogue.providers()}
    if name not in status:
        near = nearest(name, list(status))
        hint = f"nearest: {', '.join(near)}" if near else "list them with `lilliput providers`"
        raise Problem("missing", f"provider {name!r} is not in the catalogue; {hint}")
    if not status[name].ready:
        raise Problem("missing", f"provider {name!r} is not ready: {status[name].reason}")
    if model is not None:
        return model if model.startswith(f"{name}/") else f"{name}/{model}"
    best = cheapest(catalogue, name)
    if best is None:
        raise Problem(
            "missing", f"no model of {name!r} is known to take a probe; say which with --model NAME", code="usage"
        )
    return best.id


def cheapest(catalogue: Catalogue, provider: str) -> Model | None:
    """The cheapest model of a provider for a probe, those that are known to chat (they call tools) before others."""
    today = datetime.now(UTC).date()
    offered = [
        m
        for m in catalogue.models()
        if m.provider == provider
        and m.price is not None
        and "rerank" not in m.id
        and not (m.deprecated or (m.retires_on and m.retires_on <= today))
    ]

    def rank(m: Model) -> tuple[bool, bool, int]:
        assert m.price is not None
        return m.tools is not True, "embed" in m.id.lower(), m.price.input + m.price.output

    return min(offered, key=rank, default=None)
