"""`lilliput providers`: who is ready to answer, and what would make the others so."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from lilliput.catalogue.endpoint import variables
from lilliput.catalogue.load import Status
from lilliput.cli import here
from lilliput.cli.output import show_json, show_table


def providers(env: Mapping[str, str], config_file: Path | None, as_json: bool) -> None:
    """Every provider that we know, those that are ready first."""
    found = sorted(here.catalogue(env, *here.settings(env, config_file)).providers(), key=lambda s: not s.ready)
    if as_json:
        show_json([_shown(s, env) for s in found], sys.stdout)
    else:
        cells = [[s.name, s.provider.title, "yes" if s.ready else "no", s.reason] for s in found]
        show_table(("provider", "title", "ready", "why"), cells, sys.stdout)


def _shown(status: Status, env: Mapping[str, str]) -> dict[str, object]:
    row = status.provider
    wanted = [] if status.ready else [row.key_env, *row.more_key_envs, *variables(row.base)]
    return {
        "name": status.name,
        "title": row.title,
        "ready": status.ready,
        "reason": status.reason,
        "keys": status.keys,
        "missing": [name for name in wanted if name and not env.get(name)],
        "dialect": row.dialect,
        "base": row.base,
        "docs": row.docs,
    }
