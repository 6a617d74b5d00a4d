"""Providers that refuse, die, flap and come back behind a real gateway: what reaches them, what its callers see.

    python -m benchmarks.storm [--quick] [--json FILE] [--only WORD]

Every row is a gateway of its own with three deployments behind the route `r`. A storm has 64 callers who ask again at
once; all others pause, so that a delay is the gateway's and not a queue's. Delays are differences to a stretch without
the fault in the same run. Exits with 1 when a goal (see `goals`) is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import uvloop
from msgspec import Struct, structs
from tests.live import Live
from tests.replicas.caller import Caller
from tests.replicas.upstream import ENV, Act, Upstream, good, provider, refusing, silent

CALLERS, PAUSE_S = 64, 0.1
NAMES = ("a", "b", "c")
SILENCE_S = 1.0
"""How long the gateway waits for a first byte here; its default, 120 s, would outlast the run."""
FLAP_S, CALM_S = 2.0, 3.0
COOLDOWN_S, LONGEST_COOLDOWN_S = 5.0, 60.0
"""A breaker's first cooldown; each probe that fails doubles it: it is never longer than the outage and this."""
AMPLIFICATION, FREE_CALLS, SUCCESS, ADDED_MS = 1.2, 3, 0.999, 5.0


class Fault(Struct, frozen=True):
    """What happens to deployment `a`, or to all of them. `act` None refuses connections; `flaps` comes and goes."""

    name: str
    model: str
    act: Act | None
    everywhere: bool
    status: int = 0
    """What every caller is told while it lasts; 0 is success."""
    flaps: bool = False
    asked_s: float = 0.0
    """The Retry-After that came with it."""

    @property
    def is_storm(self) -> bool:
        return self.everywhere and self.act is not None


def storms() -> list[Fault]:
    kinds: list[tuple[str, int, str, float]] = [
        ("429", 429, "", 1.0),
        ("429, Retry-After 1", 429, "retry-after: 1\r\n", 1.0),
        ("503", 503, "", 0.0),
    ]
    return [
        Fault(f"all {name}, {where}", model, refusing(status, lines), True, status, asked_s=asked_s)
        for name, status, lines, asked_s in kinds
        for where, model in (("one model", "a/m"), ("a route of 3", "r"))
    ]


FAULTS = (
    *storms(),
    Fault("1 of 3 refuses connections", "r", None, False),
    Fault("1 of 3 answers 500", "r", refusing(500), False),
    Fault("1 of 3 is a black hole", "r", silent, False),
    Fault("all 3 dead, then back", "r", None, True, 503),
    Fault("1 of 3 flaps, 2 s each", "r", refusing(500), False, flaps=True),
)


class Call(Struct):
    began: float
    ended: float
    status: int


class Row(Struct):
    """One fault, by what began while it lasted; `recovery_s` is from its end to the last thing that was wrong."""

    name: str
    requests: int
    success: float
    statuses: dict[int, int]
    upstream_calls: int
    amplification: float
    added_p50_ms: float | None
    recovery_s: float
    missed: list[str]


class Load:
    """Callers who ask for `model` until they are told to stop; every answer is noted."""

    def __init__(self, live: Live, model: str, pause_s: float) -> None:
        self.calls: list[Call] = []
        self.is_over = False
        self._live, self._model, self._pause_s = live, model, pause_s
        self._tasks = [asyncio.create_task(self._one(n)) for n in range(CALLERS)]

    async def _one(self, number: int) -> None:
        dice, seat = random.Random(number), Caller(self._live.base, self._live.key)
        await asyncio.sleep(dice.random() * self._pause_s)
        while not self.is_over:
            began = time.monotonic()
            answer = await seat.ask(self._model, str(number))
            self.calls.append(Call(began, time.monotonic(), answer.status))
            await asyncio.sleep(self._pause_s * (0.5 + dice.random()))
        seat.close()

    async def stop(self) -> None:
        self.is_over = True
        await asyncio.gather(*self._tasks)

    def between(self, began: float, ended: float) -> list[Call]:
        return [c for c in self.calls if began <= c.began < ended]


async def play(fault: Fault, fault_s: float) -> Row:
    """One gateway, one fault: a calm stretch (not before a storm: no retries are saved up), the fault, the recovery."""
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(Upstream()) for _ in NAMES]
        live = Live(config(ups), env=ENV)
        await asyncio.to_thread(live.__enter__)
        stack.push_async_callback(asyncio.to_thread, live.__exit__, None, None, None)
        hit = ups if fault.everywhere else ups[:1]
        if fault.is_storm:
            await _break(hit, fault)
        load = Load(live, fault.model, 0.0 if fault.is_storm else PAUSE_S)
        began = time.monotonic()
        if not fault.is_storm:
            await asyncio.sleep(max(2.0, fault_s / 4))
        broken, before = time.monotonic(), sum(up.calls for up in ups)
        if not fault.is_storm:
            await _break(hit, fault)
        await (_flap(hit, fault, fault_s) if fault.flaps else asyncio.sleep(fault_s))
        calls = sum(up.calls for up in ups) - before
        healed, asked = time.monotonic(), [up.calls for up in ups]
        await _heal(hit, fault)
        used = hit if fault.model == "r" else hit[:1]
        recovery_s = await _recovered(load, used, asked, healed)
        await load.stop()
    during, calm = load.between(broken, healed), load.between(began, broken)
    ok = sum(c.status == 200 for c in during) / max(1, len(during))
    added_ms = None
    if calm and not fault.status:
        added_ms = (_p50_s(during) - _p50_s(calm)) * 1000
    row = Row(
        fault.name,
        len(during),
        ok,
        dict(Counter(c.status for c in during)),
        calls,
        calls / max(1, len(during)),
        added_ms,
        recovery_s,
        [],
    )
    return structs.replace(row, missed=goals(fault, row, fault_s, len(calm) + len(during), sum(asked)))


def goals(fault: Fault, row: Row, fault_s: float, requests: int, calls: int) -> list[str]:
    """What was promised and this row misses. The retry budget holds from the start to the fault's end, as `calls` and
    `requests` are counted, the rest while it lasts. A breaker lets calls by again after its cooldown, which is no
    longer than the outage, flaps included, and 5 s."""
    missed = []
    if calls > AMPLIFICATION * requests + FREE_CALLS:
        missed.append(f"{calls} upstream calls for {requests} requests, over {AMPLIFICATION} x + {FREE_CALLS}")
    if fault.status:
        odd = {s: n for s, n in row.statuses.items() if s not in (fault.status, 502, 200)}
        if odd:
            missed.append(f"callers were told {odd}")
    elif row.success < SUCCESS:
        missed.append(f"success {row.success:.3%}, under {SUCCESS:.1%}")
    if row.added_p50_ms is not None and row.added_p50_ms >= ADDED_MS:
        missed.append(f"p50 {row.added_p50_ms:+.1f} ms, not under {ADDED_MS:g}")
    most_s = most_recovery_s(fault, fault_s)
    if row.recovery_s > most_s:
        missed.append(f"recovery {row.recovery_s:.1f} s, over {most_s:g}")
    return missed


def most_recovery_s(fault: Fault, fault_s: float) -> float:
    """One second where no breaker stands between, or after the Retry-After; else the cooldown that may be in force."""
    if fault.model != "r":
        return 1.0
    if fault.asked_s:
        return 1.0 + fault.asked_s
    return 1.0 + min(LONGEST_COOLDOWN_S, COOLDOWN_S + fault_s)


def config(ups: list[Upstream]) -> str:
    deployments = ", ".join(f'{{ model = "{name}/m" }}' for name in NAMES)
    server = f"[server]\nfirst_byte_timeout_s = {SILENCE_S}\nconnect_timeout_s = {SILENCE_S}\n"
    return f"{server}[routes.r]\ndeployments = [{deployments}]\n" + "".join(map(provider, NAMES, ups))


async def _break(hit: list[Upstream], fault: Fault) -> None:
    for up in hit:
        if fault.act is None:
            await up.shut()
        else:
            up.act = fault.act


async def _heal(hit: list[Upstream], fault: Fault) -> None:
    for up in hit:
        up.act = good
        if fault.act is None:
            await up.open()


async def _flap(hit: list[Upstream], fault: Fault, for_s: float) -> None:
    is_broken = True
    for _ in range(round(for_s / FLAP_S)):
        await asyncio.sleep(FLAP_S)
        is_broken = not is_broken
        await (_break if is_broken else _heal)(hit, fault)


async def _recovered(load: Load, used: list[Upstream], asked: list[int], healed: float) -> float:
    """Seconds from `healed` until each of `used` was asked again, beyond what it was `asked`, and nobody was refused
    for `CALM_S` after."""
    back: dict[int, float] = {}
    most_s = LONGEST_COOLDOWN_S + COOLDOWN_S + CALM_S
    while True:
        now = time.monotonic()
        for i, up in enumerate(used):
            if up.calls > asked[i]:
                back.setdefault(i, now)
        wrong = [c.ended for c in load.calls if c.status != 200 and c.began >= healed]
        last = max([healed, *back.values(), *wrong])
        if (len(back) == len(used) and now - last >= CALM_S) or now - healed > most_s:
            return last - healed if len(back) == len(used) else now - healed
        await asyncio.sleep(0.05)


def _p50_s(calls: list[Call]) -> float:
    return median(c.ended - c.began for c in calls if c.status == 200)


HEAD = ("fault", "requests", "success", "answers", "amplification", "added p50", "recovery", "goals")


def cells(row: Row) -> tuple[str, ...]:
    told = ", ".join(f"{n} x {s or 'none'}" for s, n in sorted(row.statuses.items()))
    added = "-" if row.added_p50_ms is None else f"{row.added_p50_ms:+.1f} ms"
    missed = "; ".join(row.missed) or "met"
    calls = f"{row.amplification:.3f}" if row.upstream_calls else "none came"
    shown = (f"{row.requests:,}", f"{row.success:.2%}", told, calls, added)
    return (row.name, *shown, f"{row.recovery_s:.1f} s", missed)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table as the documentation has it."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *rows))


def write(file: Path | None, rows: list[Row]) -> None:
    if file is not None:
        file.write_text(json.dumps([structs.asdict(row) for row in rows], indent=1) + "\n")


async def storm(faults: list[Fault], fault_s: float) -> list[Row]:
    rows = []
    print(table(HEAD, []), flush=True)
    for fault in faults:
        row = await play(fault, fault_s)
        rows.append(row)
        print("| " + " | ".join(cells(row)) + " |", flush=True)
    return rows


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="each fault lasts 10 s, not 60")
    parser.add_argument("--seconds", type=float, help="how long each fault lasts")
    parser.add_argument("--only", default="", metavar="WORD", help="the faults with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    asked = parser.parse_args(words)
    faults = [f for f in FAULTS if asked.only in f.name]
    if not faults:
        parser.error(f"no fault has {asked.only!r} in its name: {', '.join(f.name for f in FAULTS)}")
    rows = uvloop.run(storm(faults, asked.seconds or (10.0 if asked.quick else 60.0)))
    write(asked.json, rows)
    return int(any(row.missed for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
