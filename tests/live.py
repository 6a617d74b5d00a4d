"""The real gateway as a process of its own, in a home of its own: what SDK tests and the conformance run talk to."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.local.real import weights_path

from lilliput.local import weights

SOURCES = Path(__file__).resolve().parents[1] / "src"
COMMAND = [sys.executable, "-m", "lilliput.cli.main"]
START_S = 60.0
STOP_S = 10.0
SHOWN_BYTES = 8000


class Live:
    """`with Live(config) as live:` runs `lilliput serve` on a free loopback port until the block ends.

    `config` is the text of its configuration file, `env` what it sees beside a bare environment (no provider keys).
    With `weights`, the built-in model's weights are linked into its home, fetched once for all tests; a `home` that is
    given is left as it is at the end. Raises AssertionError with all that the process printed when it does not answer
    within `START_S` seconds.
    """

    def __init__(
        self,
        config: str = "",
        *,
        env: Mapping[str, str] | None = None,
        weights: bool = False,
        home: Path | None = None,
    ) -> None:
        self._config, self._extra, self._weights, self._given = config, dict(env or {}), weights, home
        self.base = self.key = ""
        self._process: subprocess.Popen[bytes]

    @property
    def v1(self) -> str:
        """What an OpenAI client wants as its base URL."""
        return f"{self.base}/v1"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def printed(self) -> str:
        """All that the process has printed so far, the last of it when it is much."""
        return self._log.read_bytes()[-SHOWN_BYTES:].decode("utf-8", "replace")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="lilliput-live-", ignore_cleanup_errors=True)
        try:
            self._start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._stop()
        finally:
            self._folder.cleanup()

    def _start(self) -> None:
        root = Path(self._folder.name)
        self.home = self._given or root / "home"
        self.home.mkdir(exist_ok=True)
        self._log = root / "printed"
        self._env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "HOME": str(root),
            "LILLIPUT_HOME": str(self.home),
            **self._extra,
        }
        text = self._config
        if self._weights:
            link_weights(self.home / "weights")
        else:  # a file of one's own in its place: nothing is fetched
            text += f'\n[local.models]\n{weights.DEFAULT} = "{root}/none.gguf"\n'
        config = root / "config.toml"
        config.write_text(text)
        port = free_port()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "serve", "--config", str(config), "--port", str(port)],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.base = f"http://127.0.0.1:{port}"
        try:
            self._wait(port)
            self.key = self.lilliput("key", "dev").strip()
        except BaseException:
            self.kill()
            raise

    def lilliput(self, *args: str) -> str:
        """What another command printed, run in the same home."""
        done = subprocess.run([*COMMAND, *args], env=self._env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"`lilliput {' '.join(args)}` failed: {done.stdout}{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """As a power cut would: the gateway and all its workers at once, with no time for a last word."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait(self, port: int) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise AssertionError(f"`lilliput serve` ended with {self._process.returncode}:\n{self.printed}")
            if _is_up(port):
                return
            time.sleep(0.05)
        raise AssertionError(f"`lilliput serve` does not answer /healthz within {START_S:g} s:\n{self.printed}")

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_up(port: int) -> bool:
    ask = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        ask.request("GET", "/healthz")
        return ask.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        ask.close()


def link_weights(folder: Path) -> None:
    """Puts the built-in model's weights into `folder` without a copy."""
    source = weights_path()
    folder.mkdir(parents=True)
    try:
        os.link(source, folder / source.name)
    except OSError:  # another file system
        (folder / source.name).symlink_to(source)
