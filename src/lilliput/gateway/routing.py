"""Which targets a request may go to: a plain `provider/model` to itself, any other name by its route's plan.

A model that is named with its provider is asked for there and nowhere else, breaker or not, and its body's fields are
that provider's; a bare name goes to the model's maker. For routes, aliases and variants the router's filters and
policies decide, and OpenRouter's `provider` and `models` in the body are taken as wishes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Raw, Struct

from lilliput.gateway import able
from lilliput.gateway.observe import Record
from lilliput.neutral import Key, Problem, Request, Target, Text, Usage
from lilliput.router.attempts import Budget, Step, attempts, no_others
from lilliput.router.difficulty import guess
from lilliput.router.health import GOOD, Outcome
from lilliput.router.keys import Rotation
from lilliput.router.plan import Facts, World, plan
from lilliput.router.routes import Route
from lilliput.router.wish import FIELDS, of_key, read_wish

BYTES_A_TOKEN = 4
STICKY_CHARACTERS = 1000
RATED_TOKENS, RATED_S = 8, 0.01
"""The least answer that says something of a deployment's speed."""


class Care(Struct, frozen=True):
    """What a route asks of its calls as they go; `hedges` are the second calls that are left to it."""

    route: Route
    hedges: Budget


class Choice(Struct, frozen=True):
    """The targets in their order, the context windows that are known of them, why the first is first, and how their
    calls are watched, if at all."""

    targets: Sequence[Target]
    windows: Mapping[str, int]
    why: bytes
    care: Care | None = None


class Guard(Protocol):
    """One step with care: gives the step that served or failed in the end, when it began, and its Problem."""

    async def __call__(
        self,
        gate: Any,
        op: Any,
        visit: Any,
        record: Record,
        step: Step,
        ask: Any,
        choice: Choice,
        steps: Generator[Step, Problem, None],
    ) -> tuple[Step, float, Problem | None]: ...


class Routing:
    """The router as a gateway uses it: what stands (`world`), the retries left, and one clock in seconds."""

    def __init__(
        self,
        world: World,
        clock: Callable[[], float],
        dice: Callable[[], float],
        budget: Budget | None = None,
        *,
        keys: Rotation | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`keys` where a provider has several; `guard` runs the calls of routes that ask for care."""
        self.world, self.clock, self.dice = world, clock, dice
        self.budget = budget or Budget()
        self.keys, self.guard = keys, guard
        watched = {} if guard is None else {n: r for n, r in world.routes.items() if r.is_watched}
        self._cares = {name: Care(route, Budget(route.hedge_share)) for name, route in watched.items()}

    def named(self, name: str) -> Target | None:
        """The target of a plain `provider/model`, or of a bare name, which goes to its maker; None for a name that the
        router is to decide on. Raises Problem (404) for one that is not known."""
        found = self.world.named(name)
        if found is not None and self.keys is not None:
            return self.keys.turn(found, self.clock())
        if found is not None or "/" in name or ":" in name or name in self.world.routes or name in self.world.aliases:
            return found
        return self.world.catalogue.target(name)

    def choose(
        self, key: Key, name: str, fields: Mapping[str, Raw], request: Request | None, size: int, most: int | None
    ) -> Choice:
        """The plan for any other name; `request` is None for what is no chat. Raises Problem like `plan`."""
        wish, further = read_wish(fields)
        text = (
            ""
            if request is None
            else "\n".join(p.text for m in request.messages for p in m.parts if isinstance(p, Text))
        )
        asked = able.Needs() if request is None else able.needs(request)
        hard = guess(
            text, 1 if request is None else len(request.messages), 0 if request is None else len(request.tools)
        )
        facts = Facts(
            prompt_tokens=size // BYTES_A_TOKEN,
            answer_tokens=most or 0,
            lack=lambda model: able.lack(model, asked),
            session=f"{key.id}:{(request.user if request is not None else None) or text[:STICKY_CHARACTERS]}",
            difficulty=hard.score,
            fields=tuple(fields),
        )
        made = plan((name, *further), facts, self.world, self.clock(), self.dice, wish=wish, rules=of_key(key))
        targets, care = made.targets, self._cares.get(made.route)
        if self.keys is not None:
            now = self.clock()
            targets = tuple(self.keys.turn(t, now) for t in targets)
        if care is not None:
            care.hedges.earn()
        return Choice(targets, made.windows, made.policy.encode(), care)

    def steps(self, choice: Choice) -> Generator[Step, Problem, None]:
        """The attempts of a request, its first step taken already."""
        steps = attempts(
            choice.targets,
            self.dice,
            budget=self.budget,
            clock=self.clock,
            others=no_others if self.keys is None else self._others,
            windows=choice.windows,
            is_well=self._is_well,
        )
        next(steps)
        return steps

    def begin(self, target: Target) -> float:
        """A call goes out; the time that it does."""
        now = self.clock()
        self.world.health.begin(target.id, now)
        return now

    def note(self, target: Target, problem: Problem | None, record: Record | None = None, began: float = 0.0) -> None:
        """A call is over, well or with `problem`; with the record of a good one that `began` then, how fast it was."""
        now = self.clock()
        if problem is not None and self.keys is not None:
            wait_s = self.keys.note(target, problem, now)
            if wait_s is not None and wait_s > 0:
                return self.world.health.hold(target.id, wait_s, now)
            if wait_s is not None:
                return self.world.health.leave(target.id)
        outcome = GOOD if problem is None else Outcome(problem)
        if record is not None:
            first_at = record.first_at
            rate = _rate(record.usage, now - (first_at or began))
            if first_at is not None:
                outcome = Outcome(None, first_at - began if first_at > began else 0.0, rate)
            elif rate is not None:
                outcome = Outcome(None, None, rate)
        self.world.health.note(target.id, outcome, now)

    def leave(self, target: Target, waited_s: float | None = None) -> None:
        """A call was given up by its caller, or (after `waited_s` without a first token) for a quicker one."""
        self.world.health.leave(target.id, waited_s)

    def _others(self, target: Target) -> Sequence[Target]:
        return () if self.keys is None else self.keys.others(target, self.clock())

    def _is_well(self, target: Target) -> bool:
        return self.world.health.is_well(target.id, self.clock())


def _rate(usage: Usage | None, writing_s: float) -> float | None:
    """Tokens a second of an answer: of a stream from its first output on, of any other over the whole call."""
    if usage is None or writing_s < RATED_S:
        return None
    tokens = usage.completion_tokens
    return tokens / writing_s if tokens >= RATED_TOKENS else None


def without_wishes(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The fields without those that were for the router."""
    return {name: raw for name, raw in fields.items() if name not in FIELDS}
