"""What a gateway still serves when three times as much is asked as it can do, and how soon it is well again.

    python -m benchmarks.overload [--rounds N] [--times 3] [--seconds 8] [--ledger]

A round: the peak by 64 callers in a closed loop; half of it in an open loop, for a yardstick; `--times` the peak in an
open loop over 2,048 connections, whose callers give up after a second and ask again at once when they are turned away;
then, at once, half the peak again, in windows of half a second, until all goes well. Goodput counts answers that came
within that second: per second, and per second of the gateway's CPU, which does not move with what else the machine
does. Load and mock share one core, the gateway has another. Read the ratios, not the rates.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct, structs

from benchmarks.measure import Door, cpu_s, load_command
from benchmarks.prepare import WORK, Setting, body_path, build, write_bodies
from benchmarks.processes import LOAD_CORE, SERVER_CORE, free_port, machine_lock, running, wait_for_port
from benchmarks.targets import lilliput_plan

CALLERS, CROWD = 64, 2048
PATIENCE_MS = 1000
WINDOW_S, LONGEST_S = 0.5, 10.0
WELL = 0.95
"""The share of what is asked that is answered in time where all goes well."""
METERED = "[ledger]\non = true\n[limits.key]\nrequests_per_minute = 1000000000\n"


class Load(Struct, frozen=True):
    """What `load` prints, as far as it is used here."""

    seconds: float
    ok: int
    failed: int
    shed: int
    given_up: int
    unsent: int
    per_s: float
    p99_us: float
    used_s: float = 0.0
    """CPU time of the gateway."""

    @property
    def asked(self) -> int:
        return self.ok + self.failed + self.given_up + self.unsent


class Round(Struct, frozen=True):
    peak: tuple[Load, Load]
    """Before and after."""
    calm: Load
    crowd: Load
    recovery_s: float | None
    """Seconds from the end of the crowd to the end of the first window from which on all went well; None for never."""

    @property
    def peak_per_s(self) -> float:
        return sum(load.per_s for load in self.peak) / 2

    @property
    def goodput(self) -> float:
        return self.crowd.per_s / self.peak_per_s

    @property
    def by_cpu(self) -> float:
        """The same, of answers per second of CPU time."""
        before, after = self.peak
        return (self.crowd.ok / self.crowd.used_s) / ((before.ok + after.ok) / (before.used_s + after.used_s))


def load(pid: int, door: Door, seconds: float, callers: int, *options: str) -> Load:
    """What callers of `door` saw in so many seconds, and what that cost the process `pid`."""
    body = body_path(WORK, "chat", door)
    command = load_command(WORK / "bin/load", door, body, callers, "-d", str(seconds), *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        used_s = [(process.stdout.readline(), cpu_s(pid))[1] for _ in ("begin", "end")]
        seen = msgspec.json.decode(process.stdout.read(), type=Load)
    return structs.replace(seen, used_s=used_s[1] - used_s[0])


def measured(pid: int, door: Door, times: float, seconds: float) -> Round:
    before = load(pid, door, seconds / 2, CALLERS, "-w", "0.5")
    rate = ("-r", str(before.per_s / 2), "-g", str(PATIENCE_MS))
    calm = load(pid, door, 2.0, CALLERS, "-w", "0.3", *rate)
    crowd = load(pid, door, seconds, CROWD, "-w", "1", "-r", str(before.per_s * times), "-g", str(PATIENCE_MS))
    began, well_at = time.monotonic(), None
    while time.monotonic() - began < LONGEST_S and (well_at is None or time.monotonic() - well_at < 2.0):
        window = load(pid, door, WINDOW_S, CALLERS, "-w", "0", *rate)
        is_well = window.ok >= WELL * window.asked and window.p99_us < max(4 * calm.p99_us, 100_000)
        well_at = (well_at or time.monotonic()) if is_well else None
    after = load(pid, door, seconds / 2, CALLERS, "-w", "0.5")
    return Round((before, after), calm, crowd, None if well_at is None else well_at - began)


def shown(number: int, r: Round) -> str:
    c = r.crowd
    return (
        f"{number:>5} {r.peak_per_s:>8.0f} {c.asked / c.seconds / r.peak_per_s:>7.2f}x {r.goodput:>8.0%} "
        f"{r.by_cpu:>6.0%} "
        f"{c.shed / c.asked:>6.0%} {c.given_up / c.asked:>8.0%} {c.unsent / c.asked:>7.0%} "
        f"{r.calm.p99_us / 1e3:>9.1f} {c.p99_us / 1e3:>9.1f} "
        + ("   never" if r.recovery_s is None else f"{r.recovery_s:>7.1f}s")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=float, default=3.0, help="what is asked, of the peak")
    parser.add_argument("--seconds", type=float, default=8.0, help="of overload in a round")
    parser.add_argument("--ledger", action="store_true", help="with the SQLite ledger and limits on")
    asked = parser.parse_args()
    build(WORK)
    setting = Setting(WORK, free_port(), free_port())
    plan = lilliput_plan(setting, "overload", setting.upstream)
    if asked.ledger:
        with Path(plan.env["LILLIPUT_CONFIG"]).open("a") as config:
            config.write(METERED)
    write_bodies(WORK, plan.door)
    mock, ours = WORK / "logs/overload-mock.log", WORK / "logs/overload.log"
    with (
        machine_lock(),
        running([WORK / "bin/mock", str(setting.mock_port)], mock, core=LOAD_CORE) as upstream,
        running(plan.command, ours, core=SERVER_CORE, env=plan.env) as gateway,
    ):
        wait_for_port(setting.mock_port, upstream, mock)
        wait_for_port(plan.door.port, gateway, ours)
        print(
            "round   peak/s  offered  goodput by CPU   shed given up  unsent  calm p99  ms   p99 recovery", flush=True
        )
        rounds = []
        for number in range(1, asked.rounds + 1):
            rounds.append(measured(gateway.pid, plan.door, asked.times, asked.seconds))
            print(shown(number, rounds[-1]), flush=True)
    recoveries = [r.recovery_s if r.recovery_s is not None else LONGEST_S for r in rounds]
    goodput, by_cpu = median(r.goodput for r in rounds), median(r.by_cpu for r in rounds)
    print(f"medians: goodput {goodput:.0%} of the peak, {by_cpu:.0%} by CPU; recovery {median(recoveries):.1f} s")


if __name__ == "__main__":
    main()
