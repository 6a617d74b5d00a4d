"""`lilliput models`: what can be called, what it costs and how much it reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from lilliput.catalogue.load import Catalogue, Model, rows, snapshot
from lilliput.catalogue.strict import nearest
from lilliput.cli import here
from lilliput.cli.output import show_json, show_table
from lilliput.neutral import Problem

_NUSD = 10**9
HEAD = ("model", "context", "in $/M", "out $/M", "reads", "retires")


def models(env: Mapping[str, str], config_file: Path | None, provider: str | None, every: bool, as_json: bool) -> None:
    """The models of ready providers, or with `every` those of all that we know; Problem for an unknown provider."""
    catalogue = here.catalogue(env, *here.settings(env, config_file))
    found = _every(catalogue) if every else list(catalogue.models())
    if provider is not None:
        found = [m for m in found if m.provider == provider]
        if not found:
            raise _none_of(catalogue, provider)
    if as_json:
        from lilliput.gateway.cold import shown  # the form of GET /v1/models; brings Starlette

        show_json([shown(m) for m in found], sys.stdout)
    else:
        show_table(HEAD, [_cells(m) for m in found], sys.stdout)


def dollars(nusd: int) -> str:
    """Nano-dollars as exact decimal dollars, at least to the cent."""
    whole, rest = divmod(nusd, _NUSD)
    fraction = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{fraction}"


def _every(catalogue: Catalogue) -> list[Model]:
    ready = {m.id: m for m in catalogue.models()}
    known = {m.id: m for name in rows() for m in snapshot(name) if m.listed}
    return [m for _, m in sorted((known | ready).items())]


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
