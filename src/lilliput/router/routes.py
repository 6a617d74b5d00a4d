"""Routes as they stand in the configuration: names that callers may use, and the deployments and policy behind them.

Shapes and their checks only; choosing is `plan`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from lilliput.catalogue.strict import nearest
from lilliput.neutral import Problem

Policy = Literal[
    "balanced", "weighted", "priority", "least_busy", "fastest", "throughput", "cheapest", "quality", "sticky", "auto"
]
Quantization = Literal["int4", "int8", "fp4", "fp6", "fp8", "fp16", "bf16", "fp32", "unknown"]
Collection = Literal["allow", "deny"]
VARIANTS: Mapping[str, Policy] = {"floor": "cheapest", "nitro": "throughput"}
"""What a model's name may end in after a colon, as OpenRouter has it, and the policy that it asks for."""


class Terms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[terms.PROVIDER]`: what a provider is known to do with data. What is not said is not assumed."""

    region: str = ""
    """Where it computes, in your own words, such as eu or us."""
    local: bool = False
    """Whether it runs here and sends nothing on; the built-in engine does."""
    zdr: bool = False
    """Whether it keeps nothing of a request (zero data retention)."""
    data_collection: Collection = "allow"
    """deny when it neither stores prompts beyond the call nor trains on them."""
    distillable: bool = False
    """Whether its terms let its answers train other models."""
    quantization: Quantization = "unknown"
    """Precision of its weights."""


class Deployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place behind a route."""

    model: str
    """provider/model."""
    weight: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    """Its share, against the others' (weighted, priority, least_busy, sticky)."""
    priority: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Lower is asked first (priority)."""
    quality: float = 0.0
    """Higher is better, on your own scale (quality)."""
    up_to: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The hardest prompt to send here, 0 to 1 (auto)."""
    rpm: Annotated[int, Meta(ge=0)] = 0
    """Requests a minute that it bears; one that had them is asked last. 0 is not known."""
    tags: tuple[str, ...] = ()
    """Words that a request may ask for."""
    region: str = ""
    """Where this deployment computes, if elsewhere than its provider's terms say."""


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[routes.NAME]`: a name that clients may call. Its demands on data join those of the key and the request."""

    deployments: Annotated[tuple[Deployment, ...], Meta(min_length=1, max_length=100)]
    """Where it may go, in order of preference."""
    policy: Policy = "weighted"
    """How to choose between those that may serve."""
    max_usd: Annotated[float, Meta(gt=0)] | None = None
    """Most that one request may cost by estimate, in USD."""
    regions: tuple[str, ...] = ()
    """Regions that it may not leave; empty is any."""
    local_only: bool = False
    """Whether nothing may leave this machine."""
    zdr: bool = False
    """Only where nothing is kept."""
    data_collection: Collection = "allow"
    """deny: only where nothing is collected."""
    hedge: bool = False
    """Whether a stream that is later than its deployment's 95th percentile is asked for in the next place too."""
    hedge_share: Annotated[float, Meta(gt=0, le=0.5)] = 0.05
    """Most second calls, as a share of the route's requests."""
    first_token_timeout_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Longest wait for a stream's first output before the next place is asked; 0 sets no limit."""
    min_tokens_per_s: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """Slowest that an answer in one piece may be, by the longest that the request allows, before the next place is
    asked; 0 sets no limit."""
    cut_below_events_per_s: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """A stream with fewer events over 10 s ends with the error `upstream_stalled`; 0 cuts none."""

    @property
    def is_watched(self) -> bool:
        """Whether its calls are timed as they go."""
        return self.hedge or bool(self.first_token_timeout_s or self.min_tokens_per_s or self.cut_below_events_per_s)


def check(routes: Mapping[str, Route], aliases: Mapping[str, str], where: str = "config.toml") -> None:
    """Raises Problem for names that cannot be, and for aliases that lead nowhere but to themselves."""
    for name, route in routes.items():
        _named(name, f"{where}: [routes]")
        for d in route.deployments:
            provider, slash, rest = d.model.partition("/")
            if not (provider and slash and rest):
                near = nearest(d.model, [n for n in routes if n != name], 1)
                hint = f"; a route ({near[0]!r}) cannot stand inside another" if near else ""
                raise Problem("client", f"{where}: [routes.{name}] {d.model!r} is not written provider/model{hint}")
    for name in aliases:
        _named(name, f"{where}: [aliases]")
        meant(name, routes, aliases)


def meant(name: str, routes: Mapping[str, Route], aliases: Mapping[str, str]) -> str:
    """The name that an alias stands for in the end; raises Problem for a circle of them."""
    seen = [name]
    while name in aliases and (name not in routes or len(seen) == 1):
        name = aliases[name]
        if name in seen:
            raise Problem("client", f"[aliases] go in a circle: {' -> '.join([*seen, name])}")
        seen.append(name)
    return name


def _named(name: str, where: str) -> None:
    if not name or len(name) > 256 or not name.isprintable() or name.rpartition(":")[2] in VARIANTS:
        endings = " or ".join(f":{v}" for v in VARIANTS)
        raise Problem("client", f"{where} {name!r} cannot be a name: printable, 256 characters at most, no {endings}")
