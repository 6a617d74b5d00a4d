"""HTTP in: the open port, its connections and their limits. A connection itself is in `connection`."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from msgspec import Struct

from lilliput.gateway import gates
from lilliput.gateway.connection import SWEEP_S, Conn
from lilliput.gateway.routes import Routes
from lilliput.gateway.shed import TICK_S
from lilliput.gateway.visit import Visit

BACKLOG = 4096
DOORS = 16
Serve = Callable[[Visit], Awaitable[None]]


class Limits(Struct, frozen=True, kw_only=True):
    """How much and how long a client may take: bytes, counts, seconds."""

    head_bytes: int = 32 * 1024
    header_count: int = 100
    header_timeout_s: float = 10.0
    body_grace_s: float = 10.0
    body_rate_bytes_s: int = 1024
    idle_timeout_s: float = 75.0
    slow_reader_s: float = 60.0
    ping_s: float = 15.0
    connections: int = 10_000


class Listener:
    """The open port: its connections, their one sweeper, and the way to close them without losing an answer."""

    def __init__(self, gate: gates.Gate, serve: Serve, routes: Routes, limits: Limits | None = None) -> None:
        self.gate, self.serve, self.routes = gate, serve, routes
        self.limits = limits or Limits()
        self.loop = asyncio.get_running_loop()
        self.conns: set[Conn] = set()
        self.load = gate.load
        self.load.conns = self.conns
        self.is_closing = False
        self.tick = 0
        self.date = b""
        self.good_host = b""
        self._keys = gate.key_epoch()
        self._servers: list[asyncio.Server] = []
        self._sweep()
        self._beat(time.monotonic())

    async def open(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listens and returns the port; raises OSError when the address is taken."""
        made = await self.loop.create_server(
            lambda: Conn(self), host, port, backlog=BACKLOG, reuse_port=reuse_port or None
        )
        self._servers.append(made)
        for door in made.sockets:  # libuv takes one connection a turn from each, and a crowd must not wait for that
            for _ in range(DOORS - 1):
                again = socket.socket(fileno=os.dup(door.fileno()))
                self._servers.append(await self.loop.create_server(lambda: Conn(self), sock=again, backlog=BACKLOG))
        where = [s.getsockname()[:2] for s in made.sockets]
        for ip, number in where:
            self.gate.upstream.own_addresses.add((ip, number))
        return int(where[0][1])

    async def close(self, grace_s: float) -> None:
        """Stops listening, lets answers in hand finish for `grace_s`, then ends them with `server_shutdown`."""
        for server in self._servers:
            server.close()
        self.is_closing = self.gate.is_closing = True
        for conn in tuple(self.conns):
            conn.close_if_idle()
        await asyncio.gather(*(conn.gone(grace_s) for conn in tuple(self.conns)))
        self._timer.cancel()
        self._pulse.cancel()

    def _beat(self, due_s: float) -> None:
        """Measures how late the loop is."""
        now_s = time.monotonic()
        self.load.tick(max(0.0, now_s - due_s))
        self._pulse = self.loop.call_later(TICK_S, self._beat, now_s + TICK_S)

    def _sweep(self) -> None:
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)
        self.tick += 1
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for conn in tuple(self.conns):
            conn.sweep(self.tick, self.limits)
        if (keys := self.gate.key_epoch()) != self._keys:
            self._keys = keys
            for conn in tuple(self.conns):
                conn.readmit()
