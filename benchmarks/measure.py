"""One window of load on one server, and what it cost: the load generator's figures beside the kernel's accounts.

CPU time is read for the server's whole process tree, so helpers that it starts are not free of charge.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from benchmarks.processes import LOAD_CORE, SERVER_CORE, Failed, tree

OPENAI, ANTHROPIC = "openai_chat", "anthropic"
PATHS = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages"}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Metric(Struct, frozen=True):
    """A kind of load. `body` names a request of `bodies`; `stagger_ms` spreads the first requests."""

    name: str
    about: str
    body: str
    connections: int
    seconds: float
    full_seconds: float
    warm_s: float = 0.1
    stagger_ms: float = 0.0


METRICS = {
    m.name: m
    for m in (
        Metric("c1", "1 KB chat, 1 connection", "chat", 1, 0.7, 2.0),
        Metric("c16", "1 KB chat, 16 connections", "chat", 16, 0.5, 2.0),
        Metric("c64", "1 KB chat, 64 connections", "chat", 64, 0.7, 3.0),
        Metric("20k", "20 KB chat, 16 connections", "chat20k", 16, 0.5, 2.0),
        Metric("500k", "500 KB chat with a picture, 4 connections", "chat500k", 4, 0.5, 2.0),
        Metric("burst", "streams of 100 chunks sent at once, 16 connections", "stream", 16, 0.5, 2.0),
        Metric("paced", "100 streams of one chunk each 20 ms", "paced", 100, 0.8, 4.0, warm_s=0.3, stagger_ms=20),
    )
}


class Load(Struct, frozen=True):
    """What `load` prints. Latencies are of whole answers; `first_` to the first byte of a body; `delay_` of chunks."""

    connections: int
    seconds: float
    ok: int
    failed: int
    bad_status: int
    reopened: int
    per_s: float
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    first_p50_us: float
    first_p99_us: float
    chunks_per_s: float
    delay_p50_us: float
    delay_p99_us: float


class Sample(Struct, frozen=True):
    """One window. Shares are of the server's core: `cpu_share` the server's own, `others_share` what else ran there."""

    load: Load
    cpu_share: float = 0.0
    others_share: float = 0.0

    @property
    def cpu_us(self) -> float:
        """CPU time of the server per request, or per chunk where the answers are streams; 0.0 when nothing came."""
        per_s = self.load.chunks_per_s or self.load.per_s
        return self.cpu_share / per_s * 1e6 if per_s else 0.0


class Memory(Struct, frozen=True):
    """Sums over a process tree, in MB of 10**6 bytes. `pss_mb` counts a page shared by n processes as 1/n."""

    rss_mb: float
    pss_mb: float


class Door(Struct, frozen=True, kw_only=True):
    """Where and how a server is asked. `dialect` is that of the bodies, and gives the path where none is named."""

    port: int
    dialect: str = OPENAI
    path: str = ""
    headers: tuple[str, ...] = ()
    model: str = "up-model"

    def __post_init__(self) -> None:
        structs.force_setattr(self, "path", self.path or PATHS[self.dialect])


def cpu_s(pid: int) -> float:
    """CPU seconds used so far by a process tree (nanosecond counters of its threads: short windows stay exact)."""
    total_ns = 0
    for one in tree(pid):
        for thread in Path(f"/proc/{one}/task").glob("*/schedstat"):
            with suppress(OSError):
                total_ns += int(thread.read_text().split()[0])
    return total_ns / 1e9


def core_busy_s(core: int) -> float:
    """Seconds for which a core was not idle since boot, time stolen by the host included."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            ticks = [int(f) for f in fields[:8]]
            return (sum(ticks) - ticks[3] - ticks[4]) / TICKS_PER_S
    raise Failed(f"this machine has no core {core}: the benchmark needs two")


def memory(pid: int) -> Memory:
    rss_kib = pss_kib = 0
    for one in tree(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:]:
                name, value = line.split()[:2]
                rss_kib += int(value) if name == "Rss:" else 0
                pss_kib += int(value) if name == "Pss:" else 0
    return Memory(round(rss_kib * 1024 / 1e6, 1), round(pss_kib * 1024 / 1e6, 1))


def load_command(load: Path, door: Door, body: Path, connections: int, *options: str) -> list[str]:
    """The command line of the load generator on its core."""
    headers = [word for header in door.headers for word in ("-H", header)]
    where = ["-p", str(door.port), "-u", door.path, "-b", str(body), "-c", str(connections)]
    return ["taskset", "--cpu-list", str(LOAD_CORE), str(load), *where, *headers, *options]


def window(command: list[str], pid: int | None) -> Sample:
    """Runs the load generator once and reads the accounts of `pid` as it says that its window begins and ends."""
    marks = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for word in ("begin", "end"):
            if process.stdout.readline().strip() != word:
                raise Failed(f"the load generator did not say {word!r}: {' '.join(command)}")
            marks.append((time.monotonic(), cpu_s(pid) if pid else 0.0, core_busy_s(SERVER_CORE)))
        load = msgspec.json.decode(process.stdout.read(), type=Load)
    (t0, cpu0, busy0), (t1, cpu1, busy1) = marks
    took_s, used_s = t1 - t0, cpu1 - cpu0
    return Sample(load, round(used_s / took_s, 4), round(max(0.0, busy1 - busy0 - used_s) / took_s, 3))


def measure(load: Path, door: Door, metric: Metric, body: Path, pid: int | None, *, full: bool) -> Sample:
    seconds = metric.full_seconds if full else metric.seconds
    timing = ["-w", str(metric.warm_s), "-d", str(seconds), "-s", str(metric.stagger_ms)]
    return window(load_command(load, door, body, metric.connections, *timing), pid)
