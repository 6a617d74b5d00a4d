"""The life of one request, top to bottom: read it, choose a target, send, relay, and note what happened.

What is particular to a kind of call is its operation's (`chat`, `count`, `convert`). The request has been admitted
(`gates.admit`) before this begins. No rule that may refuse is written here (see `gates`), nor anything that only
watches (see `observe`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Protocol

from msgspec import Raw, structs

from lilliput.catalogue.rows import Model
from lilliput.gateway import gates
from lilliput.gateway.observe import NAMED, REFUSED, Record
from lilliput.gateway.routing import Choice
from lilliput.neutral import Key, Problem, Request
from lilliput.router.attempts import Step, attempts
from lilliput.wire import dialects
from lilliput.wire.openai import problem as openai_problem

Lines = bytes
"""Header lines as they go on the wire, each ended by CRLF."""

JSON = b"content-type: application/json\r\n"
DROPPED_BYTES = 1000
"""How much of what a translation lost is told in a header."""


class Visit(Protocol):
    """One admitted request and the way back to its caller; a caller that leaves cancels the task that serves it.

    `target` is the request line's own: path and query. `dialect` is the one to answer problems in, and `last_word`
    writes a problem into a stream that has begun. `reply`, `start`, `write` and `finish` return None, or something to
    await while the caller is slow.
    """

    key: Key
    body: bytes
    method: bytes
    target: bytes
    request_id: bytes
    has_started: bool
    last_word: Callable[[Problem], bytes]

    @property
    def dialect(self) -> str: ...
    def header(self, name: bytes) -> bytes | None: ...
    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None] | None: ...
    def start(self, status: int, headers: Lines) -> Awaitable[None] | None: ...
    def write(self, data: bytes) -> Awaitable[None] | None: ...
    def finish(self) -> Awaitable[None] | None: ...


class Ask(Protocol):
    """What an operation read: the model that is asked for, and whether the answer is to be streamed."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def most(self) -> int | None:
        """The longest answer that it allows, in tokens; None where it sets no bound."""
        ...


class Operation(Protocol):
    """A kind of call, in the dialect that its callers speak."""

    @property
    def name(self) -> str: ...
    @property
    def dialect(self) -> str: ...
    @property
    def is_paid(self) -> bool:
        """Whether limits and the ledger see it."""
        ...

    async def read(self, gate: gates.Gate, visit: Visit) -> Any:
        """What is asked, an `Ask`; raises Problem (400) for what cannot be."""
        ...

    def told(self, ask: Any) -> tuple[dict[str, Raw], Request | None]:
        """What a router looks at: the body's fields, which lose what is meant for it alone, and the chat request."""
        ...

    async def attempt(self, gate: gates.Gate, visit: Visit, record: Record, step: Step, ask: Any) -> None:
        """One call to one target, relayed to the caller; raises Problem, and another try is free until
        `visit.has_started`."""
        ...


class Seat(Visit, Protocol):
    """A visit that is watched over: `closed` is told once of the request's end, whatever end that was."""

    async def closed(self, record: Record) -> None: ...


class Replays(Protocol):
    """Answers that were given before and may be given again."""

    def wants(self, visit: Visit, op: Operation) -> bool:
        """Whether it has anything to do with such a request."""
        ...

    async def open(self, visit: Visit, op: Operation, ask: Ask, record: Record) -> Seat | None:
        """The visit to go on with; None when the request was answered from what is kept. Raises Problem (409, 422)."""
        ...


class Turn(Seat, Protocol):
    """A request to a task: its teacher's, unless its student answers."""

    async def answered(self, gate: gates.Gate, visit: Visit, op: Operation, ask: Any, record: Record) -> bool:
        """Whether the student, being sure, has answered `visit`. Raises Problem."""
        ...

    async def rescued(
        self, gate: gates.Gate, visit: Visit, op: Operation, ask: Any, record: Record, problem: Problem
    ) -> bool:
        """Whether it has, now that the teacher cannot; raises nothing."""
        ...


class Tasks(Protocol):
    """Names that stand for a teacher and the student that learns from it."""

    def has(self, model: str) -> bool:
        """Whether the name is a task's, there or not."""
        ...

    async def models(self) -> Sequence[Model]: ...
    async def model(self, key: Key, name: str) -> Model: ...

    async def open(self, gate: gates.Gate, visit: Visit, op: Operation, ask: Any, record: Record) -> Turn:
        """The visit to go on with, the teacher asked for; raises Problem (400, 403, 404)."""
        ...


class Receipts(Protocol):
    """The signed record of what was asked, received and delivered."""

    def open(self, visit: Visit, op: Operation, record: Record) -> Seat: ...


async def exchange(gate: gates.Gate, op: Operation, visit: Visit) -> None:
    """Serves one request to its end. Every Problem becomes an answer in the caller's dialect; only cancellation
    escapes."""
    clock = gate.clock
    record = Record(
        request_id=visit.request_id,
        operation=op.name,
        key_id=visit.key.id,
        began_at=clock(),
        clock=clock,
        left_early=True,
    )
    seats: list[Seat] = []
    turn: Turn | None = None
    try:
        if gate.receipts is not None and op.is_paid:
            visit = _seated(seats, gate.receipts.open(visit, op, record))
        ask = await op.read(gate, visit)
        record.model, record.is_stream = ask.model, ask.stream
        if gate.tasks is not None and gate.tasks.has(ask.model):
            visit = turn = await gate.tasks.open(gate, visit, op, ask, record)
            seats.append(turn)
        choice = _choose(gate, op, visit, ask)
        record.why, target = choice.why, choice.targets[0]
        if visit.key.models:
            gates.may_call(gate, visit.key, target)
        if gate.replays is not None and op.is_paid and gate.replays.wants(visit, op):
            seat = await gate.replays.open(visit, op, ask, record)
            if seat is None:
                record.left_early = False
                return
            visit = _seated(seats, seat)
        if gate.till is not None and op.is_paid:
            may = await gate.till.open_any(visit.key, choice.targets, record, len(visit.body), ask.most)
            if may is not choice.targets:
                choice = structs.replace(choice, targets=may)
        if turn is not None and await turn.answered(gate, visit, op, ask, record):
            record.left_early = False
            return
        routing = gate.routing
        if routing is not None:
            routing.budget.earn()
        steps = None if choice.care is None or routing is None else routing.steps(choice)
        step = Step(choice.targets[0], 1)
        while True:
            record.served_by, record.tries = step.target.id, step.number
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            if routing is not None:
                began = routing.begin(step.target)
            try:
                if steps is None or choice.care is None or routing is None or routing.guard is None:
                    await op.attempt(gate, visit, record, step, ask)
                else:
                    step, began, met = await routing.guard(gate, op, visit, record, step, ask, choice, steps)
                    if met is not None:
                        raise met
            except Problem as problem:
                gates.hide(problem, step.target)
                if routing is not None:
                    routing.note(step.target, problem)
                gate.meter.failed(step.target, problem)
                if visit.has_started:
                    raise
                if steps is None:  # nearly every request never asks for more than its first step
                    steps = _steps(gate, choice)
                before, step = step, steps.send(problem)
                while step.is_early:  # other requests earn the retry
                    await asyncio.sleep(step.wait_s)
                    step = steps.send(problem)
                gate.meter.again(before.target, step.target)
            except asyncio.CancelledError:
                if routing is not None:
                    routing.leave(step.target)
                raise
            else:
                if routing is not None:
                    routing.note(step.target, None, record, began)
                break
        record.left_early = False
    except Problem as problem:
        if turn is None or not await turn.rescued(gate, visit, op, ask, record, problem):
            record.problem = problem
        record.left_early = False
        if record.problem is not None:
            await _refuse(gate, visit, problem, record)
    except asyncio.CancelledError as cancelled:
        if gate.is_closing:
            record.problem = Problem("server", "the gateway is shutting down; ask again", code="server_shutdown")
            await _refuse(gate, visit, record.problem, record)
        elif cancelled.args and isinstance(cancelled.args[0], Problem):  # its key was revoked
            record.problem = cancelled.args[0]
            await _refuse(gate, visit, record.problem, record)
        raise
    finally:
        record.ended_at = clock()
        if gate.till is not None:
            gate.till.close(record)
        for seat in reversed(seats):
            await asyncio.shield(seat.closed(record))
        gate.meter.note(record)


def _seated(seats: list[Seat], seat: Seat) -> Seat:
    seats.append(seat)
    return seat


def _steps(gate: gates.Gate, choice: Choice) -> Generator[Step, Problem, None]:
    """The attempts of a request, its first step taken already."""
    if gate.routing is not None:
        return gate.routing.steps(choice)
    steps = attempts(choice.targets, gate.dice)
    next(steps)
    return steps


def _choose(gate: gates.Gate, op: Operation, visit: Visit, ask: Ask) -> Choice:
    """Where the request may go, in which order."""
    target = gate.target(ask.model) if gate.routing is None else gate.routing.named(ask.model)
    if target is not None:
        return Choice((target,), {}, NAMED)
    assert gate.routing is not None
    fields, request = op.told(ask)
    return gate.routing.choose(visit.key, ask.model, fields, request, len(visit.body), ask.most)


async def _refuse(gate: gates.Gate, visit: Visit, problem: Problem, record: Record) -> None:
    """Tells the caller, once what was put aside is settled or given back."""
    if gate.till is not None:
        gate.till.close(record)
    await refuse(visit, problem, record)


async def refuse(visit: Visit, problem: Problem, record: Record | None = None) -> None:
    """Tells the caller of a problem: as an HTTP error, or as the last event of a stream that has begun."""
    if visit.has_started:
        word = visit.last_word(gates.shown(problem))
        slow = visit.write(word) if word else None
        if slow is not None:
            await slow
        slow = visit.finish()
    else:
        slow = answer(visit, problem, record)
    if slow is not None:
        await slow


def answer(visit: Visit, problem: Problem, record: Record | None = None) -> Awaitable[None] | None:
    """Tells the caller of a problem as an HTTP error."""
    problem = gates.shown(problem)
    about = ids(visit.request_id, REFUSED) if record is None else told(record)
    return visit.reply(problem.status, problem_headers(problem) + about, write_problem(visit, problem))


async def fail(visit: Visit) -> None:
    """Tells the caller of a fault of our own, where nothing was said yet."""
    if not visit.has_started:
        say = f"the gateway failed; report this with request id {visit.request_id.decode()}"
        await refuse(visit, Problem("server", say, 500, code="internal"))


def write_problem(visit: Visit, problem: Problem) -> bytes:
    """The body of an error answer, in the caller's dialect."""
    if visit.dialect == "openai_chat":
        return openai_problem.write_problem(problem)
    return dialects.client(visit.dialect).write_problem(problem, visit.request_id.decode())


def problem_headers(problem: Problem) -> Lines:
    lines = JSON
    if problem.retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % math.ceil(problem.retry_after_s)
    if problem.allow:
        lines += b"allow: %b\r\n" % problem.allow.encode()
    return lines


def ids(request_id: bytes, route: bytes) -> Lines:
    """What every answer says of itself: its id, and who served it, after how many tries and why."""
    return b"x-request-id: %b\r\nx-lilliput-route: %b\r\n" % (request_id, route)


def told(record: Record) -> Lines:
    """The same, and what was lost on the way, what is left of the limits, and the cost where it is known by now."""
    lines = ids(record.request_id, record.route) + record.lines
    if record.cost_nusd is not None:
        lines += b"x-lilliput-cost: %b\r\n" % dollars(record.cost_nusd).encode()
    if not record.dropped:
        return lines
    names = ", ".join(name for name in record.dropped if name.isascii() and name.isprintable() and name[:1] != "$")
    if not names:
        return lines
    return lines + b"x-lilliput-dropped: %b\r\n" % names[:DROPPED_BYTES].encode()


def dollars(nusd: int) -> str:
    """Nano-dollars as a decimal number of dollars, exactly."""
    whole, rest = divmod(nusd, 10**9)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
