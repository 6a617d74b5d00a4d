"""What a request may say about where it goes: OpenRouter's `provider` object and `models` array, strictly.

A wish that is misspelt is refused, never passed over: half of them are about where data may go. Names and meaning:
openrouter.ai/docs/guides/routing/provider-selection (SDK 1.3.84, checked 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.catalogue.strict import fit
from lilliput.neutral import Key, Problem
from lilliput.router.routes import Collection, Quantization

Sort = Literal["price", "throughput", "latency", "exacto"]
Dollars = Annotated[float, Meta(ge=0, le=1e9)]
Names = Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=64)]
Soft = float | dict[Literal["p50", "p75", "p90", "p99"], float]
FIELDS = ("provider", "models", "route", "fallbacks")
"""A request's top-level fields that are meant for us; none of them goes upstream."""


class SortBy(Struct, frozen=True, forbid_unknown_fields=True):
    by: Sort
    partition: Literal["model", "none"] = "model"


class MostPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens (`image`, `audio` and `request` per piece), as a number or as decimal text."""

    prompt: Dollars | None = None
    completion: Dollars | None = None
    image: Dollars | None = None
    audio: Dollars | None = None
    request: Dollars | None = None


class Wish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `provider` object. `preferred_*` are soft; `options` is per provider and is not read."""

    order: Names = ()
    only: Names = ()
    ignore: Names = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    data_collection: Collection = "allow"
    zdr: bool = False
    enforce_distillable_text: bool = False
    quantizations: tuple[Quantization, ...] = ()
    sort: Sort | SortBy | None = None
    max_price: MostPrice | None = None
    preferred_min_throughput: Soft | None = None
    preferred_max_latency: Soft | None = None
    options: dict[str, Any] = {}
    regions: Names = ()
    """Ours: regions that the request may not leave."""
    local_only: bool = False
    """Ours: nothing may leave this machine."""
    tags: Names = ()
    """Ours: only deployments that carry all of these."""

    @property
    def sort_by(self) -> Sort | None:
        return self.sort.by if isinstance(self.sort, SortBy) else self.sort


class Rules(Struct, frozen=True, kw_only=True):
    """What the key demands, whatever a request says. `models` are names, `provider/*` or `*`; empty means all."""

    models: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    local_only: bool = False
    zdr: bool = False
    data_collection: Collection = "allow"


def of_key(key: Key) -> Rules:
    """A key's demands; only its models, until keys carry more."""
    return Rules(models=key.models)


def read_wish(fields: Mapping[str, Raw]) -> tuple[Wish | None, tuple[str, ...]]:
    """The `provider` object and the further `models` of a body; raises Problem (400) for what does not fit."""
    given, models = fields.get("provider"), fields.get("models")
    names: tuple[str, ...] = ()
    wish: Wish | None = None
    try:
        if given is not None and (table := msgspec.json.decode(given)) is not None:
            if not isinstance(table, dict):
                raise Problem("client", 'provider is an object, such as {"sort": "price"}')
            wish = _fitted(table)
        if models is not None:
            names = tuple(msgspec.json.decode(models, type=list[str] | None) or ())
    except msgspec.ValidationError as e:
        raise Problem("client", f"models: {e}", code="invalid_value", param="models") from e
    if len(names) > 16:
        raise Problem("client", f"models has {len(names)} names; 16 are tried at most", code="invalid_value")
    return wish, names


def _fitted(table: dict[str, Any]) -> Wish:
    price = table.get("max_price")
    if isinstance(price, dict):
        table["max_price"] = {k: _number(v) for k, v in price.items()}
    try:
        return fit(table, Wish, "provider")
    except Problem as problem:
        problem.code, problem.param = "invalid_value", "provider"
        raise


def _number(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
