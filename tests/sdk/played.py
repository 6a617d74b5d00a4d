"""Recorded answers played by the recordings' own server, in a process of its own."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live import free_port

START_S = 30.0


@contextmanager
def replaying(folder: Path, providers: Iterable[str]) -> Iterator[str]:
    """The address of a server that plays what is recorded of these providers, until the block ends."""
    port = free_port()
    command = [sys.executable, "-B", str(folder / "replay.py"), "--port", str(port)]
    files = [str(folder / f"{provider}.json.gz") for provider in providers]
    process = subprocess.Popen(command + files, stdout=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(replay: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert replay.poll() is None, f"the replay server ended with {replay.returncode}"
        ask = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            ask.request("GET", "/__interaction/none")
            ask.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
        finally:
            ask.close()
    raise AssertionError(f"the replay server does not answer within {START_S:g} s")
