"""What `lilliput demo` stands on: a gateway as a process of its own in a home of its own, and a scripted teacher."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from lilliput.neutral import Problem

START_S, STOP_S = 60.0, 10.0
_COMMAND = (sys.executable, "-m", "lilliput.cli.main")


class Gateway:
    """Our gateway as a process, and the commands of its home."""

    def __init__(self, home: Path, port: int) -> None:
        self._env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "LANG") if name in os.environ}
        self._env["LILLIPUT_HOME"] = str(home)
        self.base, self._log = f"http://127.0.0.1:{port}/v1", home / "printed"

    def __enter__(self) -> Gateway:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*_COMMAND, "serve"], env=self._env, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while b"ready" not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise Problem("server", f"the gateway did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tell(self, show: Callable[[str], None], *words: str) -> Any:
        """A command's JSON; the command is shown as it would be typed."""
        show("$ lilliput " + " ".join(f'"{w}"' if " " in w else w for w in words))
        return self.ask(*words)

    def ask(self, *words: str) -> Any:
        done = subprocess.run([*_COMMAND, *words, "--json"], env=self._env, capture_output=True, check=False)
        if done.returncode:
            raise Problem("server", f"`lilliput {words[0]} {words[1]}`: {done.stderr.decode(errors='replace')[-1000:]}")
        return msgspec.json.decode(done.stdout)

    def follow(self, show: Callable[[str], None], *words: str) -> Iterator[dict[str, Any]]:
        """The JSON lines of a command as it prints them."""
        show("$ lilliput " + " ".join(words))
        with subprocess.Popen(
            [*_COMMAND, *words, "--json"], env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            try:
                assert running.stdout is not None
                assert running.stderr is not None
                said: deque[bytes] = deque(maxlen=20)
                reader = threading.Thread(target=said.extend, args=(running.stderr,), daemon=True)
                reader.start()
                for line in running.stdout:
                    yield msgspec.json.decode(line)
                reader.join(STOP_S)
                if running.wait() not in (0, 1) or (running.returncode and any(b"error:" in line for line in said)):
                    raise Problem("server", b"".join(said).decode(errors="replace")[-1000:])
            finally:
                running.terminate()


@contextlib.contextmanager
def teacher(answers: Mapping[str, str], pause_s: float) -> Iterator[int]:
    """A scripted model on a port of its own: what a human answered, after a pause."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = msgspec.json.decode(self.rfile.read(int(self.headers["content-length"])))
            text = asked["messages"][-1]["content"]
            answer = answers.get(text, "unknown")
            time.sleep(pause_s)
            tokens = {"prompt_tokens": len(text) // 4, "completion_tokens": 2, "total_tokens": len(text) // 4 + 2}
            body = msgspec.json.encode(
                {
                    "id": "scripted",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "scripted",
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
                    ],
                    "usage": tokens,
                }
            )
            with contextlib.suppress(ConnectionError):  # whoever asked has gone
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
