"""A run as a table for people and as JSON for everything else; the goals of the data plane, met or not."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct, field

from benchmarks import figures
from benchmarks.figures import Figure, Record
from benchmarks.measure import METRICS, Memory


class Machine(Struct, frozen=True):
    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    python: str


class Server(Struct, frozen=True, kw_only=True):
    """A target as it ran; ratios are to `baseline`. `start_s` runs from its start to its first right answer; memory is
    before and after."""

    name: str
    about: str
    baseline: str = "nginx"
    version: str = ""
    peer: bool = False
    start_s: float | None = None
    idle: Memory | None = None
    after: Memory | None = None


class Check(Struct, frozen=True):
    """One goal. `met` is None where there is none, or nothing to judge by; `note` is what has no place in a table."""

    what: str
    measured: str
    goal: str = ""
    met: bool | None = None
    note: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """A whole run, as it is written to a file. `when` is UTC; `left_out` says why a target has no row."""

    when: str
    machine: Machine
    rounds: int
    full: bool
    took_s: float
    servers: list[Server] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def this_machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return Machine(cpu, os.cpu_count() or 1, round(size, 1), platform.release(), platform.python_version())


def number(value: float) -> str:
    """Two or three digits that mean something, no more."""
    if abs(value) < 0.1:
        return f"{value:.2g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(f: Figure | None, *, spread: bool = False) -> str:
    if f is None:
        return "-"
    return f"{number(f.median)} [{number(f.low)}-{number(f.high)}]" if spread and f.rounds > 1 else number(f.median)


def pair(first: Figure | None, second: Figure | None) -> str:
    return "-" if first is None and second is None else f"{cell(first)}/{cell(second)}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, padded so that it reads in a terminal too; the first column is words, the others figures."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]

    def text(line: list[str]) -> str:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    return "\n".join(text(line) for line in (head, rule, *lines[1:]))


def main_table(result: Result) -> str:
    head = ["", "req/s, one core", "CPU us/req", "of nginx"]
    head += [f"added p50/p99 us, c{c}" for c in (1, 16, 64)]
    head += ["CPU us/chunk", "delay p50/p99 us", "RSS MB idle/after", "start s"]
    return table(head, (main_row(result.records, s) for s in result.servers))


def main_row(records: list[Record], server: Server) -> list[str]:
    name = server.name
    latencies = [
        pair(figures.added(records, name, c, figures.p50_us), figures.added(records, name, c, figures.p99_us))
        for c in ("c1", "c16", "c64")
    ]
    delays = (figures.over_rounds(records, name, "paced", v) for v in (figures.delay_p50_us, figures.delay_p99_us))
    rss = f"{number(server.idle.rss_mb)}/{number(server.after.rss_mb)}" if server.idle and server.after else "-"
    return [
        name,
        cell(figures.over_rounds(records, name, "c64", figures.per_s), spread=True),
        cell(figures.over_rounds(records, name, "c64", figures.cpu_us)),
        cell(figures.ratio(records, server.baseline, name, "c64", figures.cpu_us), spread=True),
        *(["-"] * 3 if name == "direct" else latencies),
        cell(figures.over_rounds(records, name, "paced", figures.cpu_us)),
        pair(*delays),
        rss,
        f"{server.start_s:.2f}" if server.start_s is not None else "-",
    ]


def body_table(result: Result) -> str:
    """CPU time per request, per chunk for bursts, by size; behind it that of nginx divided by it."""
    kinds = {"c64": "1 KB", "20k": "20 KB", "500k": "500 KB", "burst": "burst, per chunk"}
    head = ["CPU us (of nginx)", *kinds.values(), "burst chunks/s"]
    rows = []
    for server in result.servers:
        cells = []
        for metric in kinds:
            own = figures.over_rounds(result.records, server.name, metric, figures.cpu_us)
            share = figures.ratio(result.records, server.baseline, server.name, metric, figures.cpu_us)
            cells.append(cell(own) + (f" ({number(share.median)})" if share else ""))
        burst = figures.over_rounds(result.records, server.name, "burst", figures.chunks_per_s)
        if server.name != "direct":
            rows.append([server.name, *cells, cell(burst)])
    return table(head, rows)


CROSSED = (("openai-anthropic", "nginx-anthropic"), ("anthropic-openai", "nginx"))
"""The cross-dialect targets, each with the nginx that passes the same upstream traffic."""


def goals(records: list[Record], name: str = "lilliput") -> list[Check]:
    """The data plane's goals against nginx in the same run."""
    cpu_us = figures.cpu_us
    own = figures.ratio(records, "nginx", name, "c64", cpu_us)
    added = figures.added_ratio(records, name, "nginx", "c1", figures.p50_us)
    chunk = figures.ratio(records, name, "nginx", "paced", cpu_us)
    rows = [
        (f"CPU time per request at c64, nginx / {name}", own, 0.5),
        (f"added p50 at c1, {name} / nginx", added, -1.6),
        (f"CPU time per paced chunk, {name} / nginx", chunk, -1.7),
    ]
    for crossed, base in CROSSED:
        own = figures.ratio(records, base, crossed, "c64", cpu_us)
        chunk = figures.ratio(records, crossed, base, "paced", cpu_us)
        rows.append((f"CPU time per request at c64, {base} / {crossed}", own, 0.25))
        rows.append((f"CPU time per paced chunk, {crossed} / {base}", chunk, -2.2))
    checks = []
    for what, f, bound in rows:  # a negative bound is an upper one
        if f is not None:
            met = f.median >= bound if bound > 0 else f.median <= -bound
            checks.append(Check(what, cell(f, spread=True), f"{'>=' if bound > 0 else '<='} {abs(bound)}", met))
    return checks


def against_peers(result: Result, name: str = "lilliput") -> list[Check]:
    """One line a peer: on how many figures lilliput is ahead of it, and which it is not."""
    ours = next((s for s in result.servers if s.name == name), None)
    peers = [s for s in result.servers if s.peer]
    return [check for p in peers if ours and (check := against_peer(result.records, ours, p))]


def against_peer(records: list[Record], ours: Server, peer: Server) -> Check | None:
    ahead, behind = 0, []
    for what, f, more_is_better in compared(records):
        mine, its = f(ours.name), f(peer.name)
        if mine is None or its is None:
            continue
        if (mine.median > its.median) == more_is_better:
            ahead += 1
        else:
            behind.append(f"{what} {cell(mine)} to {cell(its)}")
    if ours.after and peer.after:
        if ours.after.rss_mb < peer.after.rss_mb:
            ahead += 1
        else:
            behind.append(f"memory {ours.after.rss_mb} to {peer.after.rss_mb} MB")
    if not ahead and not behind:
        return None
    note = f"not ahead on {', '.join(behind)}" if behind else ""
    return Check(f"ahead of {peer.name}", f"{ahead} of {ahead + len(behind)}", "all", not behind, note)


def compared(records: list[Record]) -> Iterable[tuple[str, Callable[[str], Figure | None], bool]]:
    yield "req/s at c64", lambda n: figures.over_rounds(records, n, "c64", figures.per_s), True
    for c in ("c1", "c16", "c64"):
        yield f"added p50 at {c}", lambda n, c=c: figures.added(records, n, c, figures.p50_us), False  # type: ignore[misc]
        yield f"added p99 at {c}", lambda n, c=c: figures.added(records, n, c, figures.p99_us), False  # type: ignore[misc]
    yield "CPU per chunk", lambda n: figures.over_rounds(records, n, "paced", figures.cpu_us), False


def troubles(result: Result) -> list[str]:
    """What a reader must know before quoting: notes, targets left out, failed requests, a shared core."""
    said = [f"{check.what}: {check.note}" for check in result.checks if check.note]
    said += [f"{name} left out: {why}" for name, why in result.left_out.items()]
    for server in result.servers:
        for metric in METRICS:
            own = [r.sample.load for r in result.records if (r.target, r.metric) == (server.name, metric)]
            if failed := sum(load.failed for load in own):
                status = next(load.bad_status for load in own if load.failed)
                said.append(f"{server.name} {metric}: {failed} requests failed" + (f" ({status})" if status else ""))
    shared = sum(r.sample.others_share > 0.1 for r in result.records)
    if shared:
        said.append(f"in {shared} of {len(result.records)} windows something else took over 10 % of the server's core")
    return said


def render(result: Result) -> str:
    m = result.machine
    form = "full" if result.full else "quick"
    versions = ", ".join(f"{s.name} {s.version}" for s in result.servers if s.version)
    parts = [
        f"{result.when}, {m.cpu}, {m.cores} cores, {m.memory_gb:.0f} GB, Linux {m.kernel}, Python {m.python}; "
        f"{form} form, median of {result.rounds} rounds, {result.took_s:.0f} s",
    ]
    if result.servers:
        parts += [versions, main_table(result), body_table(result)]
        parts += [
            "of nginx: CPU time per request of the nginx that passes the same upstream traffic, divided by the row's, "
            "in the same round. c16: 16 connections."
        ]
    if result.checks:
        verdict = {True: "yes", False: "NO", None: ""}
        rows = [[c.what, c.measured, c.goal, verdict[c.met]] for c in result.checks]
        parts.append(table(["goal", "measured", "wanted", "met"], rows))
    if said := troubles(result):
        parts.append("\n".join(f"- {line}" for line in said))
    return "\n\n".join(parts)
