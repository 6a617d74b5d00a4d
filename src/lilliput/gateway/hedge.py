"""Calls of a route that asks for care: each is timed as it goes, and one that is late is made in the next place too.

The first call that begins its answer has the caller, the other is cancelled and its connection closed at once. Both are
metered, each under an id of its own. Whoever has no such route pays nothing for this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator

from msgspec import structs

from lilliput.gateway.exchange import Ask, Lines, Operation, Visit
from lilliput.gateway.gates import Gate
from lilliput.gateway.observe import Record
from lilliput.gateway.routing import Choice
from lilliput.gateway.witness import Witness
from lilliput.neutral import Problem, Target, Usage
from lilliput.router.attempts import Step
from lilliput.router.routes import Route

SOONEST_S = 0.05
"""No second call is made before, however quick a deployment mostly is."""
WINDOW_S = 10.0
"""Over which a stream's events are counted."""
LATE = Problem("timeout", "the first call is late")
SECOND = b"-2"
ONE = asyncio.FIRST_COMPLETED


class Race:
    """Who has the caller: the first `Lane` to begin its answer."""

    def __init__(self) -> None:
        self.winner: Lane | None = None
        self.is_decided = asyncio.get_running_loop().create_future()

    def claim(self, lane: Lane) -> bool:
        if self.winner is None:
            self.winner = lane
            if not self.is_decided.done():
                self.is_decided.set_result(None)
        return self.winner is lane


class Lane(Witness):
    """One call's visit, its step and record; what a lane that has not won says goes nowhere."""

    def __init__(self, race: Race, visit: Visit, record: Record, step: Step, began: float) -> None:
        super().__init__(visit)
        self.record, self.step, self.began = record, step, began
        self.ended: Problem | None = None
        self.is_held_up = False
        self.task: asyncio.Task[None]
        self._race, self._word = race, visit.last_word

    @property
    def has_started(self) -> bool:
        return self._race.winner is self and self._visit.has_started

    @has_started.setter
    def has_started(self, value: bool) -> None:
        self._visit.has_started = value

    @property
    def last_word(self) -> Callable[[Problem], bytes]:
        return self._word

    @last_word.setter
    def last_word(self, word: Callable[[Problem], bytes]) -> None:
        self._word = word

    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None] | None:
        self._claim()
        return super().reply(status, self._named(headers), body)

    def start(self, status: int, headers: Lines) -> Awaitable[None] | None:
        self._claim()
        self._visit.last_word = self._word
        return super().start(status, self._named(headers))

    def write(self, data: bytes) -> Awaitable[None] | None:
        slow = super().write(data) if self._race.winner is self else None
        return None if slow is None else self._waiting(slow)

    def finish(self) -> Awaitable[None] | None:
        return super().finish() if self._race.winner is self else None

    def give_up(self, problem: Problem) -> None:
        """Ends the call with this problem, unless it is over."""
        if self.ended is None and not self.task.done():
            self.ended = problem
            self.task.cancel()

    def _claim(self) -> None:
        """A lane that comes second goes no further, so that it settles nothing."""
        if not self._race.claim(self):
            raise asyncio.CancelledError

    async def _waiting(self, slow: Awaitable[None]) -> None:
        self.is_held_up = True
        try:
            await slow
        finally:
            self.is_held_up = False

    def _named(self, headers: Lines) -> Lines:
        """The header lines under the request's own id, whatever the record's is."""
        return headers.replace(self.record.request_id + b"\r\n", self.request_id + b"\r\n", 1)


async def guarded(
    gate: Gate,
    op: Operation,
    visit: Visit,
    record: Record,
    step: Step,
    ask: Ask,
    choice: Choice,
    steps: Generator[Step, Problem, None],
) -> tuple[Step, float, Problem | None]:
    """`routing.Guard`: one step of a route with care, hedged if it is the first."""
    assert choice.care is not None
    assert gate.routing is not None
    route, race = choice.care.route, Race()
    first = _lane(gate, op, visit, ask, route, Lane(race, visit, record, step, gate.routing.clock()))
    lanes, told = [first], first
    try:
        late_s = gate.routing.world.health.late_s(step.target.id) if route.hedge and ask.stream else None
        if late_s is not None and step.number == 1:
            await asyncio.wait((first.task, race.is_decided), timeout=max(SOONEST_S, late_s), return_when=ONE)
            if not first.task.done() and race.winner is None:
                lanes += await _second(gate, op, visit, ask, choice, race, record, steps)
        told = await _run(race, lanes, route.cut_below_events_per_s)
        if told.ended is None:
            told.task.result()
        return told.step, told.began, told.ended
    finally:
        for lane in lanes:
            lane.task.cancel()
        await asyncio.gather(*(lane.task for lane in lanes), return_exceptions=True)
        if len(lanes) > 1:
            await asyncio.shield(_account(gate, race, first, lanes[1], told))


def _lane(gate: Gate, op: Operation, visit: Visit, ask: Ask, route: Route, lane: Lane) -> Lane:
    """The lane with its call under way."""
    limit_s = _limit_s(route, ask)
    lane.task = asyncio.create_task(_call(gate, op, ask, lane, limit_s))
    return lane


async def _call(gate: Gate, op: Operation, ask: Ask, lane: Lane, limit_s: float) -> None:
    timer = None
    if limit_s:
        say = f"{lane.step.target.id} gave no output within {limit_s:g} s"
        late = Problem("timeout", say, code="upstream_timeout")
        timer = asyncio.get_running_loop().call_later(limit_s, lambda: None if lane.has_started else lane.give_up(late))
    try:
        await op.attempt(gate, lane, lane.record, lane.step, ask)
    except asyncio.CancelledError:
        if lane.ended is not None:
            raise lane.ended from None
        raise
    except Problem as problem:
        lane.ended = problem
        raise
    finally:
        if timer is not None:
            timer.cancel()


def _limit_s(route: Route, ask: Ask) -> float:
    """How long the first output may take: of a stream its first event, else the whole of the longest answer."""
    if ask.stream:
        return route.first_token_timeout_s
    return ask.most / route.min_tokens_per_s + route.first_token_timeout_s if route.min_tokens_per_s and ask.most else 0


async def _can_pay(gate: Gate, op: Operation, visit: Visit, ask: Ask, target: Target, own: Record) -> bool:
    """Whether the key's limits and money bear another call, which is then put aside for it."""
    if gate.till is None or not op.is_paid:
        return True
    try:
        await gate.till.open(visit.key, target, own, len(visit.body), ask.most)
    except Problem:
        return False
    return True


async def _second(
    gate: Gate,
    op: Operation,
    visit: Visit,
    ask: Ask,
    choice: Choice,
    race: Race,
    record: Record,
    steps: Generator[Step, Problem, None],
) -> list[Lane]:
    """The second call, where there is a next place, a share of the route's requests and a retry left for it, and the
    key can pay for both."""
    routing, care = gate.routing, choice.care
    assert routing is not None
    assert care is not None
    if len(choice.targets) < 2 or care.hedges.left < 1.0 or routing.budget.left < 1.0:
        return []
    target, route = choice.targets[1], care.route
    own = structs.replace(
        record, request_id=record.request_id + SECOND, served_by=target.id, taken=None, is_held=False, lines=b""
    )
    can_pay = await _can_pay(gate, op, visit, ask, target, own)
    if not can_pay or race.winner is not None or routing.budget.left < 1.0 or not care.hedges.take():
        if gate.till is not None:
            gate.till.close(own)
        return []
    step = steps.send(LATE)
    own.tries = step.number
    return [_lane(gate, op, visit, ask, route, Lane(race, visit, own, step, routing.begin(step.target)))]


async def _run(race: Race, lanes: list[Lane], least: float) -> Lane:
    """The lane whose end is the step's: the one that has the caller; of calls that all failed the first, and at once
    when it failed by the caller's own mistake."""
    first = lanes[0]
    while race.winner is None:
        running = [lane.task for lane in lanes if not lane.task.done()]
        if not running or (first.ended is not None and first.ended.fault == "client"):
            return first
        await asyncio.wait((*running, race.is_decided), return_when=ONE)
    won = race.winner
    for lane in lanes:
        if lane is not won:
            lane.task.cancel()
    while not won.task.done():
        pieces = won.record.pieces
        await asyncio.wait((won.task,), timeout=WINDOW_S if least else None)
        if least and not won.is_held_up and won.record.pieces - pieces < least * WINDOW_S:
            say = f"the stream had under {least:g} events a second for {WINDOW_S:g} s and was cut"
            won.give_up(Problem("timeout", say, code="upstream_stalled"))
    return won


async def _account(gate: Gate, race: Race, first: Lane, second: Lane, told: Lane) -> None:
    """Notes the call that `exchange` does not (it does `told`), writes the one that lost off by its prompt's estimate
    (it is our loss, not the caller's), and puts what the winner did on the request's record."""
    assert gate.routing is not None
    won, other = race.winner, second if told is first else first
    if other.ended is not None:
        gate.routing.note(other.step.target, other.ended)
    else:
        waited_s = None if won is None or won is other else gate.routing.clock() - other.began
        gate.routing.leave(other.step.target, waited_s)
    for lane in (first, second):
        has_lost = won is not None and lane is not won and lane.ended is None
        if has_lost and lane.record.usage is None:
            lane.record.usage = Usage(input=lane.record.prompt_tokens, doubts=("estimated",))
        if gate.till is not None and (lane is second or won is second):
            (gate.till.write_off if has_lost else gate.till.close)(lane.record)
    if won is second:
        for name in set(first.record.__struct_fields__) - {"request_id"}:
            setattr(first.record, name, getattr(second.record, name))
