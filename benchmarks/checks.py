"""What lilliput itself weighs: memory under load, a refused body, import and start times, dependencies."""

from __future__ import annotations

import importlib.metadata
import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

from packaging.requirements import Requirement

from benchmarks.measure import Door, load_command, memory, window
from benchmarks.prepare import HERE, Setting, body_path
from benchmarks.processes import LOAD_CORE, Failed, running, wait_for_port
from benchmarks.report import Check, number
from benchmarks.run import Up, bring_up
from benchmarks.targets import OURS, ours

REQUESTS = 100_000
BIG_BYTES = 64 * 2**20
PIECE_BYTES = 64 * 1024
TIMES = 7
ENGINE = "xllamacpp"


def checks(setting: Setting, *, full: bool) -> list[Check]:
    found = [*import_times(), help_time(), distributions()]
    if full:
        found.append(fresh_install(setting.work / ".fresh"))
    target = next(t for t in OURS if t.name == "lilliput")
    with ExitStack() as stack:
        log = setting.work / "logs" / "mock.log"
        mock = stack.enter_context(running([setting.work / "bin/mock", str(setting.mock_port)], log, core=LOAD_CORE))
        wait_for_port(setting.mock_port, mock, log)
        try:
            up = bring_up(setting, target, stack)
        except Failed as why:
            return [*found, Check("lilliput starts", "no", "yes", False, str(why))]
        return [*found, *memory_under_load(setting, up), *refused_body(up)]


def memory_under_load(setting: Setting, up: Up) -> list[Check]:
    """RSS after half and after all of `REQUESTS` at 64 connections; a tenth of a MB is a page or two of noise."""
    body = body_path(setting.work, "chat", up.door)
    sizes_mb, failed = [], 0
    for _ in range(2):
        options = ("-w", "0", "-d", "60", "-n", str(REQUESTS // 2))
        sample = window(load_command(setting.work / "bin/load", up.door, body, 64, *options), up.pid)
        failed += sample.load.failed + (sample.load.ok < REQUESTS // 2)
        sizes_mb.append(memory(up.pid or 0).rss_mb)
    half, whole = sizes_mb
    return [
        Check(f"RSS after {REQUESTS:,} requests", f"{whole} MB", "<= 60 MB", whole <= 60 and not failed),
        Check("RSS growth over the second half", f"{whole - half:+.1f} MB", "<= 0.5 MB", whole - half <= 0.5),
    ]


def refused_body(up: Up) -> list[Check]:
    """What the server takes of 64 MiB sent under an unknown key: by a client that listens, and by one that does not."""
    polite = sent_until_answered(up.door)
    rude = read_of_flood(up.door, up.pid or 0)
    status, sent = polite
    return [
        Check("64 MiB under an unknown key: answer", str(status), "401", status == 401),
        Check("sent before the answer, in pieces", f"{sent / 2**20:.2f} MiB", "< 1 MiB", sent < 2**20),
        Check("read of a client that just sends", f"{rude / 2**20:.2f} MiB", "< 1 MiB", rude < 2**20),
    ]


def big_request(door: Door) -> bytes:
    key = "Authorization: Bearer lil_this-key-is-not-known"
    lines = [f"POST {door.path} HTTP/1.1", f"Host: 127.0.0.1:{door.port}", key, "Content-Type: application/json"]
    return ("\r\n".join([*lines, f"Content-Length: {BIG_BYTES}"]) + "\r\n\r\n").encode()


def sent_until_answered(door: Door) -> tuple[int, int]:
    """Sends the body piece by piece, listening 50 ms before each: the status and the body bytes sent before it came."""
    with socket.create_connection(("127.0.0.1", door.port), 5) as link:
        link.sendall(big_request(door))
        sent = 0
        link.settimeout(0.05)
        while sent < BIG_BYTES // 16:  # bounded: 64 pieces are 3 s of silence
            with suppress(TimeoutError):
                answer = link.recv(4096)
                return int(answer[9:12]) if answer else 0, sent
            with suppress(OSError):
                link.sendall(b"x" * PIECE_BYTES)
            sent += PIECE_BYTES
    return 0, sent


def read_of_flood(door: Door, pid: int) -> int:
    """Bytes that the server's read calls took while a client sent as fast as it could, deaf to any answer."""
    before = bytes_read(pid)
    with socket.create_connection(("127.0.0.1", door.port), 5) as link, suppress(OSError):
        link.sendall(big_request(door))
        sent, end = 0, time.monotonic() + 5
        while sent < BIG_BYTES and time.monotonic() < end:
            sent += link.send(b"x" * PIECE_BYTES)
    time.sleep(0.2)  # the server's last read of it
    return bytes_read(pid) - before


def bytes_read(pid: int) -> int:
    """What the process has read so far; uvloop reads its sockets by read(2), which the kernel counts here."""
    return int(Path(f"/proc/{pid}/io").read_text().split("rchar:")[1].split()[0])


def import_ms(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return 1e3 * median(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(TIMES))


def import_times() -> list[Check]:
    """Of the package, which imports nothing, and of the whole gateway as an app, which has no goal of its own."""
    package_ms, app_ms = import_ms("lilliput"), import_ms("lilliput.asgi")
    return [
        Check("import lilliput", f"{number(package_ms)} ms", "< 150 ms", package_ms < 150),
        Check("import lilliput.asgi", f"{number(app_ms)} ms"),
    ]


def help_time() -> Check:
    took_ms = []
    for _ in range(TIMES):
        begun = time.monotonic()
        subprocess.run([ours("lilliput"), "--help"], stdout=subprocess.DEVNULL, check=True)
        took_ms.append(1e3 * (time.monotonic() - begun))
    return Check("lilliput --help", f"{number(median(took_ms))} ms", "< 250 ms", median(took_ms) < 250)


def needed(name: str, seen: set[str], without: str) -> set[str]:
    """The distributions that `name` needs here, all the way down; `without` and what only it needs are left out."""
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        wanted = requirement.name.lower().replace("_", "-")
        if wanted in seen or wanted == without:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(wanted, seen | {wanted}, without)
            seen.add(wanted)
            needed(wanted, seen, without)
    return seen


def distributions() -> Check:
    found = needed("lilliput", set(), ENGINE)
    note = "" if len(found) <= 15 else ", ".join(sorted(found))
    return Check("distributions beside the engine", str(len(found)), "<= 15", len(found) <= 15, note)


def fresh_install(folder: Path) -> Check:
    """Installs the product alone into a new virtual environment and counts what came."""
    steps: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", "--clear", folder],
        [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", HERE.parent],
    ]
    for step in steps:
        subprocess.run(step, check=True)
    listed = subprocess.check_output([folder / "bin/pip", "list", "--format", "json", "--disable-pip-version-check"])
    names = {row["name"].lower() for row in json.loads(listed)} - {"pip", "setuptools", "lilliput", ENGINE}
    return Check("distributions of a fresh install, beside the engine", str(len(names)), "<= 15", len(names) <= 15)
