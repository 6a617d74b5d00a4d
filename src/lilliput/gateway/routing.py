"""Which targets a request may go to: a plain `provider/model` to itself, any other name by its route's plan.

A model that is named with its provider is asked for there and nowhere else, breaker or not, and its body's fields are
that provider's; a bare name goes to the model's maker. For routes, aliases and variants the router's filters and
policies decide, and OpenRouter's `provider` and `models` in the body are taken as wishes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Raw, Struct

from lilliput.gateway import able
from lilliput.neutral import Key, Problem, Request, Target, Text
from lilliput.router.attempts import Budget
from lilliput.router.difficulty import guess
from lilliput.router.health import Outcome
from lilliput.router.plan import Facts, World, plan
from lilliput.router.wish import FIELDS, of_key, read_wish

BYTES_A_TOKEN = 4
STICKY_CHARACTERS = 1000


class Choice(Struct, frozen=True):
    """The targets in their order, the context windows that are known of them, and why the first is first."""

    targets: Sequence[Target]
    windows: Mapping[str, int]
    why: bytes


class Routing:
    """The router as a gateway uses it: what stands (`world`), the retries left, and one clock in seconds."""

    def __init__(
        self, world: World, clock: Callable[[], float], dice: Callable[[], float], budget: Budget | None = None
    ) -> None:
        self.world, self.clock, self.dice = world, clock, dice
        self.budget = budget or Budget()

    def named(self, name: str) -> Target | None:
        """The target of a plain `provider/model`, or of a bare name, which goes to its maker; None for a name that the
        router is to decide on. Raises Problem (404) for one that is not known."""
        found = self.world.named(name)
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
        return Choice(made.targets, made.windows, made.policy.encode())

    def begin(self, target: Target) -> None:
        self.world.health.begin(target.id, self.clock())

    def note(self, target: Target, problem: Problem | None) -> None:
        """A call is over, well or with `problem`."""
        self.world.health.note(target.id, Outcome(problem), self.clock())

    def leave(self, target: Target) -> None:
        """A call was given up by its caller."""
        self.world.health.leave(target.id)


def without_wishes(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The fields without those that were for the router."""
    return {name: raw for name, raw in fields.items() if name not in FIELDS}
