"""`lilliput serve`: which addresses it refuses, and several workers behind one port."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.live import free_port

from lilliput.cli.serve import _may_bind
from lilliput.config import Server
from lilliput.neutral import Problem

ADDRESSES = [
    ("127.0.0.1", False, True),
    ("127.8.8.8", False, True),
    ("::1", False, True),
    ("localhost", False, True),
    ("0.0.0.0", False, False),
    ("::", False, False),
    ("10.0.0.7", False, False),
    ("example.org", False, False),
    ("0.0.0.0", True, True),
]


@pytest.mark.parametrize(("host", "behind_tls", "may"), ADDRESSES)
def test_an_address_that_others_reach_wants_tls_in_front(host: str, behind_tls: bool, may: bool) -> None:
    server = Server(host=host, behind_tls=behind_tls)
    if may:
        _may_bind(server)
    else:
        with pytest.raises(Problem, match="--behind-tls"):
            _may_bind(server)


def up(port: int) -> bool:
    ask = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        ask.request("GET", "/healthz")
        return ask.getresponse().status == 200
    except OSError:
        return False
    finally:
        ask.close()


@pytest.mark.slow
def test_workers_share_a_port_and_are_replaced(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "config.toml"
    config.write_text(f'[local.models]\n"smollm2-135m" = "{tmp_path}/none.gguf"\n')
    command = [sys.executable, "-m", "lilliput.cli.main", "serve", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "2"],
        env={**os.environ, "LILLIPUT_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        assert any(line == "ready\n" for line in lines)
        assert up(port)
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(pid) for pid in listed]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert any("another is started" in line for line in lines)
        until = time.monotonic() + 20
        while not up(port):
            assert time.monotonic() < until
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
