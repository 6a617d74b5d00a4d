"""Other gateways, installed on demand below `benchmarks/work/.peers` and measured in the same run; no test needs them.

Each runs one worker with its defaults for production, checks a key where it can, and does no more than forward.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Door
from benchmarks.prepare import CLIENT_KEY, WORK, Setting, need
from benchmarks.processes import Failed, free_port
from benchmarks.targets import Plan, Target, bearer

PEERS = WORK / ".peers"  # hidden, so that no linter or type checker walks into it
PYTHON_PEERS = {  # a virtual environment each: name -> what pip installs into it
    "litellm": ("litellm[proxy]==1.106.2",),
    "vllm-router": ("vllm-router==0.1.17",),
    "smg": ("smg==1.13.0",),
    "tensorzero": ("tensorzero==2026.6.0", "openai"),
}
NODE_PEERS = {"portkey": "@portkey-ai/gateway@1.15.2"}


def install(names: list[str]) -> int:
    """Installs the named peers, or all; says of each how it went and returns how many failed."""
    failed = 0
    for name in names or [*PYTHON_PEERS, *NODE_PEERS]:
        folder = PEERS / name
        folder.mkdir(parents=True, exist_ok=True)
        steps: list[list[str | Path]]
        if name in PYTHON_PEERS:
            pip: list[str | Path] = [
                folder / "bin/pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *PYTHON_PEERS[name],
            ]
            steps = [[sys.executable, "-m", "venv", folder], pip]
        elif name in NODE_PEERS:
            silent = ["--silent", "--no-audit", "--no-fund"]
            steps = [[need("npm", "npm"), "install", "--prefix", folder, *silent, NODE_PEERS[name]]]
        else:
            raise Failed(f"{name!r} is no peer; there are {', '.join([*PYTHON_PEERS, *NODE_PEERS])}")
        went = all(subprocess.run(step, check=False).returncode == 0 for step in steps)
        print(f"{name}: {'installed' if went else 'NOT installed'}", flush=True)
        failed += not went
    return failed


def installed(name: str, path: str) -> Path:
    program = PEERS / name / path
    if not program.exists():
        raise Failed(f"{name} is not installed; run: python -m benchmarks --install-peers {name}")
    return program


def python_version(name: str) -> Callable[[], str]:
    """Reads a version off the folder pip leaves beside the package."""

    def version() -> str:
        wanted = name.replace("-", "_")
        for info in (PEERS / name).glob(f"lib/python*/site-packages/{wanted}-*.dist-info"):
            return info.name.removesuffix(".dist-info").removeprefix(f"{wanted}-")
        return "unknown"

    return version


LITELLM = """\
model_list:
  - model_name: bench-model
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{base}", api_key: sk-upstream}}
litellm_settings: {{telemetry: false, set_verbose: false, request_timeout: 60}}
general_settings: {{master_key: {key}}}
"""
LITELLM_ENV = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
}


def litellm(setting: Setting) -> Plan:
    program, port = installed("litellm", "bin/litellm"), free_port()
    config = setting.work / "litellm.yaml"
    config.write_text(LITELLM.format(base=setting.upstream, key=CLIENT_KEY))
    where = ("--config", config, "--host", "127.0.0.1", "--port", str(port))
    return Plan(
        door=Door(port=port, headers=bearer(CLIENT_KEY), model="bench-model"),
        command=(program, *where, "--num_workers", "1", "--telemetry", "False"),
        env=LITELLM_ENV,
    )


# @portkey-ai/gateway 1.15.2 under Node 20 answers each stream with 500: it adds to the headers of fetch()'s own
# Response, which are immutable. With a copy of them it works (seen with Node 20.20, November 2026). It has no option
# for its address either, and would listen on all of them.
PORTKEY_SHIM = """\
import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, host, ...rest) {
  return listen.call(this, port, host ?? "127.0.0.1", ...rest);
};
const original = globalThis.fetch;
globalThis.fetch = async (...args) => {
  const r = await original(...args);
  return new Response(r.body, { status: r.status, statusText: r.statusText, headers: new Headers(r.headers) });
};
"""


def portkey(setting: Setting) -> Plan:
    program = installed("portkey", "node_modules/@portkey-ai/gateway/build/start-server.js")
    port, shim = free_port(), setting.work / "portkey.mjs"
    shim.write_text(PORTKEY_SHIM)
    to_mock = ("x-portkey-provider: openai", f"x-portkey-custom-host: {setting.upstream}")
    return Plan(
        door=Door(port=port, headers=(*bearer(CLIENT_KEY), *to_mock)),
        command=(need("node", "nodejs"), "--import", shim, program, "--headless", f"--port={port}"),
        env={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
    )


def portkey_version() -> str:
    about = PEERS / "portkey" / "node_modules/@portkey-ai/gateway/package.json"
    return str(json.loads(about.read_text())["version"])


def rust_router(program: Path, command: tuple[str, ...], setting: Setting, *more: str) -> Plan:
    """vllm-router and smg, which share their options; their metrics stay on this machine too."""
    port, metrics = free_port(), ("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()))
    where = ("--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{setting.mock_port}")
    how = ("--policy", "round_robin", "--api-key", CLIENT_KEY)
    door = Door(port=port, headers=bearer(CLIENT_KEY))
    return Plan(door=door, command=(program, *command, *where, *how, *metrics, *more))


def vllm_router(setting: Setting) -> Plan:
    return rust_router(installed("vllm-router", "bin/vllm-router"), (), setting, "--log-level", "warning")


def smg(setting: Setting) -> Plan:
    more = ("--backend", "openai", "--disable-health-check", "--log-level", "warn")
    return rust_router(installed("smg", "bin/smg"), ("launch",), setting, *more)


TENSORZERO = """\
gateway.observability.enabled = false
[models."bench-model"]
routing = ["mock"]
[models."bench-model".providers.mock]
type = "openai"
model_name = "up-model"
api_base = "{base}"
api_key_location = "none"
"""
TENSORZERO_HOST = """\
import sys, time
import openai, tensorzero
client = tensorzero.patch_openai_client(openai.OpenAI(api_key="x"), config_file=sys.argv[1], async_setup=False)
print("BASE", client.base_url, flush=True)
time.sleep(7200)
"""


def tensorzero(setting: Setting) -> Plan:
    """The Rust gateway as the Python client embeds it: the one form that the registry has."""
    python, config = installed("tensorzero", "bin/python"), setting.work / "tensorzero.toml"
    config.write_text(TENSORZERO.format(base=setting.upstream))
    model = "tensorzero::model_name::bench-model"
    return Plan(
        door=Door(port=0, path="/openai/v1/chat/completions", headers=bearer(CLIENT_KEY), model=model),
        command=(python, "-c", TENSORZERO_HOST, config),
        port_line=r"BASE http://[^:]+:(\d+)/",
    )


ROWS = (
    Target(
        name="vllm-router",
        about="Rust",
        plan=vllm_router,
        version=python_version("vllm-router"),
        warm_s=2,
        peer=True,
    ),
    Target(name="smg", about="Rust", plan=smg, version=python_version("smg"), warm_s=2, peer=True),
    Target(
        name="tensorzero",
        about="Rust, embedded; checks no key",
        plan=tensorzero,
        version=python_version("tensorzero"),
        warm_s=2,
        peer=True,
    ),
    Target(name="portkey", about="Node; checks no key", plan=portkey, version=portkey_version, warm_s=10, peer=True),
    Target(name="litellm", about="Python", plan=litellm, version=python_version("litellm"), warm_s=10, peer=True),
)
