"""The plan of a request: which deployments may serve it, in what order, and why each is in or out.

Filters come first and are never left, not even to fail over: scope, where data may go, what the model can do, the
price. Then the policy puts what is left in order, and what its breaker holds back waits. Pure: clock and dice are
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NoReturn, Protocol

from msgspec import Struct

from lilliput.catalogue.find import bare_names
from lilliput.catalogue.price import cost_nusd
from lilliput.catalogue.rows import LOCAL, Model, Price, Status
from lilliput.neutral import Problem, Target, Usage
from lilliput.router.health import Health
from lilliput.router.policies import ORDERS, Moment, Place
from lilliput.router.routes import VARIANTS, Deployment, Policy, Route, Terms, meant
from lilliput.router.wish import Rules, Wish

Stage = Literal["scope", "wish", "data", "fit", "price", "ready", "health", "policy"]
SORTS: Mapping[str, Policy] = {
    "price": "cheapest",
    "throughput": "throughput",
    "latency": "fastest",
    "exacto": "quality",
}
HERE = Terms(local=True, zdr=True, data_collection="deny", region="local")
ANSWER_TOKENS = 512
"""How long an answer is reckoned to be where the request sets no limit."""
MOST_LANES = 4096
NO_RULES = Rules()


class Listing(Protocol):
    """What is asked of a catalogue."""

    def target(self, name: str) -> Target: ...
    def model(self, id: str) -> Model | None: ...
    def models(self) -> tuple[Model, ...]: ...
    def providers(self) -> tuple[Status, ...]: ...


class Facts(Struct, frozen=True, kw_only=True):
    """A request as the router sees it. `lack` says what a model lacks of what is asked, None for nothing; `session`
    is what sticks (a session, user or the prompt's beginning); `fields` are the names of the body's fields."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    lack: Callable[[Model | None], Problem | None] = lambda model: None
    session: str = ""
    difficulty: float = 0.0
    fields: tuple[str, ...] = ()


class Chosen(Struct, frozen=True):
    """A target of the plan, its estimated cost, and why it stands where it does."""

    target: Target
    why: str
    cost_nusd: int | None = None
    window: int = 0


class Excluded(Struct, frozen=True):
    """A deployment that will not be asked; `stage` is the filter that left it out."""

    id: str
    stage: Stage
    why: str
    problem: Problem | None = None
    wait_s: float = 0.0


class Plan(Struct, frozen=True):
    name: str
    policy: Policy
    chosen: tuple[Chosen, ...]
    excluded: tuple[Excluded, ...] = ()
    route: str = ""
    """The route that the name stands for, "" where it is none."""

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(c.target for c in self.chosen)

    @property
    def windows(self) -> dict[str, int]:
        return {c.target.id: c.window for c in self.chosen}


class World:
    """What stands while requests come and go: routes, aliases, the catalogue, providers' terms and their health."""

    def __init__(
        self,
        catalogue: Listing,
        routes: Mapping[str, Route] | None = None,
        aliases: Mapping[str, str] | None = None,
        terms: Mapping[str, Terms] | None = None,
        health: Health | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.routes, self.aliases = routes or {}, aliases or {}
        self.terms = {**(terms or {}), LOCAL: HERE}
        self.health = health or Health()
        self._providers = {status.name for status in catalogue.providers()}
        self._bare: dict[str, dict[str, str]] | None = None
        self._lanes: dict[str, Target] = {}

    def lane(self, name: str) -> Target | None:
        """The one target of a plain `provider/model` whose breaker is closed, without a plan; None when there is
        anything to choose. For requests without wishes and keys without demands."""
        target = self.named(name)
        if target is None:
            return None
        d = self.health.known.get(target.id)
        return target if d is None or not d.open_until else None

    def named(self, name: str) -> Target | None:
        """The target of a plain `provider/model`, whatever its breaker says; None when there is anything to choose."""
        target = self._lanes.get(name)
        if target is None:
            target = self._plain(name)
            if target is None:
                return None
            if len(self._lanes) >= MOST_LANES:
                self._lanes.clear()
            self._lanes[name] = target
        return target

    def _plain(self, name: str) -> Target | None:
        provider, slash, _ = name.partition("/")
        if not slash or name in self.routes or name in self.aliases or name.rpartition(":")[2] in VARIANTS:
            return None
        target = self.catalogue.target(name)
        return target if target.provider == provider else None

    def deployments(self, name: str) -> tuple[Deployment, ...]:
        """Where a name may go: its route's, itself, or every ready provider that has a model of that bare name."""
        route = self.routes.get(name)
        if route is not None:
            return route.deployments
        if self._bare is None:
            self._bare = bare_names(self.catalogue.models())
        prefix, slash, _ = name.partition("/")
        is_whole = bool(slash) and prefix in self._providers
        places = {} if is_whole else self._bare.get(name.lower(), {})
        return tuple(Deployment(model=id) for id in places.values()) or (Deployment(model=name),)


def plan(
    names: Sequence[str],
    facts: Facts,
    world: World,
    now: float,
    dice: Callable[[], float],
    *,
    wish: Wish | None = None,
    rules: Rules = NO_RULES,
) -> Plan:
    """The plan for the first of `names` and, as OpenRouter's `models`, the others after it.

    Raises Problem: 403 `model_not_allowed`, 503 `no_compliant_target`, 400 `no_fitting_target` or what the one
    deployment lacks, 404 for unknown names, 429 or 503 with `retry_after_s` while every breaker is open. Each says
    what left out whom.
    """
    wish = wish or Wish()
    chosen: list[Chosen] = []
    excluded: list[Excluded] = []
    policy: Policy = "balanced"
    base = ""
    for name in reversed(names):
        base, asked = _variant(name)
        base = meant(base, world.routes, world.aliases)
        base, asked = (base, asked) if asked else _variant(base)
        route = world.routes.get(base)
        deployments = world.deployments(base)
        moment = Moment(world.health, now, dice, facts.answer_tokens or ANSWER_TOKENS, facts.session, facts.difficulty)
        policy = asked or SORTS.get(wish.sort_by or "") or (route.policy if route else "balanced")
        places = [
            p
            for d in deployments
            if (p := _place(d, name, facts, world, now, route, wish, rules, excluded)) is not None
        ]
        chosen = [*_ordered(places, policy, moment, wish, excluded), *chosen]
    if not wish.allow_fallbacks and len(chosen) > 1:
        excluded += [Excluded(c.target.id, "policy", "allow_fallbacks is false") for c in chosen[1:]]
        chosen = chosen[:1]
    if not chosen:
        _refuse(names[0], excluded)
    return Plan(names[0], policy, tuple(_once(chosen)), tuple(excluded), base if base in world.routes else "")


def _variant(name: str) -> tuple[str, Policy | None]:
    base, colon, ending = name.rpartition(":")
    policy = VARIANTS.get(ending) if colon else None
    return (base, policy) if policy is not None else (name, None)


def _once(chosen: Sequence[Chosen]) -> Iterator[Chosen]:
    seen: set[str] = set()
    for c in chosen:
        if c.target.id not in seen:
            seen.add(c.target.id)
            yield c


def _place(
    d: Deployment,
    name: str,
    facts: Facts,
    world: World,
    now: float,
    route: Route | None,
    wish: Wish,
    rules: Rules,
    excluded: list[Excluded],
) -> Place | None:
    """The deployment as a place, or None with the first filter that leaves it out added to `excluded`."""
    try:
        target = world.catalogue.target(d.model)
    except Problem as problem:
        excluded.append(Excluded(d.model, "ready", problem.say, problem))
        return None
    model = world.catalogue.model(target.id)
    terms = world.terms.get(target.provider, Terms())
    cost = estimate_nusd(model.price if model else None, facts, now)
    for stage, why in (
        ("scope", _out_of_scope(target, name, rules)),
        ("wish", _unwished(d, target, terms, facts, wish)),
        ("data", _data(d, terms, route, wish, rules)),
        ("price", _too_dear(model.price if model else None, cost, route, wish)),
    ):
        if why:
            excluded.append(Excluded(target.id, stage, why))  # type: ignore[arg-type]  # one of the words above
            return None
    lack = facts.lack(model)
    if lack is not None:
        excluded.append(Excluded(target.id, "fit", lack.say, lack))
        return None
    return Place(target, model, d, cost)


def _out_of_scope(target: Target, name: str, rules: Rules) -> str:
    if not rules.models:
        return ""
    allowed = {target.id, name, f"{target.provider}/*", "*"}
    return "" if allowed & set(rules.models) else f"the key may call {', '.join(rules.models)}"


def _data(d: Deployment, terms: Terms, route: Route | None, wish: Wish, rules: Rules) -> str:
    """Why data may not go there, "" when it may: the key's, the route's and the request's demands all hold."""
    asked: list[Route | Wish | Rules] = [rules, wish, *([route] if route else [])]
    if any(a.local_only for a in asked) and not terms.local:
        return "local_only: it is not on this machine"
    region = d.region or terms.region
    for a in asked:
        if a.regions and region not in a.regions:
            return f"its region is {region or 'not known'}, not {' or '.join(a.regions)}"
    if any(a.zdr for a in asked) and not terms.zdr:
        return "zdr: it is not known to keep nothing"
    if any(a.data_collection == "deny" for a in asked) and terms.data_collection != "deny":
        return "data_collection deny: it is not known not to collect"
    return ""


def _unwished(d: Deployment, target: Target, terms: Terms, facts: Facts, wish: Wish) -> str:
    at = {target.provider, target.id}
    if wish.only and not at & set(wish.only):
        return f"not among provider.only: {', '.join(wish.only)}"
    if at & set(wish.ignore):
        return "it is in provider.ignore"
    if missing := [t for t in wish.tags if t not in d.tags]:
        return f"it has no tag {', '.join(missing)}"
    if wish.quantizations and terms.quantization not in wish.quantizations:
        return f"its quantization is {terms.quantization}"
    if wish.enforce_distillable_text and not terms.distillable:
        return "it is not known to let its answers train models"
    if wish.require_parameters and (dropped := [f for f in facts.fields if f in target.drop]):
        return f"require_parameters: it does not take {', '.join(dropped)}"
    return ""


def _too_dear(price: Price | None, cost: int | None, route: Route | None, wish: Wish) -> str:
    if route is not None and route.max_usd is not None:
        if cost is None:
            return "its price is not known, and the route sets max_usd"
        if cost > route.max_usd * 1e9:
            return f"the request would cost {cost / 1e9:.6f} USD, over the route's {route.max_usd:g}"
    most = wish.max_price
    if most is None:
        return ""
    if price is None:
        return "its price is not known, and provider.max_price is set"
    for what, limit, rate in (
        ("prompt", most.prompt, price.input),
        ("completion", most.completion, price.output),
        ("request", most.request, price.per_request),
        ("image", most.image, None if price.input_image is None else price.input_image),
        ("audio", most.audio, None if price.input_audio is None else price.input_audio),
    ):
        if limit is not None and rate is not None and rate > limit * 1e9 + 0.5:
            return f"its {what} price is {rate / 1e9:g} USD, over max_price {limit:g}"
    return ""


def estimate_nusd(price: Price | None, facts: Facts, now: float) -> int | None:
    """What the request would cost: its prompt as counted, an answer as long as it may be or 512 tokens."""
    if price is None:
        return None
    return cost_nusd(price, Usage(input=facts.prompt_tokens, output=facts.answer_tokens or ANSWER_TOKENS), now)


def _ordered(places: list[Place], policy: Policy, at: Moment, wish: Wish, excluded: list[Excluded]) -> Iterator[Chosen]:
    """The places in order, those that their breaker holds back left out."""
    up: list[Place] = []
    for p in places:
        wait_s = at.health.wait_s(p.target.id, at.now)
        if wait_s <= 0:
            up.append(p)
            continue
        limited = at.health.of(p.target.id).is_limited
        why = f"{'rate limited' if limited else 'its breaker is open'} for {wait_s:.1f} s more"
        excluded.append(Excluded(p.target.id, "health", why, Problem("limit", why) if limited else None, wait_s))
    ranked = ORDERS[policy](up, at)
    reason = policy
    if wish.order:
        rank = {name: i for i, name in enumerate(wish.order)}
        last = len(rank)
        place_of = {p.target.id: min(rank.get(p.target.provider, last), rank.get(p.target.id, last)) for p in up}
        ranked.sort(key=lambda p: place_of[p.target.id])
        if not wish.allow_fallbacks:
            ranked = [p for p in ranked if place_of[p.target.id] < last]
    if wish.preferred_max_latency is not None or wish.preferred_min_throughput is not None:
        ranked.sort(key=lambda p: _is_unpreferred(p, at, wish))
    if len(ranked) > 1:
        proven = any(at.health.has_served(p.target.id) for p in ranked)
        ranked.sort(key=lambda p: at.health.is_doubtful(p.target.id, at.now, proven))
    ranked.sort(
        key=lambda p: bool(p.deployment.rpm) and at.health.asked_lately(p.target.id, at.now) >= p.deployment.rpm
    )
    for i, p in enumerate(ranked):
        why = f"{'order' if wish.order and place_of[p.target.id] < last else reason}{' fallback' if i else ''}"
        yield Chosen(p.target, why, p.cost_nusd, p.model.context_tokens if p.model else 0)


def _is_unpreferred(p: Place, at: Moment, wish: Wish) -> bool:
    """Whether a soft preference (its p50, or the easiest percentile given) is known not to hold."""
    d = at.health.of(p.target.id)
    slow, rate = wish.preferred_max_latency, wish.preferred_min_throughput
    most_s = max(slow.values(), default=0.0) if isinstance(slow, dict) else slow
    least = min(rate.values(), default=0.0) if isinstance(rate, dict) else rate
    too_late = most_s is not None and d.first_token_s is not None and d.first_token_s > most_s
    return too_late or (least is not None and d.tokens_per_s is not None and d.tokens_per_s < least)


def _refuse(name: str, excluded: Sequence[Excluded]) -> NoReturn:
    """Says what left out whom, by the filter that went furthest."""
    told = "; ".join(f"{e.id}: {e.why}" for e in excluded[:8]) + ("; ..." if len(excluded) > 8 else "")
    stages = {e.stage for e in excluded}
    if "health" in stages:
        held = [e for e in excluded if e.stage == "health"]
        wait_s = min(e.wait_s for e in held)
        if all(e.problem is not None for e in held):
            raise Problem(
                "limit", f"{name!r} is rate limited: {told}", code="rate_limit_exceeded", retry_after_s=wait_s
            )
        say = f"no deployment of {name!r} is up: {told}; ask again in {wait_s:.0f} s"
        raise Problem("server", say, code="no_healthy_target", retry_after_s=wait_s)
    if stages & {"fit", "price"}:
        lacks = [e.problem for e in excluded if e.problem is not None and e.stage == "fit"]
        if len(lacks) == len(excluded) and (len(lacks) == 1 or len({p.code for p in lacks}) == 1):
            first = lacks[0]
            say = first.say if len(lacks) == 1 else f"no deployment of {name!r} fits: {told}"
            raise Problem("client", say, code=first.code, param=first.param)
        raise Problem("client", f"no deployment of {name!r} fits this request: {told}", code="no_fitting_target")
    if "data" in stages:
        raise Problem("server", f"no deployment of {name!r} may have this request: {told}", code="no_compliant_target")
    if stages & {"wish", "policy"}:
        raise Problem("client", f"no deployment of {name!r} is as asked: {told}", code="no_fitting_target")
    if "scope" in stages:
        raise Problem("permission", f"this key may not call {name!r}: {told}", code="model_not_allowed", param="model")
    problem = next((e.problem for e in excluded if e.problem is not None), None)
    raise problem or Problem("server", f"no deployment can serve {name!r}: {told}", code="no_target")
