"""`python -m benchmarks`: arguments in, a table and a JSON file out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs

from benchmarks import checks, engine, peers, run, translation
from benchmarks.measure import METRICS
from benchmarks.prepare import WORK, Setting, build
from benchmarks.processes import LOAD_CORE, SERVER_CORE, Failed, free_port, machine_lock
from benchmarks.report import Result, against_peers, goals, render, this_machine
from benchmarks.targets import OURS, Target

PARTS = (*METRICS, "checks", "engine", "translation")
TARGETS = {t.name: t for t in (*OURS, *peers.ROWS)}


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures lilliput beside a bare call, nginx and, with --full, other gateways.",
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what to measure; see --list")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_true", help="short windows, no peers, under 3 minutes (the default)")
    form.add_argument("--full", action="store_true", help="long windows, every metric, every installed peer")
    parser.add_argument("--only", type=lambda s: s.split(","), default=[], metavar="PART,...", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, default=WORK / "result.json", metavar="FILE", help="where figures go")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of an earlier run and leave")
    parser.add_argument("--list", action="store_true", help="list targets and parts and leave")
    parser.add_argument("--check", action="store_true", help="start each target, see that it answers right, and leave")
    parser.add_argument("--install-peers", nargs="*", metavar="PEER", help="install the named peers, or all, and leave")
    chosen = parser.parse_args(words)
    for name, known in ((chosen.targets, TARGETS), (chosen.only, PARTS)):
        if unknown := [n for n in name if n not in known]:
            parser.error(f"{unknown[0]!r} is none of {', '.join(known)}")
    if chosen.rounds < 1:
        parser.error(f"--rounds {chosen.rounds}: at least one round is needed")
    return chosen


def chosen_targets(names: list[str], *, full: bool) -> list[Target]:
    """The named ones, else ours, and in the full form the peers; the baselines, `direct` and an nginx, come along."""
    wanted = (
        {*names, "direct", *(TARGETS[n].baseline for n in names)}
        if names
        else {t.name for t in TARGETS.values() if full or not t.peer}
    )
    return [t for t in TARGETS.values() if t.name in wanted]


def listing() -> str:
    targets = [f"  {t.name:<14} {t.about}{' (peer)' if t.peer else ''}" for t in TARGETS.values()]
    metrics = [f"  {m.name:<14} {m.about}" for m in METRICS.values()]
    rest = [
        "  checks         memory, refused bodies, import and start times",
        "  engine         the mini both ways",
        "  translation    a chunk from one dialect to another, in process",
    ]
    return "\n".join(["targets", *targets, "parts", *metrics, *rest])


def take_the_machine() -> None:
    """Puts this process, and so the load, on its core. Raises Failed where there is but one."""
    if LOAD_CORE == SERVER_CORE:
        raise Failed("two cores are needed: one for the load and the upstream, one for the gateway")
    os.sched_setaffinity(0, {LOAD_CORE})


def measure(chosen: argparse.Namespace) -> Result:
    begun, when = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    build(WORK)
    setting = Setting(WORK, free_port(), free_port())
    result = Result(when=when, machine=this_machine(), rounds=chosen.rounds, full=chosen.full, took_s=0)
    if not chosen.only or "engine" in chosen.only:  # before the cores are shared out: the engine uses both
        result.checks.extend(engine.compare(setting, chosen.rounds))
    take_the_machine()
    if not chosen.only or "translation" in chosen.only:
        result.checks.extend(translation.compare(setting, chosen.rounds))
    if not chosen.only or "checks" in chosen.only:
        result.checks.extend(checks.checks(setting, full=chosen.full))
    metrics = run.metrics_named(chosen.only)
    if metrics:
        targets = chosen_targets(chosen.targets, full=chosen.full)
        servers, records, left_out = run.measured(setting, targets, metrics, chosen.rounds, full=chosen.full)
        result = structs.replace(result, servers=servers, records=records, left_out=left_out)
        result = structs.replace(result, checks=[*goals(records), *against_peers(result), *result.checks])
    return structs.replace(result, took_s=round(time.monotonic() - begun, 1))


def check_all(chosen: argparse.Namespace) -> int:
    build(WORK)
    take_the_machine()
    setting = Setting(WORK, free_port(), free_port())
    targets = chosen_targets(chosen.targets, full=True)
    _, _, left_out = run.measured(setting, targets, [], 0, full=False)
    for name, why in left_out.items():
        print(f"{name} does not: {why}")
    return len(left_out)


def main(words: list[str]) -> int:
    """0 when everything asked for was measured, whether or not goals are met; 1 when something could not be."""
    chosen = arguments(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended on the way out
    if chosen.list:
        print(listing())
        return 0
    if chosen.show:
        print(render(msgspec.json.decode(chosen.show.read_bytes(), type=Result)))
        return 0
    try:
        if chosen.install_peers is not None:
            return peers.install(chosen.install_peers)
        with machine_lock():
            if chosen.check:
                return check_all(chosen)
            result = measure(chosen)
    except Failed as why:
        print(f"benchmark failed: {why}", file=sys.stderr)
        return 1
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    print(f"\n{render(result)}\n\nall figures: {chosen.json}")
    return 1 if result.left_out and not chosen.full else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
