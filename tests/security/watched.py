"""A gateway of its own whose interpreter notes what it does: processes, code, look-ups, connections; all logs on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.live import SOURCES, Live

SITE = """
import asyncio, json, logging, os, sys
logging.basicConfig(level=logging.DEBUG)
import uvloop
if os.environ.get("WATCHED_LOOP") == "asyncio":
    uvloop.run = asyncio.run  # a loop whose sockets are Python's, which the hook sees
OUT = open(os.environ["WATCHED_OUT"], "a", buffering=1)
SEEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "pty.spawn", "exec",
        "compile", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "socket.connect", "socket.getaddrinfo",
        "socket.gethostbyname", "socket.sendto", "urllib.Request", "http.client.connect", "ftplib.connect")
def hook(event, args):
    if event in SEEN and not OUT.closed:
        second = event in ("compile", "socket.connect")
        what = args[0].co_filename if event == "exec" else args[second]
        OUT.write(json.dumps([event, repr(what)]) + "\\n")
sys.addaudithook(hook)
"""
"""What the interpreter runs first (`sitecustomize`)."""


class Watched:
    """A gateway, and what its interpreter noted so far as (event, what it was about)."""

    def __init__(self, gateway: Live, out: Path) -> None:
        self.gateway, self._out = gateway, out

    def events(self) -> list[tuple[str, str]]:
        return [tuple(json.loads(line)) for line in self._out.read_text().splitlines()]


@contextlib.contextmanager
def watched(folder: Path, text: str, env: dict[str, str], loop: str = "asyncio") -> Iterator[Watched]:
    """The gateway with this configuration, on asyncio's own loop (its sockets are seen) or on "uvloop"."""
    (folder / "sitecustomize.py").write_text(SITE)
    out = folder / "events"
    out.touch()
    more: dict[str, Any] = {
        "PYTHONPATH": f"{folder}:{SOURCES}",
        "PYTHONASYNCIODEBUG": "1",
        "WATCHED_OUT": str(out),
        "WATCHED_LOOP": loop,
    }
    with Live(text, env={**env, **more}) as gateway:
        yield Watched(gateway, out)
