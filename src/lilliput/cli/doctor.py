"""`lilliput doctor`: every check on one page, each with its fix; what a check looks at is in `checks`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lilliput import config as configuration
from lilliput.cli import checks, here
from lilliput.cli.checks import Finding
from lilliput.cli.output import one_line, show_json
from lilliput.config import Config, Home
from lilliput.neutral import Problem


def doctor(env: Mapping[str, str], config_file: Path | None, as_json: bool) -> int:
    """Print the findings; 1 when any of them is a failure."""
    findings = list(examine(env, config_file, time.time()))
    failed = sum(f.state == "fail" for f in findings)
    if as_json:
        show_json({"ok": not failed, "findings": findings}, sys.stdout)
        return 1 if failed else 0
    for f in findings:
        print(f"{f.state:<5} {f.check:<14} {one_line(f.say)}")
        if f.fix:
            print(f"{'':<20} -> {one_line(f.fix)}")
    print(f"\n{failed} of {len(findings)} checks failed" if failed else "\nnothing fails")
    return 1 if failed else 0


def examine(env: Mapping[str, str], config_file: Path | None, now: float) -> Iterator[Finding]:
    """All findings; a configuration that cannot be read ends none of the checks that do not need it."""
    place = configuration.home(env)
    config, finding = _config(place, config_file)
    yield finding
    yield checks.home(place)
    yield checks.disk(place)
    yield checks.clock(place, now)
    yield checks.port(config.server)
    yield from checks.keys(place)
    yield from checks.weights(place, config)
    yield checks.engine()
    yield from _catalogued(place, config, env)
    yield checks.open_files(config.server)


def _config(place: Home, file: Path | None) -> tuple[Config, Finding]:
    path = file or place.config_file
    if file is None and not path.is_file():
        return Config(), Finding("config", "ok", f"defaults; {path} is not there")
    try:
        return configuration.read(path), Finding("config", "ok", str(path))
    except Problem as problem:
        return Config(), Finding("config", "fail", problem.say, f"edit {path}; the other checks take the defaults")


def _catalogued(place: Home, config: Config, env: Mapping[str, str]) -> Iterator[Finding]:
    try:
        catalogue = here.catalogue(env, place, config)
    except Problem as problem:
        yield Finding("providers", "fail", problem.say, "edit the table that it names")
        return
    yield checks.providers(catalogue)
    yield from checks.swapped_keys(catalogue, env)
    yield from checks.circle(catalogue, config, env)
