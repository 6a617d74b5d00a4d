"""One gateway for all SDK tests: the built-in model, recorded providers, and one that the tests play themselves."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.kit import Interaction, Kit
from tests.conformance.need import recordings
from tests.live import Live, free_port
from tests.sdk.world import World

START_S = 30.0
PROVIDER = "openai"
WANTED = {
    "tools": ("chat", "tool_call", 200),
    "tools-stream": ("stream", "tool_call", 200),
    "refused": ("chat", "http_400", 400),
}
"""Row of the configuration -> the recording it plays: the first by id of this kind, tag and status, from PROVIDER."""


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    folder = recordings()
    kit = Kit(folder)
    picked = {row: _first(kit, *wish) for row, wish in WANTED.items()}
    replay_port, own_port = free_port(), free_port()
    rows = {row: f"http://127.0.0.1:{replay_port}/{PROVIDER}/{i['id']}/v1" for row, i in picked.items()}
    rows["own"] = f"http://127.0.0.1:{own_port}/v1"
    config = "".join(f'[providers.{row}]\nbase = "{base}"\nallow_private = true\n' for row, base in rows.items())
    replay = subprocess.Popen(
        [
            sys.executable,
            "-B",
            str(folder / "replay.py"),
            "--port",
            str(replay_port),
            str(folder / f"{PROVIDER}.json.gz"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(replay, replay_port)
        with Live(config, weights=True) as live:
            said = {row: kit.expect.response_facts(i) for row, i in picked.items()}
            yield World(live.v1, live.key, own_port, said)
    finally:
        replay.kill()
        replay.wait()


def _first(kit: Kit, kind: str, tag: str, status: int) -> Interaction:
    fits = (
        i
        for i in kit.interactions
        if i["api"] == "openai.chat"
        and i["provider"] == PROVIDER
        and i["kind"] == kind
        and tag in i["tags"]
        and i["response"]["status"] == status
    )
    return min(fits, key=lambda i: str(i["id"]))


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


@pytest.fixture(scope="session")
def node_folder() -> Path:
    return Path(__file__).parent / "node"
