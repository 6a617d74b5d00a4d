"""The engine's real process: what it refuses, what it keeps to itself, and that it ends when it should."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.local import made
from tests.local.talk import talking

from lilliput.local import weights
from lilliput.local.settings import Settings
from lilliput.neutral import Problem

pytestmark = pytest.mark.slow

LIMIT_S = 60.0


def gone(pid: int) -> bool:
    """Whether the process is over; one that nobody has collected yet is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(true: object, what: str) -> None:
    end_s = time.monotonic() + LIMIT_S
    assert callable(true)
    while not true():
        assert time.monotonic() < end_s, f"never: {what}"
        time.sleep(0.02)


def test_a_killed_engine_answers_the_next_call(smollm: Path) -> None:
    with talking(smollm) as talk:
        before = talk.chat()
        pid = talk.engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: not talk.engine.running, "the end is noticed")
        assert talk.chat()["choices"] == before["choices"]
        assert talk.engine.pid != pid


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


BROKEN = [
    ("cut short", cut, "past the end of the file"),
    ("of another format", lambda raw: b"GGML" + raw[4:], "not with b'GGUF'"),
    ("random", lambda raw: b"\x93" * 4096, "not with b'GGUF'"),
    ("empty", lambda raw: b"", "ends inside its header"),
    ("sound, of an unknown architecture", lambda raw: made.gguf(), "unknown model architecture: 'alien'"),
]


@pytest.mark.parametrize(("spoil", "says"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_weights_are_a_503_and_mended_ones_work(smollm: Path, tmp_path: Path, spoil: object, says: str) -> None:
    path = tmp_path / "w.gguf"
    assert callable(spoil)
    path.write_bytes(spoil(smollm.read_bytes()))
    with talking(path) as talk:
        with pytest.raises(Problem, match=says) as caught:
            talk.wait(talk.engine.address())
        assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")
        assert str(tmp_path) not in caught.value.say
        assert not talk.engine.running
        path.unlink()
        path.symlink_to(smollm)
        assert talk.chat()["usage"]["completion_tokens"] > 0


def test_weights_that_do_not_match_their_hash_are_refused(smollm: Path) -> None:
    with talking(smollm, sha256="0" * 64) as talk, pytest.raises(Problem, match="not the pinned 0000"):
        talk.wait(talk.engine.address())
    with talking(smollm, sha256=weights.registry()[weights.DEFAULT].sha256) as talk:
        assert talk.wait(talk.engine.address())


@pytest.mark.parametrize("memory_bytes", [200 << 20, 500 << 20])
def test_too_little_memory_is_a_503_with_what_to_change(smollm: Path, memory_bytes: int) -> None:
    with talking(smollm, Settings(memory_bytes=memory_bytes)) as talk:
        with pytest.raises(Problem, match="raise memory_bytes") as caught:
            talk.wait(talk.engine.address())
        assert caught.value.status == 503


PARENT = """
import asyncio, sys
from pathlib import Path
from lilliput.local.engine import Engine
async def main():
    engine = Engine(Path(sys.argv[1]))
    await engine.address()
    print(engine.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_engine_ends_with_its_parent(smollm: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(smollm)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.send_signal(number)
        parent.wait(LIMIT_S)
    until(lambda: gone(pid), "the engine ends")


def test_signals_to_the_group_are_left_to_the_parent(smollm: Path) -> None:
    with talking(smollm) as talk:
        talk.chat()
        pid = talk.engine.pid
        assert pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        assert talk.chat()["usage"]["completion_tokens"] > 0
        assert talk.engine.pid == pid


def test_an_engine_that_hangs_is_ended_and_replaced(smollm: Path) -> None:
    """Repeats in repeats keep llama.cpp's one loop busy for ever; in the product the guard stands before it."""
    endless = {"type": "string", "pattern": "^((a{0,30}){0,30}){0,30}$"}
    with talking(smollm, Settings(stuck_s=2.0)) as talk:
        talk.chat()
        pid = talk.engine.pid
        connection = talk.connect()
        body = {
            "messages": [{"role": "user", "content": "Hi"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": endless}},
        }
        key = {"authorization": f"Bearer {talk.engine.key.reveal()}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), key)
        until(lambda: not talk.engine.running, "the hang is noticed")
        connection.close()
        assert "answered nothing for 2 s" in talk.engine.log
        assert talk.chat()["usage"]["completion_tokens"] > 0
        assert talk.engine.pid != pid


def test_it_keeps_to_itself(smollm: Path) -> None:
    with talking(smollm) as talk:
        talk.chat("The canary is called Zebedee.")
        pid = talk.engine.pid
        listening = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        ]
        port = talk.connect().port
        (local,) = [row[1] for row in listening if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
        assert local.startswith("0100007F:")
        key = talk.engine.key.reveal().encode()
        assert key not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert key not in Path(f"/proc/{pid}/environ").read_bytes()
        assert "Zebedee" not in talk.engine.log


CLOSED = [
    ("GET", "/", 404),
    ("GET", "/index.html", 404),
    ("GET", "/slots", 501),
    ("POST", "/slots/0?action=save", 501),
    ("POST", "/props", 501),
    ("GET", "/tools", 403),
    ("GET", "/cors-proxy", 403),
]


def test_what_is_not_needed_is_off_and_nothing_works_without_the_key(smollm: Path) -> None:
    with talking(smollm) as talk:
        for method, path, status in CLOSED:
            assert talk.ask(path, {}, method)[0] == status, path
        for method, path in (
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/embeddings"),
            ("GET", "/metrics"),
            ("GET", "/props"),
            ("POST", "/tokenize"),
            ("POST", "/lora-adapters"),
            ("GET", "/v1/models"),
        ):
            assert talk.ask(path, {}, method, key="wrong")[0] == 401, path
