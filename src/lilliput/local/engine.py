"""Keeps one engine process alive for one file of weights: starts it on first use, notices its end, restarts it.

What it speaks is llama.cpp's OpenAI-shaped HTTP on loopback; nothing of a request is known here.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from lilliput.local.settings import Adapter, Order, Settings
from lilliput.neutral import Problem, Secret

COMMAND = (sys.executable, "-m", "lilliput.local.worker")
# What the process may see of our environment: never a provider's key.
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
PASSED_PREFIXES = ("OMP_", "GOMP_", "GGML_")
TAIL_BYTES = 8192
ANSWER_BYTES = 1 << 16
BACKOFF_CAP_S = 30.0
CRASHES, CRASH_WINDOW_S = 3, 30.0
STOP_S = 1.0
LAST_WORDS = 300
ERROR_LINE = re.compile(r"^[\d.]+ E +")
HINTS = (
    ("libgomp", "install the OpenMP runtime (Debian and Ubuntu: apt install libgomp1)"),
    ("allocat", "raise memory_bytes, or lower context_tokens or parallel"),
    ("Resource temporarily unavailable", "raise memory_bytes or the limit on processes"),
    ("SIGKILL", "the system may be out of memory: lower context_tokens or parallel"),
)


class _Live(msgspec.Struct, frozen=True):
    process: asyncio.subprocess.Process
    base: str


class _Said(msgspec.Struct, frozen=True):
    """A worker's one line."""

    address: str = ""
    error: str = ""


class Engine:
    """The engine of the weights at `path`, not yet started.

    `alias` is the name that answers carry, `sha256` what the file must hash to (None = whatever it is), `key` what
    callers must send as a bearer token: it is made once and holds over restarts, the address does not. `adapters` are
    put over the weights.
    Belongs to one event loop.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings | None = None,
        *,
        alias: str = "",
        sha256: str | None = None,
        adapters: Sequence[Adapter] = (),
        env: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = COMMAND,
        token: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        self.path = path
        self.settings = settings or Settings()
        self.alias = alias or path.stem
        self.sha256 = sha256
        self.adapters = tuple(adapters)
        self.key = Secret(token())
        self._env = _passed(os.environ if env is None else env)
        self._clock = clock
        self._command = tuple(command)
        self._live: _Live | None = None
        self._starting: asyncio.Task[_Live | None] | None = None
        self._watches: set[asyncio.Task[None]] = set()
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._failed = ""
        self._failures = 0
        self._failed_file: tuple[int, int, int] | None = None
        self._retry_at_s = 0.0
        self._stopped = False
        self._tail = b""

    @property
    def running(self) -> bool:
        return self._live is not None and not _ended(self._live.process)

    @property
    def pid(self) -> int | None:
        return self._live.process.pid if self._live else None

    @property
    def log(self) -> str:
        """The last lines of the process's standard error."""
        return self._tail.decode("utf-8", "replace")

    async def address(self) -> str:
        """The base URL (ends in /v1) of a running engine, started now if need be.

        Raises Problem (503, `engine_unavailable`) when it does not start, and again without a try until its back-off
        is over or the file has changed. A caller who leaves does not stop a start that others wait for. A process
        that is just ending may still be named here: when its connection is refused, ask again.
        """
        live = self._live
        if live is not None:
            if not _ended(live.process):
                return live.base
            self._live = None
        self._refuse_early()
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name=f"engine {self.alias}")
        starting = self._starting
        await asyncio.wait({starting})
        self._refuse_stopped()
        live = starting.result()
        if live is None:
            raise self._unavailable()
        return live.base

    async def stop(self) -> None:
        """End the process; no later `address()` starts it again."""
        self._stopped = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._live is not None:
            await _end(self._live.process)
        if self._watches:
            await asyncio.wait(self._watches)

    def _refuse_stopped(self) -> None:
        if self._stopped:
            raise Problem("server", f"the engine of {self.alias} was stopped", code="engine_unavailable")

    def _refuse_early(self) -> None:
        self._refuse_stopped()
        if self._clock() < self._retry_at_s and _identity(self.path) == self._failed_file:
            raise self._unavailable()

    def _unavailable(self) -> Problem:
        wait_s = max(0.0, self._retry_at_s - self._clock())
        say = f"the local model {self.alias} cannot run: {self._failed}"
        return Problem("server", say, code="engine_unavailable", retry_after_s=wait_s or None)

    async def _start(self) -> _Live | None:
        """One try; None, and the reason in `_failed`, when it did not come up."""
        self._failed_file = _identity(self.path)
        try:
            self._live = await self._launch()
            self._failures = 0
        except Problem as e:
            self._live = None
            self._fail(e.say)
        finally:
            self._starting = None
        return self._live

    def _fail(self, why: str) -> None:
        self._failed = why
        self._failures += 1
        self._retry_at_s = self._clock() + min(BACKOFF_CAP_S, 2.0 ** (self._failures - 1))

    async def _launch(self) -> _Live:
        process = await self._spawn()
        self._tail = b""
        drain = asyncio.create_task(self._keep_tail(process))
        said = _Said()
        try:
            said = await asyncio.wait_for(self._greet(process), self.settings.start_timeout_s)
        except TimeoutError:
            limit_s = self.settings.start_timeout_s
            said = _Said(error=f"it was not ready after {limit_s:g} s; raise start_timeout_s or take smaller weights")
        finally:
            if not said.address:
                await _end(process)
                await drain
        if not said.address:
            raise Problem("server", said.error or _last_words(process.returncode, self._tail, self.path))
        live = _Live(process, said.address + "/v1")
        watch = asyncio.create_task(self._watch(live, drain))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return live

    async def _spawn(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._env, limit=ANSWER_BYTES
            )
        except OSError as e:
            raise Problem("server", f"its process does not start: {e}; check the limits on memory and processes") from e

    async def _greet(self, process: asyncio.subprocess.Process) -> _Said:
        """Give the order and hear the answer; an empty one when the process ends without a word."""
        order = Order(
            weights=str(self.path),
            alias=self.alias,
            key=self.key.reveal(),
            parent=os.getpid(),
            sha256=self.sha256,
            settings=self.settings,
            adapters=self.adapters,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            await process.stdin.drain()
            return msgspec.json.decode(await process.stdout.readline() or b"{}", type=_Said)
        except (ConnectionError, ValueError, msgspec.DecodeError):
            return _Said()

    async def _keep_tail(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(TAIL_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    async def _watch(self, live: _Live, drain: asyncio.Task[None]) -> None:
        """Wait for the end of the process. One crash is forgiven at once; several in a row are a failure to start."""
        code = await live.process.wait()
        await drain
        if self._live is live:
            self._live = None
        if self._stopped:
            return
        now_s = self._clock()
        self._crashes.append(now_s)
        if len(self._crashes) == CRASHES and now_s - self._crashes[0] < CRASH_WINDOW_S:
            last = _last_words(code, self._tail, self.path)
            self._fail(f"it ended {CRASHES} times within {CRASH_WINDOW_S:.0f} s; at last {last}")


def _passed(env: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment. Idle threads sleep instead of spinning, unless the caller's environment differs:
    beside one busy process two spinning threads wrote 5-25 tokens a second, two sleeping ones 29-45 (2026-11-22)."""
    kept = {k: v for k, v in env.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}
    return {"OMP_WAIT_POLICY": "passive", **kept}


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from its replacement; None when there is no file."""
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_ino, s.st_size, s.st_mtime_ns


def _ended(process: asyncio.subprocess.Process) -> bool:
    """Whether the process is over, asked of the kernel: the event loop learns it a moment later."""
    if process.returncode is not None:
        return True
    if sys.platform != "linux":
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its standard input, which ends it; kill it when that does not help."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _last_words(code: int | None, tail: bytes, path: Path) -> str:
    """Why a process ended, as far as it is known: signal or exit code, the line of its log that says most, a hint."""
    if code is not None and code < 0:
        why = f"its process was ended by {signal.Signals(-code).name}"
    else:
        why = f"its process ended with exit code {code}"
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.match(line)]
    if lines:
        line = ERROR_LINE.sub("", errors[0] if errors else lines[-1]).replace(str(path), path.name)
        why += f": {line[:LAST_WORDS]}"
    return why + next((f"; {do}" for sign, do in HINTS if sign in why), "")
