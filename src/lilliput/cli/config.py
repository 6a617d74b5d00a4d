"""`lilliput config`: the configuration in force, and where it is read from. Secrets are not shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lilliput import config as configuration
from lilliput.cli import here
from lilliput.cli.output import json_text, show_json

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def show(env: Mapping[str, str], config_file: Path | None, as_json: bool) -> None:
    """Every setting, defaults included: as TOML that could be put into the file, or as JSON."""
    _, config = here.settings(env, config_file)
    document = configuration.shown(config)
    if as_json:
        show_json(document, sys.stdout)
        return
    for line in _toml(document):
        print(line)


def path(env: Mapping[str, str]) -> None:
    """Print the path, whether or not there is a file."""
    print(configuration.home(env).config_file)


def _toml(table: Mapping[str, object], above: str = "") -> Iterator[str]:
    """One dotted `key = value` a line; JSON's strings, numbers and lists are TOML's too."""
    for name, value in table.items():
        key = above + (name if _BARE.fullmatch(name) else json_text(name))
        if isinstance(value, Mapping):
            yield from _toml(value, f"{key}.")
        else:
            yield f"{key} = {json_text(value)}"
