"""HTTP in: the open port, its connections and their limits. A connection itself is in `connection`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from msgspec import Struct

from lilliput.gateway import gates
from lilliput.gateway.connection import SWEEP_S, Conn
from lilliput.gateway.routes import Routes
from lilliput.gateway.visit import Visit

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
        self.is_closing = False
        self.tick = 0
        self.date = b""
        self.good_host = b""
        self._server: asyncio.Server | None = None
        self._sweep()

    async def open(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listens and returns the port; raises OSError when the address is taken."""
        self._server = await self.loop.create_server(
            lambda: Conn(self), host, port, backlog=4096, reuse_port=reuse_port or None
        )
        where = [s.getsockname()[:2] for s in self._server.sockets]
        for ip, number in where:
            self.gate.upstream.own_addresses.add((ip, number))
        return int(where[0][1])

    async def close(self, grace_s: float) -> None:
        """Stops listening, lets answers in hand finish for `grace_s`, then ends them with `server_shutdown`."""
        if self._server is not None:
            self._server.close()
        self.is_closing = self.gate.is_closing = True
        for conn in tuple(self.conns):
            conn.close_if_idle()
        await asyncio.gather(*(conn.gone(grace_s) for conn in tuple(self.conns)))
        self._timer.cancel()

    def _sweep(self) -> None:
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)
        self.tick += 1
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for conn in tuple(self.conns):
            conn.sweep(self.tick, self.limits)
