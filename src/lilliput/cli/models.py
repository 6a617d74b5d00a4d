"""`lilliput models`: what can be called, what it costs and how much it reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from lilliput.catalogue.load import Catalogue, Model, rows, snapshot
from lilliput.catalogue.strict import nearest
from lilliput.cli import here
from lilliput.cli.output import show_json, show_table
from lilliput.neutral import Problem

_NUSD = 10**9
HEAD = ("model", "context", "in $/M", "out $/M", "reads", "retires")


class Wanted(Struct, frozen=True):
    """Which models to list: what is set must be known of them. `max_price` is in USD per million input tokens."""

    provider: str | None = None
    modality: str | None = None
    max_price: float | None = None
    context: int | None = None

    def fits(self, m: Model) -> bool:
        if self.modality is not None and self.modality not in m.input:
            return False
        if self.max_price is not None and (m.price is None or m.price.input > self.max_price * _NUSD + 0.5):
            return False
        return self.context is None or m.context_tokens >= self.context


def models(env: Mapping[str, str], config_file: Path | None, wanted: Wanted, every: bool, as_json: bool) -> None:
    """The wanted models of ready providers, or with `every` of all that we know; Problem when there are none."""
    catalogue = here.catalogue(env, *here.settings(env, config_file))
    found = _every(catalogue) if every else list(catalogue.models())
    if wanted.provider is not None:
        found = [m for m in found if m.provider == wanted.provider]
        if not found:
            raise _none_of(catalogue, wanted.provider)
    fitting = [m for m in found if wanted.fits(m)]
    if found and not fitting:
        raise _none_fits(len(found), wanted, every)
    if as_json:
        from lilliput.gateway.listing import shown  # the form of GET /v1/models; brings Starlette

        show_json([shown(m) | _supports(m) for m in fitting], sys.stdout)
    else:
        show_table(HEAD, [_cells(m) for m in fitting], sys.stdout)


def dollars(nusd: int) -> str:
    """Nano-dollars as exact decimal dollars, at least to the cent."""
    whole, rest = divmod(nusd, _NUSD)
    fraction = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{fraction}"


def _every(catalogue: Catalogue) -> list[Model]:
    ready = {m.id: m for m in catalogue.models()}
    known = {m.id: m for name in rows() for m in snapshot(name) if m.listed}
    return [m for _, m in sorted((known | ready).items())]


def _supports(m: Model) -> dict[str, Any]:
    """What it is known to do or not to do; what is unknown is left out."""
    known = {"tools": m.tools, "schema": m.schema, "reasoning": m.reasoning}
    told = {name: value for name, value in known.items() if value is not None}
    return {"supports": told} if told else {}


def _cells(m: Model) -> list[str]:
    return [
        m.id,
        str(m.context_tokens) if m.context_tokens else "-",
        dollars(m.price.input) if m.price else "-",
        dollars(m.price.output) if m.price else "-",
        ",".join(m.input) or "-",
        m.retires_on.isoformat() if m.retires_on else "-",
    ]


def _none_of(catalogue: Catalogue, provider: str) -> Problem:
    status = {s.name: s for s in catalogue.providers()}
    if provider in status and not status[provider].ready:
        say = f"provider {provider!r} is not ready: {status[provider].reason}; --all lists its models all the same"
    elif provider in status:
        say = f"no model of provider {provider!r} is listed; any name it knows can be called as {provider}/NAME"
    else:
        near = nearest(provider, list(status))
        hint = f"nearest: {', '.join(near)}" if near else "list them with `lilliput providers`"
        say = f"provider {provider!r} is not in the catalogue; {hint}"
    return Problem("missing", say)


def _none_fits(count: int, wanted: Wanted, every: bool) -> Problem:
    asked = {"--modality": wanted.modality, "--max-price": wanted.max_price, "--context": wanted.context}
    filters = " ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    hint = "" if every or wanted.provider is not None else "; --all looks at providers that are not ready too"
    return Problem("missing", f"none of {count} models is known to fit {filters}: loosen a filter{hint}")
