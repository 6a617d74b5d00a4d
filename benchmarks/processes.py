"""Child processes: started on a core, watched until they answer, ended whatever happens. Linux only.

What is measured of them is in `measure`; which ones there are in `targets` and `peers`.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))  # those this process was given, before it moves to the load's
LOAD_CORE, SERVER_CORE = CORES[0], CORES[-1]
STOP_S = 8.0


class Failed(Exception):
    """Something the benchmark needs did not work; the text says what, and where its log is."""


def start(
    command: Sequence[str | Path], log: Path, *, core: int | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A process in a group of its own, on `core` if one is named, which ends with this one; its output goes to `log`.

    `env` is laid over this process's environment.
    """
    words = ["setpriv", "--pdeathsig", "TERM"]
    if core is not None:
        words += ["taskset", "--cpu-list", str(core)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return subprocess.Popen(
            [*words, *map(str, command)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the whole group to end, and makes it after `STOP_S` seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pass
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, *, core: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = start(command, log, core=core, env=env)
    try:
        yield process
    finally:
        stop(process)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, within_s: float = 60) -> None:
    """Returns once something listens on `port`; raises Failed when `process` ended or time is up first."""
    end = time.monotonic() + within_s
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.005)
    raise Failed(f"nothing listens on port {port}: {tail(log)}")


def wait_for_line(pattern: str, process: subprocess.Popen[bytes], log: Path, within_s: float = 60) -> str:
    """The first group of `pattern` where it shows in `log`."""
    end = time.monotonic() + within_s
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.01)
    raise Failed(f"{pattern!r} was never printed: {tail(log)}")


def tail(log: Path, lines: int = 8) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"{log} ends with\n" + "\n".join(text.splitlines()[-lines:])


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, now."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                left += map(int, children.read_text().split())
    return found


@contextmanager
def machine_lock() -> Iterator[None]:
    """One measurement at a time on a machine: waits until any other is over."""
    with (Path(tempfile.gettempdir()) / "gateway-bench.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another benchmark runs on this machine; waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
