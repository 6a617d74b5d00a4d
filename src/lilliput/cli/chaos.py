"""`lilliput chaos`: the lying provider behind a gateway, ours or any other, and the table of what its callers are told.

The scenarios, the provider and the judge are in `lilliput.chaos`; here it is wired to a gateway and shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from lilliput.chaos import client
from lilliput.chaos.client import Door
from lilliput.chaos.cuts import cuts
from lilliput.chaos.drive import HANGS_S, Driver, Result, Way
from lilliput.chaos.judge import Grade
from lilliput.chaos.liar import SECOND, Liar
from lilliput.chaos.rows import SCENARIOS
from lilliput.chaos.scenario import Scenario
from lilliput.chaos.speech import PATHS
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.local import weights
from lilliput.neutral import Problem

PORT = 1727
"""Where the lying provider listens for a gateway that somebody else configured."""
OVER_CELLS = 6 * sum(s.second is not None for s in SCENARIOS)
_PLACES = ("chat", "second")
SILENCE_S = 2
START_S = 60.0
STOP_S = 10.0
WAIT_S = 300.0
_COMMAND = (sys.executable, "-m", "lilliput.cli.main")
_KEY_ENV = "CHAOS_KEY"
_DIALECTS = {"chat": "openai_chat", "responses": "openai_responses", "messages": "anthropic"}
_SHORT: dict[Grade, str] = {"pass": "pass", "partial": "part", "fail": "FAIL"}


class Wanted(Struct, frozen=True):
    """What to run, and against which gateway; without a `base` our own is started for it."""

    base: str | None = None
    key: str = ""
    model: str = "liar"
    headers: tuple[str, ...] = ()
    port: int = PORT
    only: str = ""
    every_byte: bool = False
    failover: str | None = None


def chaos(wanted: Wanted, listing: bool, as_json: bool) -> int:
    """Run the scenarios and print what came of them; 0 when every cell is exact."""
    scenarios = [s for s in SCENARIOS if wanted.only.lower() in f"{s.group}: {s.name}".lower()]
    if not scenarios:
        raise Problem("client", f"no scenario has {wanted.only!r} in its name; see them with --list", code="usage")
    if listing:
        show_table(("group", "scenario"), ((s.group, s.name) for s in scenarios), sys.stdout)
        return 0
    if wanted.base and wanted.failover is None and all(s.second is not None for s in scenarios):
        raise Problem("client", "these scenarios need a route of two deployments: --failover MODEL", code="usage")
    results = asyncio.run(_run(wanted, scenarios))
    if as_json:
        show_json([_plain(result) for result in results], sys.stdout)
    else:
        _show(results)
    return 0 if all(result.verdict.grade == "pass" for result in results) else 1


async def _run(wanted: Wanted, scenarios: Sequence[Scenario]) -> list[Result]:
    async with contextlib.AsyncExitStack() as stack:
        liar = await stack.enter_async_context(Liar(wanted.port if wanted.base else 0))
        driver = Driver(liar, ours=wanted.base is None, hangs_s=HANGS_S if wanted.base is None else 2 * HANGS_S)
        if wanted.base is None:
            ways = await stack.enter_async_context(own(liar))
        else:
            ways = await _others(wanted, liar, driver)
        plain = [s for s in scenarios if s.second is None]
        results = await driver.run(plain, ways)
        if wanted.failover is not None or wanted.base is None:
            results += await _failover(
                driver, [s for s in scenarios if s.second is not None], ways[:3], wanted.failover
            )
        if wanted.every_byte:
            results += await driver.run(cuts(), ways[:1], (True,))
        return results


async def _failover(
    driver: Driver, scenarios: Sequence[Scenario], ways: Sequence[Way], model: str | None
) -> list[Result]:
    """The scenarios of two deployments, by the name of a route; ours has one for each cell, for what failed in another
    is not asked first again."""
    cells = [(s, way, stream) for s in scenarios for way in ways for stream in (True, False)]
    routed = [way._replace(door=replace(way.door, model=model or f"over-{i}")) for i, (_, way, _) in enumerate(cells)]
    return await asyncio.gather(*(driver.cell(s, way, on) for (s, _, on), way in zip(cells, routed, strict=True)))


# -- the gateway


@contextlib.asynccontextmanager
async def own(liar: Liar) -> AsyncIterator[list[Way]]:
    """Our gateway as a process of its own in a home of its own, with a provider of each dialect that lies."""
    with tempfile.TemporaryDirectory(prefix="lilliput-chaos-", ignore_cleanup_errors=True) as folder:
        root, port = Path(folder), _free_port()
        (root / "config.toml").write_text(_config(liar.port, root))
        env = {**_bare(), "LILLIPUT_HOME": folder, _KEY_ENV: "sk-liar"}
        log = root / "printed"
        with log.open("wb") as printed:
            serve = await asyncio.create_subprocess_exec(
                *_COMMAND, "serve", "--port", str(port), env=env, stdin=DEVNULL, stdout=printed, stderr=printed
            )
        try:
            await _up(serve, f"http://127.0.0.1:{port}", log)
            told = await asyncio.create_subprocess_exec(*_COMMAND, "key", "dev", env=env, stdout=PIPE)
            key = (await told.communicate())[0].decode().strip()
            yield _ways(f"http://127.0.0.1:{port}", key)
        finally:
            await _stop(serve)


def _ways(base: str, key: str) -> list[Way]:
    """Every caller's dialect over a provider of OpenAI chat; Responses and Messages also over one of their own."""
    over_chat = [Way(d, d, Door(base, "liar-chat/m", key)) for d in PATHS]
    return over_chat + [Way(f"{d}, same", d, Door(base, f"liar-{d}/m", key)) for d in PATHS if d != "chat"]


def _config(port: int, root: Path) -> str:
    text = f"[server]\nretry_share = 10\nfirst_byte_timeout_s = {SILENCE_S}\nstall_timeout_s = {SILENCE_S}\n"
    text += f'[local.models]\n"{weights.DEFAULT}" = "{root}/none.gguf"\n'
    for name, dialect in _DIALECTS.items():
        text += f'[providers.liar-{name}]\ndialect = "{dialect}"\nbase = "http://127.0.0.1:{port}/v1"\n'
        text += f'key_env = "{_KEY_ENV}"\nallow_private = true\n'
    text += (
        f'[providers.liar-second]\nbase = "http://127.0.0.1:{port}{SECOND}/v1"\nkey_env = ""\nallow_private = true\n'
    )
    for i in range(OVER_CELLS):
        places = (f'{{ model = "liar-{name}/over-{i}", priority = {rank} }}' for rank, name in enumerate(_PLACES))
        text += f'[routes.over-{i}]\npolicy = "priority"\ndeployments = [{", ".join(places)}]\n'
    return text


def _bare() -> dict[str, str]:
    """The environment without anybody's keys."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "LANG") if name in os.environ}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def _up(serve: asyncio.subprocess.Process, base: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and serve.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await client.connect(Door(base, ""))
            writer.close()
            return
        await asyncio.sleep(0.05)
    printed = one_line((await asyncio.to_thread(log.read_text, errors="replace"))[-2000:])
    raise Problem("server", f"the gateway did not start: {printed or 'it printed nothing'}")


async def _stop(serve: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        serve.terminate()
    try:
        await asyncio.wait_for(serve.wait(), STOP_S)
    except TimeoutError:
        serve.kill()
        await serve.wait()


async def _others(wanted: Wanted, liar: Liar, driver: Driver) -> list[Way]:
    """The ways into somebody else's gateway, once a good answer comes through it; Problem when none does."""
    assert wanted.base is not None
    headers = tuple((name.strip(), value.strip()) for name, _, value in (h.partition(":") for h in wanted.headers))
    door = Door(wanted.base, wanted.model, wanted.key, headers)
    ways = [Way(dialect, dialect, door) for dialect in PATHS]
    upstream = f"http://127.0.0.1:{liar.port}"
    say = f"model {wanted.model!r} of {wanted.base} must lead to the provider at {upstream}/v1 (any key)"
    if wanted.failover is not None:
        say += f", model {wanted.failover!r} to {upstream}/v1 first and {upstream}{SECOND}/v1 second"
    print(f"{say}; silence of {SILENCE_S} s should be too long for it", file=sys.stderr)
    until = time.monotonic() + WAIT_S
    while (found := await driver.cell(SCENARIOS[0], ways[0], False)).verdict.grade != "pass":
        if time.monotonic() > until:
            raise Problem("client", f"no good answer came through {wanted.base}: {found.verdict.why}; {say}")
        await asyncio.sleep(1)
    offered = [w for w in ways if (await driver.cell(SCENARIOS[0], w, False)).verdict.grade == "pass"]
    for way in ways:
        if way not in offered:
            print(f"{way.title}: left out, for not even a good answer comes through", file=sys.stderr)
    return offered


# -- the table


def _plain(result: Result) -> dict[str, object]:
    return {
        "group": result.scenario.group,
        "scenario": result.scenario.name,
        "way": result.way,
        "stream": result.stream,
        "grade": result.verdict.grade,
        "why": result.verdict.why,
        "calls": len(result.calls),
    }


def _show(results: Sequence[Result]) -> None:
    ways = list(dict.fromkeys(r.way for r in results))
    every = [r for r in results if r.scenario.group == "every byte"]
    rows: dict[str, dict[str, list[str]]] = {}
    for r in results:
        if r.scenario.group != "every byte":
            rows.setdefault(r.scenario.name, {}).setdefault(r.way, []).append(_SHORT[r.verdict.grade])
    head = ("streamed, whole", *ways)
    show_table(head, ((name, *(" ".join(row.get(way, ())) for way in ways)) for name, row in rows.items()), sys.stdout)
    print()
    for r in results:
        if r.verdict.grade != "pass":
            form = "stream" if r.stream else "whole"
            print(one_line(f"{r.verdict.grade}: {r.scenario.name} ({r.way}, {form}): {r.verdict.why}"))
    for title, some in (("cells", [r for r in results if r not in every]), ("cuts", every)):
        if some:
            counts = Counter(r.verdict.grade for r in some)
            print(f"{len(some)} {title}: " + ", ".join(f"{counts[grade]} {grade}" for grade in _SHORT))
