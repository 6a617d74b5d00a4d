"""The rounds: starts every target once, measures each metric on one after the other, ends them all.

Neighbours in time are what is compared: within a round a metric visits all targets before the next metric begins, in
an order that turns with each round, so that no target always runs first.
"""

from __future__ import annotations

import http.client
import time
from contextlib import ExitStack

from msgspec import Struct, structs

from benchmarks.figures import Record
from benchmarks.measure import ANTHROPIC, METRICS, Door, Metric, load_command, measure, memory, window
from benchmarks.prepare import Setting, body_path, write_bodies
from benchmarks.processes import LOAD_CORE, SERVER_CORE, Failed, running, tail, wait_for_line, wait_for_port
from benchmarks.report import Server
from benchmarks.targets import Plan, Target

START_S = 90.0


class Up(Struct, frozen=True):
    """A target that runs and has answered right."""

    target: Target
    door: Door
    pid: int | None
    start_s: float | None


def ask(door: Door, body: bytes, timeout_s: float = 20) -> tuple[int, bytes]:
    """One request, outside of any measurement."""
    link = http.client.HTTPConnection("127.0.0.1", door.port, timeout=timeout_s)
    try:
        headers = dict(header.split(": ", 1) for header in door.headers)
        link.request("POST", door.path, body, {"Content-Type": "application/json", **headers})
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def check(setting: Setting, target: Target, door: Door) -> None:
    """Raises Failed unless both forms of answer come through whole."""
    counts = b'"output_tokens":' if door.dialect == ANTHROPIC else b'"completion_tokens":'
    status, whole = ask(door, body_path(setting.work, "chat", door).read_bytes())
    if status != 200 or b"reminder for Thursday" not in whole or counts not in whole:
        raise Failed(f"{target.name} answers a chat with {status} {whole[:300]!r}")
    status, stream = ask(door, body_path(setting.work, "stream", door).read_bytes())
    if status != 200 or stream.count(b"@0000") != 100 or counts not in stream:
        raise Failed(
            f"{target.name} answers a stream with {status}, {stream.count(b'@0000')} chunks, {stream[-300:]!r}"
        )


def wait_for_answer(setting: Setting, door: Door, alive: object) -> None:
    """Returns at the first 200; raises Failed with the last thing heard once `START_S` are over or the server ended."""
    body, heard = body_path(setting.work, "chat", door).read_bytes(), "nothing"
    end = time.monotonic() + START_S
    while time.monotonic() < end and getattr(alive, "poll", lambda: None)() is None:
        try:
            status, said = ask(door, body, 5)
            if status == 200:
                return
            heard = f"{status} {said[:300]!r}"
        except (OSError, http.client.HTTPException) as why:
            heard = repr(why)
        time.sleep(0.01)
    raise Failed(f"no answer from port {door.port}, last heard: {heard}")


def bring_up(setting: Setting, target: Target, stack: ExitStack) -> Up:
    """Starts a target and waits for its first right answers; what was started is ended with `stack`."""
    plan: Plan = target.plan(setting)
    write_bodies(setting.work, plan.door)
    if plan.before:
        log = setting.work / "logs" / f"{target.name}-before.log"
        front = stack.enter_context(running(plan.before, log, core=LOAD_CORE))
        wait_for_port(plan.before_port, front, log)
    door, pid, start_s = plan.door, None, None
    if plan.command:
        log = setting.work / "logs" / f"{target.name}.log"
        begun = time.monotonic()
        process = stack.enter_context(running(plan.command, log, core=SERVER_CORE, env=plan.env))
        if plan.port_line:
            door = structs.replace(door, port=int(wait_for_line(plan.port_line, process, log)))
        try:
            wait_for_answer(setting, door, process)
        except Failed as why:
            raise Failed(f"{why}; {tail(log)}") from None
        pid, start_s = process.pid, round(time.monotonic() - begun, 2)
    check(setting, target, door)
    return Up(target, door, pid, start_s)


def warm(setting: Setting, up: Up) -> None:
    """Mixed load, unmeasured, for the target's `warm_s`."""
    for kind, connections, share in (("chat", 16, 0.6), ("stream", 8, 0.4)):
        body, timing = body_path(setting.work, kind, up.door), f"{up.target.warm_s * share:.2f}"
        window(load_command(setting.work / "bin/load", up.door, body, connections, "-w", "0", "-d", timing), None)


def all_up(
    setting: Setting, targets: list[Target], stack: ExitStack
) -> tuple[dict[str, Up], list[Server], dict[str, str]]:
    """Starts the mock and the targets, one after the other, and warms each; the last part says why one is left out."""
    log = setting.work / "logs" / "mock.log"
    mock = stack.enter_context(running([setting.work / "bin/mock", str(setting.mock_port)], log, core=LOAD_CORE))
    wait_for_port(setting.mock_port, mock, log)
    ups: dict[str, Up] = {}
    servers: list[Server] = []
    left_out: dict[str, str] = {}
    for target in targets:
        with ExitStack() as own:
            try:
                up = bring_up(setting, target, own)
            except Failed as why:
                left_out[target.name] = str(why)
                continue
            stack.push(own.pop_all())
        warm(setting, up)
        ups[target.name] = up
        idle = memory(up.pid) if up.pid else None
        version = target.version()
        print(f"{target.name} {version}".strip(), "answers", flush=True)
        servers.append(
            Server(
                name=target.name,
                about=target.about,
                baseline=target.baseline,
                version=version,
                peer=target.peer,
                start_s=up.start_s,
                idle=idle,
            )
        )
    return ups, servers, left_out


def measured(
    setting: Setting, targets: list[Target], metrics: list[Metric], rounds: int, *, full: bool
) -> tuple[list[Server], list[Record], dict[str, str]]:
    """Measures `targets` over all rounds; the last of the three says why one could not be. Prints a line a step."""
    records: list[Record] = []
    with ExitStack() as stack:
        ups, servers, left_out = all_up(setting, targets, stack)
        for turn in range(1, rounds + 1):
            begun = time.monotonic()
            records += one_round(setting, list(ups.values()), metrics, turn, full=full)
            print(f"round {turn} of {rounds}: {time.monotonic() - begun:.0f} s", flush=True)
        after = {name: memory(up.pid) for name, up in ups.items() if up.pid}
    return [structs.replace(s, after=after.get(s.name)) for s in servers], records, left_out


def one_round(setting: Setting, ups: list[Up], metrics: list[Metric], turn: int, *, full: bool) -> list[Record]:
    records = []
    for metric in metrics:
        asked = [up for up in ups if full or metric.name in up.target.quick]
        first = turn % len(asked) if asked else 0
        for up in asked[first:] + asked[:first]:
            body = body_path(setting.work, metric.body, up.door)
            sample = measure(setting.work / "bin/load", up.door, metric, body, up.pid, full=full)
            records.append(Record(turn, up.target.name, metric.name, sample))
    return records


def metrics_named(names: list[str]) -> list[Metric]:
    return [m for m in METRICS.values() if not names or m.name in names]
