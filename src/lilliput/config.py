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
    def receipts(self) -> Path:
        return self.data / "receipts"

    @property
    def receipts_key_file(self) -> Path:
        return self.keys / "receipts.key"

    @property
    def local_key_file(self) -> Path:
        return self.keys / "local.key"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def runs(self) -> Path:
        """Runs of the studio, a directory each."""
        return self.root / "runs"

    @property
    def students(self) -> Path:
        """Bundles that tasks are answered with, a directory each, named by its id."""
        return self.root / "students"


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
    max_in_flight: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Requests that may wait for the first byte of their answer in one worker; further ones are told to come back. 0 is
    as many as keep the worker quick."""
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
    when_down: Literal["refuse", "local"] = "refuse"
    """While the database cannot answer: `refuse` all, or let keys that were seen before go on with models on this
    machine that cost nothing. What these answer then is not on record, and a key revoked meanwhile is not noticed."""


class ReceiptsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[receipts]`: a signed record of each request, chained to the one before."""

    on: bool = False
    """Whether they are kept; they hold hashes and no word of a prompt or an answer."""
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 90
    """Files older than this go when a day's file is begun; 0 keeps all."""


class MetricsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[metrics]`: `GET /metrics`, for Prometheus."""

    open: bool | None = None
    """Whether anyone who reaches the port may read them; unset: where `lilliput serve` listens on loopback and no proxy
    stands in front."""
    keys: tuple[str, ...] = ()
    """Keys that may, by id or name; this machine's own always may."""
    models: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Models that are told apart; further ones are `other`."""


class SharedTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[shared]`: what several replicas count together, on Redis or Valkey."""

    url_env: str = "LILLIPUT_REDIS_URL"
    """Environment variable that holds the server's address; unset counts on this machine alone."""
    when_down: Literal["local", "refuse"] = "local"
    """While it is out of reach each replica limits for itself, or refuses what is limited."""
    timeout_s: Annotated[float, Meta(gt=0, le=10)] = 0.25
    """Longest wait for it."""


class SemanticTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cache.semantic]`: chats whose last words mean the same, all else equal, may share an answer."""

    on: bool = False
    """Whether they do; `model` and `threshold` have to be set then."""
    model: str = ""
    """`provider/model` of the embeddings; its calls are paid by the key that asks."""
    threshold: Annotated[float, Meta(ge=-1, le=1)] | None = None
    """Least cosine of two texts that count as one. Only a trial on your own questions tells which is safe."""
    max_candidates: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Earlier requests that each is compared with, the latest first."""


class CacheTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cache]`: whole answers that are given again to the same request. In Redis where `[shared]` has one, else in the
    database."""

    on: bool = False
    """Whether answers are kept."""
    ttl_s: Annotated[float, Meta(gt=0, le=2_592_000)] = 3600
    """How long an answer is given again."""
    share: Literal["key", "team"] = "key"
    """Who shares one: nobody but the key that asked, or all keys of its team that may call the same models."""
    max_bytes: Annotated[int, Meta(ge=1, le=64 << 20)] = 1 << 20
    """Longest answer that is kept."""
    max_entries: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """Answers kept in all; what was used longest ago goes first."""
    max_total_bytes: Annotated[int, Meta(ge=1, le=1 << 40)] = 256 << 20
    """Their size in all."""
    semantic: SemanticTable = SemanticTable()
    """Answers to requests that mean the same."""


class IdempotencyTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[idempotency]`: a request that is sent again under the same `Idempotency-Key` is served once."""

    on: bool = True
    """Whether the header is obeyed."""
    keep_s: Annotated[float, Meta(ge=86_400, le=2_592_000)] = 86_400
    """How long an answer is given again."""
    max_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 8 << 20
    """Longest answer that is kept; one that is longer is refused to whoever asks for it again."""


class TasksTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tasks]`: names such as `task/NAME`, which a teacher answers until a student of our own does."""

    on: bool = True
    """Whether they are served; making them is up to `lilliput task`."""
    deadline_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """Longest that a request waits for a student; after that its teacher is asked."""
    max_students: Annotated[int, Meta(ge=1, le=1000)] = 4
    """Students that hold a model in memory at once in one worker; tasks beyond have their teacher."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Threads of a student's engine; 0 takes all cores but one, which is the gateway's."""


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
    receipts: ReceiptsTable = ReceiptsTable()
    """Signed records of requests."""
    priority: dict[str, Literal["low", "normal", "high"]] = field(default_factory=dict)
    """`[priority]`: who is turned away first and last when too many ask; key or team, by id or name = low or high."""
    metrics: MetricsTable = MetricsTable()
    """What is counted."""
    shared: SharedTable = SharedTable()
    """Counts shared by replicas."""
    cache: CacheTable = CacheTable()
    """Answers given again."""
    idempotency: IdempotencyTable = IdempotencyTable()
    """Requests sent again."""
    tasks: TasksTable = TasksTable()
    """Teachers and their students."""
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
    _check_semantic(config, path)
    for name in config.local.models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise Problem(
                "client",
                f"{path}: [local.models] {name!r} cannot be a model's name: letters, digits, dot, dash and _ alone",
            )
    return config


def _check_semantic(config: Config, path: Path) -> None:
    """Raises Problem for a semantic cache that could not work, or whose threshold nobody chose."""
    table = config.cache.semantic
    if not table.on:
        return
    if not config.cache.on:
        raise Problem("client", f"{path}: [cache.semantic] on needs [cache] on: set both, or neither")
    if not table.model or table.threshold is None:
        missing = "model" if not table.model else "threshold"
        example = '"openai/text-embedding-3-small"' if not table.model else "0.95"
        say = f"{path}: [cache.semantic] needs `{missing}`, which has no default: say {missing} = {example}"
        raise Problem("client", say)


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
