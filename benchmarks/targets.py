"""What can be measured: a bare call, nginx, lilliput in its forms, and the peers. One row each; nothing is run here.

How a peer is installed is in `peers`.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct, field, structs

from benchmarks.measure import ANTHROPIC, METRICS, OPENAI, Door
from benchmarks.prepare import CLIENT_KEY, UPSTREAM_KEY, Setting, need, nginx_files, tls_front_command
from benchmarks.processes import Failed, free_port
from lilliput.config import home

ALL = tuple(METRICS)


class Plan(Struct, frozen=True, kw_only=True):
    """How to start a server and where it then answers; no command where nothing stands between load and mock.

    `port_line` is for a server that picks its own port: a pattern whose first group is the port it prints.
    `before` is a command to have running on the load's core, listening on `before_port`.
    """

    door: Door
    command: tuple[str | Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    port_line: str | None = None
    before: tuple[str | Path, ...] = ()
    before_port: int = 0


class Target(Struct, frozen=True, kw_only=True):
    """A row of the table. `quick` names the metrics of the quick form; `warm_s` is for compilers and caches to settle.

    `plan` raises Failed with what to install where something is missing. `baseline` names the target that passes the
    same bytes to the same upstream: ratios are to it.
    """

    name: str
    about: str
    plan: Callable[[Setting], Plan]
    version: Callable[[], str] = str
    quick: tuple[str, ...] = ALL
    warm_s: float = 1.0
    peer: bool = False
    baseline: str = "nginx"


def bearer(key: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {key}",)


def direct(setting: Setting) -> Plan:
    return Plan(door=Door(port=setting.mock_port, headers=bearer(UPSTREAM_KEY)))


def nginx(setting: Setting, dialect: str = OPENAI) -> Plan:
    port = free_port()
    conf = nginx_files(setting.work / f"nginx-{dialect}", str(port), setting.mock_port, CLIENT_KEY)
    door = Door(port=port, dialect=dialect, headers=bearer(CLIENT_KEY))
    return Plan(door=door, command=(need("nginx", "nginx-light"), "-c", conf))


def nginx_version() -> str:
    said = subprocess.run([need("nginx", "nginx-light"), "-v"], capture_output=True, text=True, check=False)
    return said.stderr.strip().rpartition("/")[2]


def ours(program: str) -> Path:
    """A program of the virtual environment that this runs in."""
    path = Path(sys.executable).parent / program
    if not path.exists():
        raise Failed(f"{path} does not exist; run: make setup")
    return path


def weights_folder(work: Path) -> Path:
    """The user's own weights where there are any, else a folder of ours."""
    own, ours = home(os.environ).weights, work / "weights"
    if own.is_dir() and any(own.iterdir()):
        return own
    ours.mkdir(parents=True, exist_ok=True)
    return ours


def lilliput_home(work: Path, name: str, base: str, dialect: str = OPENAI) -> tuple[dict[str, str], Path, str]:
    """A fresh home with the upstream as the provider `mock`: its environment, its configuration, its local key."""
    folder = work / "homes" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "weights").symlink_to(weights_folder(work))
    config = folder / "config.toml"
    config.write_text(
        f'[providers.mock]\ndialect = "{dialect}"\nbase = "{base}"\nkey_env = "BENCH_UPSTREAM_KEY"\n'
        "allow_private = true\n"
    )
    env = {"LILLIPUT_HOME": str(folder), "LILLIPUT_CONFIG": str(config), "BENCH_UPSTREAM_KEY": UPSTREAM_KEY}
    program, around = ours("lilliput"), {**os.environ, **env}
    if not any((folder / "weights").iterdir()):  # else the first start would fetch them, and be timed
        print("fetching the weights of the mini, once", flush=True)
        subprocess.run([program, "pull", "smollm2-135m"], env=around, stdout=subprocess.DEVNULL, check=False)
    made = subprocess.run([program, "key", "dev"], env=around, capture_output=True, text=True, check=False)
    if made.returncode or not made.stdout.strip():
        raise Failed(f"`lilliput key dev` gave no key: {made.stderr.strip() or made.stdout.strip()!r}")
    return env, config, made.stdout.strip()


def serve_command(config: Path, port: int) -> tuple[str | Path, ...]:
    return ours("lilliput"), "serve", "--config", config, "--port", str(port)


def lilliput_plan(
    setting: Setting,
    name: str,
    base: str,
    command: Callable[[Path, int], tuple[str | Path, ...]] = serve_command,
    more: Mapping[str, str] | None = None,
    *,
    client: str = OPENAI,
    provider: str = OPENAI,
) -> Plan:
    env, config, key = lilliput_home(setting.work, name, base, provider)
    port = free_port()
    headers = bearer(key) if client == OPENAI else (f"x-api-key: {key}", "anthropic-version: 2023-06-01")
    return Plan(
        door=Door(port=port, dialect=client, headers=headers, model="mock/up-model"),
        command=command(config, port),
        env={**env, **(more or {})},
    )


def lilliput(setting: Setting) -> Plan:
    return lilliput_plan(setting, "lilliput", setting.upstream)


def lilliput_tls(setting: Setting) -> Plan:
    front = tuple(tls_front_command(setting))
    trust = {"SSL_CERT_FILE": str(setting.certificate)}
    plan = lilliput_plan(setting, "lilliput-tls", setting.tls_upstream, more=trust)
    return structs.replace(plan, before=front, before_port=setting.tls_port)


def lilliput_asgi(setting: Setting) -> Plan:
    def uvicorn(config: Path, port: int) -> tuple[str | Path, ...]:
        quiet = ("--log-level", "warning", "--no-access-log")
        return ours("uvicorn"), "lilliput.asgi:app", "--host", "127.0.0.1", "--port", str(port), *quiet

    return lilliput_plan(setting, "lilliput-asgi", setting.upstream, uvicorn)


def openai_to_anthropic(setting: Setting) -> Plan:
    return lilliput_plan(setting, "openai-anthropic", setting.anthropic_upstream, provider=ANTHROPIC)


def anthropic_to_openai(setting: Setting) -> Plan:
    return lilliput_plan(setting, "anthropic-openai", setting.upstream, client=ANTHROPIC)


def lilliput_version() -> str:
    return importlib.metadata.version("lilliput")


SHORT = ("c1", "c64", "paced")
COSTS = ("c64", "paced")
OURS = (
    Target(
        name="direct",
        about="load and mock upstream, nothing between",
        plan=direct,
        quick=("c1", "c16", "c64"),
        warm_s=0.2,
    ),
    Target(name="nginx", about="proxy_pass, one worker, key checked", plan=nginx, version=nginx_version, warm_s=0.5),
    Target(
        name="nginx-anthropic",
        about="the same, requests and answers in Anthropic's form",
        plan=partial(nginx, dialect=ANTHROPIC),
        version=nginx_version,
        quick=COSTS,
        warm_s=0.5,
    ),
    Target(name="lilliput", about="`lilliput serve` with its defaults", plan=lilliput, version=lilliput_version),
    Target(
        name="openai-anthropic",
        about="lilliput, OpenAI client and Anthropic upstream",
        plan=openai_to_anthropic,
        version=lilliput_version,
        quick=COSTS,
        baseline="nginx-anthropic",
    ),
    Target(
        name="anthropic-openai",
        about="lilliput, Anthropic client and OpenAI upstream",
        plan=anthropic_to_openai,
        version=lilliput_version,
        quick=COSTS,
    ),
    Target(
        name="lilliput-tls",
        about="the same, TLS to the upstream",
        plan=lilliput_tls,
        version=lilliput_version,
        quick=SHORT,
    ),
    Target(
        name="lilliput-asgi",
        about="`lilliput.asgi:app` mounted on uvicorn",
        plan=lilliput_asgi,
        version=lilliput_version,
        quick=SHORT,
    ),
)
