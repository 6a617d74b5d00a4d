"""`lilliput serve`: the composition root, where store, catalogue, engine and network become a gateway.

`compose` makes one worker's parts; `serve` runs one or several workers behind one port.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import ipaddress
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path

import uvloop
from msgspec import Struct, structs

from lilliput import __version__
from lilliput.catalogue.load import LOCAL, Catalogue, load
from lilliput.cli import embedded
from lilliput.cli.output import one_line, say_error
from lilliput.cli.paying import till
from lilliput.cli.publishing import Shelf, meter, published, used
from lilliput.cli.receipts import kept
from lilliput.cli.replaying import replaying
from lilliput.cli.students import tasked
from lilliput.cli.tasking import desk, expiring
from lilliput.config import Config, Home, Server, home, read
from lilliput.gateway import cold
from lilliput.gateway.answer import Patience
from lilliput.gateway.asgi import App, application, serve_cold
from lilliput.gateway.exchange import exchange
from lilliput.gateway.gates import Gate
from lilliput.gateway.hedge import guarded
from lilliput.gateway.metrics_page import Page
from lilliput.gateway.routes import Routes
from lilliput.gateway.routing import Routing
from lilliput.gateway.server import Limits, Listener
from lilliput.gateway.shed import Load
from lilliput.gateway.upstream import Upstream
from lilliput.gateway.visit import Visit
from lilliput.neutral import Problem
from lilliput.router.attempts import Budget
from lilliput.router.keys import Rotation
from lilliput.router.plan import World
from lilliput.store.counters import LocalCounters
from lilliput.store.keys import KeyRing, LocalKey, allows, local_key, open_ring
from lilliput.store.open import open_store, store_url

STOPS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Parts(Struct):
    """One worker, wired: what the raw server and the ASGI app share."""

    gate: Gate
    routes: Routes
    cold: App
    limits: Limits
    catalogue: Catalogue
    local_key: LocalKey
    mini: embedded.Mini

    @property
    def app(self) -> App:
        return application(self.gate, self.routes, self.cold)

    def answer(self, visit: Visit) -> Awaitable[None]:
        assert visit.route is not None
        op = visit.route.operation
        return serve_cold(self.cold, visit) if op is None else exchange(self.gate, op, visit)


@contextlib.asynccontextmanager
async def compose(
    place: Home,
    config: Config,
    env: Mapping[str, str],
    counters: LocalCounters | None = None,
    shelf: Shelf | None = None,
) -> AsyncIterator[Parts]:
    """One worker's parts, on the running loop; raises Problem for a home, keys or configuration that are not right.

    `counters` are what workers on one machine count together, `shelf` where they leave their metrics.
    """
    s = config.server
    place.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    catalogue = load(config.providers, env, models=config.models, embedded=embedded.known(config))
    opened = await open_store(store_url(env, config.store.url), place.database)
    upstream = Upstream(
        asyncio.get_running_loop(),
        Patience(
            connect_s=s.connect_timeout_s,
            first_byte_s=s.first_byte_timeout_s,
            stall_s=s.stall_timeout_s,
            total_s=s.total_timeout_s,
        ),
    )
    mini = embedded.Mini(place, config)
    stack = contextlib.AsyncExitStack()
    try:
        ring: KeyRing = await open_ring(
            opened.store, place.pepper_file, trusts_kept=config.ledger.on and config.ledger.when_down == "local"
        )
        mine = await local_key(ring, place.local_key_file)
        ledger = opened.ledger if config.ledger.on else None
        paying = await stack.enter_async_context(till(config, env, ledger, catalogue, counters))
        gate = Gate(
            upstream=upstream,
            find_key=ring.find,
            allows=allows,
            target=catalogue.target,
            model=catalogue.model,
            models=catalogue.models,
            here={LOCAL: mini},
            threads=opened.responses,
            till=paying,
            receipts=stack.enter_context(kept(place, config, counters)),
            desk=desk(opened, place, config, env, catalogue),
            routing=Routing(
                World(catalogue, config.routes, config.aliases, config.terms),
                time.time,
                random.random,
                Budget(s.retry_share),
                keys=Rotation(catalogue.keyed) if catalogue.has_spares else None,
                guard=guarded,
            ),
            ready=lambda: _faults(catalogue, mini),
            meter=meter(config, shelf),
            load=Load(s.max_in_flight, config.priority, random.random),
            scrapers=None if config.metrics.open else config.metrics.keys,
            key_epoch=opened.store.epoch,
            body_limit_bytes=s.body_limit_bytes,
        )
        await stack.enter_async_context(replaying(config, env, opened, gate))
        await stack.enter_async_context(expiring(opened.tasks))
        await stack.enter_async_context(tasked(place, config, opened, gate))
        routes = Routes()
        limits = Limits(
            head_bytes=s.header_limit_bytes,
            header_count=s.header_limit_count,
            header_timeout_s=s.header_timeout_s,
            body_grace_s=s.body_timeout_s,
            body_rate_bytes_s=s.body_rate_bytes_per_s,
            idle_timeout_s=s.idle_timeout_s,
            connections=s.max_connections,
        )
        page = Page(gate, used, shelf)
        await stack.enter_async_context(published(page, shelf))
        yield Parts(gate, routes, cold.build(gate, routes, page), limits, catalogue, mine, mini)
    finally:
        await mini.stop()
        upstream.close()
        await stack.aclose()
        await opened.close()


def _faults(catalogue: Catalogue, mini: embedded.Mini) -> Mapping[str, str]:
    """Why nothing can be served, empty as soon as one provider can."""
    if mini.fault is None or any(p.ready and p.name != LOCAL for p in catalogue.providers()):
        return {}
    return {LOCAL: mini.fault}


def serve(
    config: Path | None, host: str | None, port: int | None, workers: int | None, warm: bool, behind_tls: bool
) -> int:
    """Runs the gateway until SIGTERM or SIGINT; returns the exit status. Raises Problem for what forbids the start."""
    place = home(os.environ)
    file = config or (place.config_file if place.config_file.is_file() else None)
    settings = read(file)
    said = {"host": host, "port": port, "workers": workers, "behind_tls": behind_tls or None}
    server = structs.replace(settings.server, **{k: v for k, v in said.items() if v is not None})
    local = structs.replace(settings.local, warm=warm or settings.local.warm)
    settings = structs.replace(settings, server=server, local=local)
    _may_bind(server)
    embedded.fetch(place, settings, sys.stderr)
    if server.workers > 1:
        return _many(place, settings)
    return uvloop.run(_worker(place, settings, file))


def _may_bind(server: Server) -> None:
    """Raises Problem for an address that others can reach while keys would cross the network in the clear."""
    if not _is_loopback(server.host) and not server.behind_tls:
        raise Problem(
            "client",
            f"{server.host} can be reached by others, and this port speaks no TLS: put a proxy that does in front and "
            "add --behind-tls, or listen on 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _worker(
    place: Home,
    config: Config,
    file: Path | None = None,
    *,
    listens: int | None = None,
    counters: LocalCounters | None = None,
    shelf: Shelf | None = None,
) -> int:
    """One worker from its start to its drained end; one of many writes a byte to `listens` when it listens."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, stop.set)
    async with compose(place, config, os.environ, counters, shelf) as parts:
        if config.metrics.open is None and _is_loopback(config.server.host) and not config.server.behind_tls:
            parts.gate.scrapers = None
        listener = Listener(parts.gate, parts.answer, parts.routes, parts.limits)
        try:
            port = await listener.open(config.server.host, config.server.port, reuse_port=listens is not None)
        except OSError as e:
            where = f"{config.server.host}:{config.server.port}"
            say = f"cannot listen on {where}: {e.strerror or e}; stop what holds it (`lilliput doctor`) or add --port"
            raise Problem("server", say) from None
        if listens is None:
            _greet(place, parts, config.server.host, port, file)
        else:
            os.write(listens, b".")
            os.close(listens)
        if config.local.warm:
            await _warm(parts)
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked at again
        gc.set_threshold(50_000, 20, 50)
        await stop.wait()
        await listener.close(config.server.drain_s)
    return 0


async def _warm(parts: Parts) -> None:
    try:
        await parts.mini.wake(parts.gate.target(f"{LOCAL}/{embedded.DEFAULT}"))
    except Problem as problem:
        say_error(problem, sys.stderr)


def _many(place: Home, config: Config) -> int:
    """Several workers on one port, which the kernel shares out; a worker that dies is replaced."""
    if config.server.port == 0:
        raise Problem("client", "several workers need a port of their own choosing: give --port a number")
    parent = os.getpid()
    children: dict[int, int] = {}
    counters = LocalCounters(config.server.workers)
    folder = tempfile.TemporaryDirectory(prefix="lilliput-metrics-")
    stopping = False

    def start(number: int, listens: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # so that no order to stop is lost between two processes
        if stopping:  # it came just before
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            return
        pid = os.fork()
        if pid == 0:
            status = 1
            for sig in STOPS:
                signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            try:
                _end_with(parent)
                counters.attach(number)
                shelf = Shelf(Path(folder.name), number)
                status = uvloop.run(_worker(place, config, listens=listens, counters=counters, shelf=shelf))
            except Problem as problem:
                say_error(problem, sys.stderr)
            finally:
                os._exit(status)
        children[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    heard, listens = os.pipe()
    for number in range(config.server.workers):
        start(number, listens)
    os.close(listens)
    for sig in STOPS:
        signal.signal(sig, stop)
    print(f"lilliput {__version__}")
    print(f"  endpoint   http://{config.server.host}:{config.server.port}/v1, {config.server.workers} workers")
    with open(heard, "rb") as up:
        if len(up.read()) == config.server.workers:
            print("ready", flush=True)
    worst = 0
    while children:
        pid, status = os.wait()
        number = children.pop(pid)
        if not stopping and os.waitstatus_to_exitcode(status) == 1:
            worst = 1
            stop()
        elif not stopping:
            print(f"worker {number} ended ({os.waitstatus_to_exitcode(status)}): another is started", file=sys.stderr)
            start(number, os.open(os.devnull, os.O_WRONLY))
    folder.cleanup()
    return worst


def _end_with(parent: int) -> None:
    """A worker does not outlive a parent that was killed: nobody would be left to stop it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            raise Problem("server", "the process that started this worker is gone")


def _greet(place: Home, parts: Parts, host: str, port: int, file: Path | None) -> None:
    """What a person needs now: the address, the key, the providers found and the models that are ready."""
    shown = f"[{host}]" if ":" in host else host
    ready = [p for p in parts.catalogue.providers() if p.ready and p.name != LOCAL]
    mine = f"{place.local_key_file}   (print it: lilliput key dev)" if parts.local_key.token else parts.local_key.say
    mini = f"{LOCAL}/{embedded.DEFAULT}" if parts.mini.fault is None else f"none here: {parts.mini.fault}"
    lines = [
        ("endpoint", f"http://{shown}:{port}/v1   (also /openai/v1)"),
        ("key", mine),
        ("config", str(file) if file else f"defaults   (write {place.config_file} to change them)"),
        ("built in", mini),
        ("providers", ", ".join(p.name for p in ready) or "none yet: put a provider's key into the environment"),
        ("models", f"{len(parts.catalogue.models())} to call   (list them: lilliput models)"),
    ]
    print(f"lilliput {__version__}")
    for name, value in lines:
        print(f"  {name:<10} {one_line(value)}")
    print("ready", flush=True)
