"""On the way to a provider: the link to a target's endpoint, and what an answer that is no success says."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine

from lilliput.gateway import gates
from lilliput.gateway.answer import Answer
from lilliput.gateway.observe import NAMED, Record, Trace
from lilliput.neutral import Problem, Target
from lilliput.router.attempts import Step
from lilliput.wire.bedrock import sigv4
from lilliput.wire.port import Headers

_NUMBER = re.compile(rb"\d{1,9}(\.\d{1,9})?")
Endpoint = Callable[[Target], tuple[str, Headers]]


def made(gate: gates.Gate, target: Target, place: tuple[object, ...]) -> gates.Way | None:
    """The way that was made for the same target and `place` before; a provider's every key is a target of its own."""
    known = gate.ways.get((id(target), place))
    return known if known is not None and known.target is target else None


def way(
    gate: gates.Gate,
    target: Target,
    place: tuple[object, ...],
    endpoint: Endpoint,
    method: str = "POST",
    *,
    keeps: bool = True,
) -> gates.Way:
    """The way to a target's endpoint, made once for each `place` and kept while the target stays the same object;
    one that differs from call to call is not kept."""
    if keeps and (known := made(gate, target, place)) is not None:
        return known
    served = gates.served(target)
    url, headers = endpoint(target)
    link = gate.upstream.link(url, headers, method=method, allow_private=target.allow_private)
    known = gates.Way(target, link, url, headers, served, served + b"; tries=1; why=named")
    if not keeps:
        return known
    if len(gate.ways) >= gates.MOST_WAYS:
        gate.ways.clear()
    gate.ways[id(target), place] = known
    return known


def routed(known: gates.Way, record: Record, step: Step) -> bytes:
    """The route header: who serves, after how many tries, and why; of a task's teacher, that first."""
    if record.task:
        return b"%b; served=%b; tries=%d; policy=%b" % (record.task, known.served, step.number, record.why)
    if step.number == 1 and record.why is NAMED:
        return known.route
    return b"%b; tries=%d; why=%b" % (known.served, step.number, record.why)


def send(
    gate: gates.Gate, known: gates.Way, body: bytes, trace: Trace | None = None, *, anew: bool = False
) -> Coroutine[None, None, Answer]:
    """The answer to `body`, its head read; a target with an AWS key has the call signed. `anew`: over a new
    connection."""
    if trace is not None:
        return _traced(trace, known.target, body, send(gate, known, body, anew=anew))
    aws = known.target.aws
    if aws is None:
        return known.link.send(body, anew=anew)
    signed = sigv4.sign("POST", known.url, known.headers, body, aws, "bedrock", gate.clock())
    more = b"".join([f"{n}: {v}\r\n".encode("latin-1") for n, v in signed])
    return known.link.send(body, more, anew=anew)


async def _traced(trace: Trace, target: Target, body: bytes, sending: Coroutine[None, None, Answer]) -> Answer:
    heard = trace.sent(target, body)
    answer = await sending
    answer.heard = heard
    return answer


async def raise_problem(answer: Answer, read_problem: Callable[[int, bytes], Problem]) -> None:
    """Reads an answer that is no success and raises what it says as a Problem."""
    body = await answer.read()
    status = answer.status
    if status < 400:
        say = f"the provider answered {status}, which is neither an answer nor an error; redirects are not followed"
        raise Problem("provider", say, code="upstream_invalid")
    problem = read_problem(status, body)
    problem.retry_after_s = _wait_s(answer) or problem.retry_after_s
    raise problem


def _wait_s(answer: Answer) -> float | None:
    """How long a provider asks to wait, told in milliseconds or seconds; None for a date, or when it does not ask."""
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        given = answer.header(name)
        if given is not None and _NUMBER.fullmatch(given):
            return float(given) * unit_s
    return None
