"""What stands on this machine for whoever runs a command: the home, the configuration in force, the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lilliput import config as configuration
from lilliput.catalogue.load import Catalogue, load
from lilliput.config import Config, Home


def settings(env: Mapping[str, str], file: Path | None) -> tuple[Home, Config]:
    """The home, and the configuration in `file`, else in the home's own file, else the defaults."""
    home = configuration.home(env)
    return home, configuration.read(file or (home.config_file if home.config_file.is_file() else None))


def catalogue(env: Mapping[str, str], home: Home, config: Config) -> Catalogue:
    """The catalogue that a gateway started here would have."""
    from lilliput.cli import embedded

    return load(config.providers, env, models=config.models, embedded=embedded.known(config))
