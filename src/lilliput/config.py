"""The one configuration file, `config.toml`, and the directories beside it.

A misspelt key is an error that names it. No secret stands in the file: keys are named by their environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from msgspec import Meta, Struct, field, structs, to_builtins

from lilliput.catalogue.rows import ModelPatch, ProviderPatch
from lilliput.catalogue.strict import read_toml
from lilliput.limits_config import Limits
from lilliput.neutral import Problem
from lilliput.router.routes import Route, Terms, check

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]


class Home(Struct, frozen=True):
    """Where everything of one user lives. `config_dir` is None when the configuration lies in `root` too."""

    root: Path
    config_dir: Path | None = None

    @property
    def config_file(self) -> Path:
        return (self.config_dir or self.root) / "config.toml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def database(self) -> Path:
        return self.data / "lilliput.db"

    @property
    def keys(self) -> Path:
        """Secrets, away from the database: a directory for its owner alone."""
        return self.root / "keys"

    @property
    def pepper_file(self) -> Path:
        return self.keys / "pepper"

    @property
    def local_key_file(self) -> Path:
        return self.keys / "local.key"

    @property
    def weights(self) -> Path:
        return self.root / "weights"


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the HTTP side."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback one wants `behind_tls`."""
    behind_tls: bool = False
    """A proxy that speaks TLS stands in front, so keys do not cross the network in the clear."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 1726
    """TCP port to listen on; 0 lets the system choose."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that share the port."""
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    """Open client connections in one worker; further ones are refused."""
    header_limit_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 32 << 10
    """Largest head of a request, its first line included."""
    header_limit_count: Annotated[int, Meta(ge=8, le=1000)] = 100
    """Most header lines of a request."""
    body_limit_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 10 << 20
    """Largest body of a request, refused before it is read."""
    header_timeout_s: Seconds = 10
    """From the first byte of a request to the end of its head."""
    body_timeout_s: Seconds = 30
    """Longest silence while a body is sent to us."""
    body_rate_bytes_per_s: Annotated[int, Meta(ge=0, le=1 << 30)] = 1024
    """Slowest body that is borne, on average; 0 bears any."""
    idle_timeout_s: Seconds = 75
    """How long a connection may stay open between two requests."""
    connect_timeout_s: Seconds = 5
    """To connect to a provider, TLS included."""
    first_byte_timeout_s: Seconds = 120
    """From the request sent to the first byte of a provider's answer."""
    stall_timeout_s: Seconds = 60
    """Longest silence within a provider's answer."""
    total_timeout_s: Seconds = 0
    """For a whole exchange; 0 sets no limit, so that long streams live."""
    retry_share: Annotated[float, Meta(ge=0, le=10)] = 0.2
    """Retries that one worker may make, as a share of its requests: an outage is not to be multiplied."""
    drain_s: Seconds = 30
    """How long open answers may go on after the order to stop."""


class Local(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[local]`: the engine that runs models on this machine."""

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Threads of the engine; 0 takes all cores but one, which is the gateway's."""
    context_tokens: Annotated[int, Meta(ge=256, le=1 << 20)] = 4096
    """Longest prompt and answer together, for each request."""
    parallel: Annotated[int, Meta(ge=1, le=256)] = 4
    """Requests answered at once; further ones wait."""
    memory_bytes: Bytes = 4 << 30
    """Most memory that the engine may allocate; 0 takes twice the weights and 2.5 GiB."""
    warm: bool = False
    """Whether the engine starts with the gateway and not with its first request."""
    models: dict[str, str] = field(default_factory=dict)
    """Further models served as `lilliput/<name>`: name = path of a GGUF file, or a name that `lilliput pull` knows."""


class StoreTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: the database. LILLIPUT_STORE_URL wins over it, and a password belongs there."""

    url: str = ""
    """postgresql://USER@HOST:5432/DATABASE for several machines; empty is a file of this one."""


class LedgerTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ledger]`: who spent what, and budgets."""

    on: bool = False
    """Whether every request is put on record with its cost; budgets, credits and `lilliput usage` need it."""


class SharedTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[shared]`: what several replicas count together, on Redis or Valkey."""

    url_env: str = "LILLIPUT_REDIS_URL"
    """Environment variable that holds the server's address; unset counts on this machine alone."""
    when_down: Literal["local", "refuse"] = "local"
    """While it is out of reach each replica limits for itself, or refuses what is limited."""
    timeout_s: Annotated[float, Meta(gt=0, le=10)] = 0.25
    """Longest wait for it."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    server: Server = Server()
    """The HTTP side."""
    local: Local = Local()
    """The engine on this machine."""
    store: StoreTable = StoreTable()
    """The database."""
    routes: dict[str, Route] = field(default_factory=dict)
    """`[routes.NAME]`: names that clients may call, the deployments behind them and the policy between."""
    aliases: dict[str, str] = field(default_factory=dict)
    """`[aliases]`: other names for models and routes."""
    terms: dict[str, Terms] = field(default_factory=dict)
    """`[terms.PROVIDER]`: what a provider does with data, and where."""
    limits: Limits = Limits()
    """Requests and tokens that keys, teams and models may take."""
    ledger: LedgerTable = LedgerTable()
    """Who spent what."""
    shared: SharedTable = SharedTable()
    """Counts shared by replicas."""
    providers: dict[str, ProviderPatch] = field(default_factory=dict)
    """`[providers.NAME]`: changes to providers we know, and providers of your own."""
    models: dict[str, ModelPatch] = field(default_factory=dict)
    """`[models."provider/name"]`: facts and prices that we do not have, or have otherwise."""


def home(env: Mapping[str, str]) -> Home:
    """`LILLIPUT_HOME` when it is set, else the platform's own directories for data and configuration."""
    given = env.get("LILLIPUT_HOME", "").strip()
    if given:
        return Home(Path(given).expanduser().absolute())
    data = platformdirs.user_data_path("lilliput", appauthor=False)
    return Home(data, platformdirs.user_config_path("lilliput", appauthor=False))


def read(path: Path | None) -> Config:
    """The file as a `Config`, or all defaults for None. `Problem` names file, table, key and the nearest right key."""
    if path is None:
        return Config()
    config = read_toml(path, Config)
    check(config.routes, config.aliases, str(path))
    for name in config.local.models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise Problem(
                "client",
                f"{path}: [local.models] {name!r} cannot be a model's name: letters, digits, dot, dash and _ alone",
            )
    return config


def shown(config: Config) -> dict[str, object]:
    """The configuration as plain values, for people. Header values are hidden, but for the variables they name."""
    hidden = {
        name: structs.replace(patch, headers={k: _hidden(v) for k, v in patch.headers.items()})
        for name, patch in config.providers.items()
    }
    plain = to_builtins(structs.replace(config, providers=hidden))
    assert isinstance(plain, dict)
    return _said(plain)


def _hidden(value: str) -> str:
    return value if re.fullmatch(r"(?:Bearer )?\$\{\w+\}", value) else "***"


def _said(table: dict[str, object]) -> dict[str, object]:
    """The table without what is not set."""
    return {k: _said(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}
