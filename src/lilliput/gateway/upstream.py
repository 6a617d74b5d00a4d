"""HTTP out: pooled connections to providers, on asyncio protocols, through the one connector with the egress rule.

A connection carries one answer at a time. Parsing is httptools' (llhttp). Redirects are not followed: a 3xx is an
answer like any other. Time limits are kept by one sweeper, so a request costs no timer.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from msgspec import Struct

from lilliput.gateway import egress
from lilliput.gateway.answer import SWEEP_S, Answer, Patience, Stale
from lilliput.neutral import Problem

_ODD = re.compile(r"[\x00-\x20\x7f\\]")
"""Where URL parsers disagree none is asked: a blank, a control character or a backslash in a base is refused."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Pool:
    """The connections to one origin under one egress permission."""

    def __init__(
        self, upstream: Upstream, host: str, port: int, tls: ssl.SSLContext | None, allow_private: bool
    ) -> None:
        self.upstream, self.loop, self.patience = upstream, upstream.loop, upstream.patience
        self.host, self.port, self.tls, self.allow_private = host, port, tls, allow_private
        self.idle: deque[Answer] = deque()
        self.open: set[Answer] = set()
        self.tick = 0

    def forget(self, answer: Answer) -> None:
        self.open.discard(answer)
        try:
            self.idle.remove(answer)
        except ValueError:
            pass

    async def connect(self) -> Answer:
        """A new connection to a checked address; raises Problem when none can be had in time."""
        up, within_s = self.upstream, self.patience.connect_s
        where = f"the provider at {self.host}:{self.port}"
        problem = late = Problem("timeout", f"{where} was not reached within {within_s:g} s", code="upstream_timeout")
        try:
            async with asyncio.timeout(within_s):
                addresses = await egress.checked(self.host, self.port, self.allow_private, up.lookup)
        except TimeoutError:
            raise late from None
        for ip in addresses:
            if egress.is_own(ip, self.port, up.own_addresses):
                say = f"the provider's base is this gateway's own address {ip}:{self.port}; point it at the provider"
                raise Problem("provider", say, code="self_call")
            name = self.host if self.tls else None
            try:
                async with asyncio.timeout(within_s):
                    _, answer = await self.loop.create_connection(
                        lambda: Answer(self), ip, self.port, ssl=self.tls, server_hostname=name
                    )
                return answer
            except TimeoutError:
                problem = late
            except OSError as e:
                problem = Problem("provider", f"{where} cannot be reached: {e}", code="upstream_unreachable")
        raise problem

    def sweep(self) -> None:
        self.tick += 1
        for answer in tuple(self.open):
            answer.sweep(self.tick, self.patience)


class Link(Struct, frozen=True, eq=False):
    """A pool and the request head, all but its length, that every call to one deployment shares."""

    pool: Pool
    head: bytes

    async def send(self, body: bytes, more: bytes = b"", *, anew: bool = False) -> Answer:
        """The answer whose head has come, to `body` with `more` header lines. A kept connection that proves dead is
        replaced once, and all others that idle are let go with it; a call `anew` trusts none. Raises Problem."""
        data = b"%b%bContent-Length: %d\r\n\r\n%b" % (self.head, more, len(body), body)
        idle = self.pool.idle
        while True:
            answer = idle.pop() if idle and not anew else await self.pool.connect()
            try:
                answer.send(data)
                while not answer.status:
                    if answer.problem is not None:
                        raise answer.problem
                    await answer.event()
            except Stale:
                answer.release()
                while idle:
                    idle.pop().transport.close()
            except BaseException:
                answer.release()
                raise
            else:
                return answer


class Upstream:
    """Every pool, their one sweeper, and what a connection needs from outside: a resolver and a TLS context."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience: Patience | None = None,
        *,
        lookup: egress.Lookup | None = None,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.loop = loop
        self.patience = patience or Patience()
        self.lookup = lookup or self._getaddrinfo
        self.own_addresses: set[tuple[str, int]] = set()
        self._tls_context: ssl.SSLContext | None = None
        self._make_tls = tls
        self._pools: dict[tuple[str, str, int, bool], Pool] = {}
        self._timer = loop.call_later(SWEEP_S, self._sweep)

    def link(
        self, url: str, headers: tuple[tuple[str, str], ...], *, method: str = "POST", allow_private: bool = False
    ) -> Link:
        """How to send to `url` with `headers`. The URL is parsed here and never again."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise _bad_base(url) from None
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or _ODD.search(url):
            raise _bad_base(url)
        if ":" not in host and ("[" in parts.netloc or "%" in host):
            raise _bad_base(url)
        where = (parts.scheme, host, port, allow_private)
        pool = self._pools.get(where)
        if pool is None:
            pool = self._pools[where] = Pool(self, host, port, self._tls(parts.scheme), allow_private)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines)
        for name, value in headers:
            if not _TOKEN.fullmatch(name) or any(c in value for c in "\r\n\0"):
                raise Problem("provider", f"the header {name!r} to the provider is malformed", code="bad_header")
        return Link(pool, head.encode("latin-1", "replace") + b"\r\n")

    def close(self) -> None:
        self._timer.cancel()
        for pool in self._pools.values():
            for answer in tuple(pool.open):
                answer.transport.abort()

    def _tls(self, scheme: str) -> ssl.SSLContext | None:
        if scheme != "https":
            return None
        if self._tls_context is None:
            self._tls_context = self._make_tls()
        return self._tls_context

    def _sweep(self) -> None:
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)
        for pool in self._pools.values():
            pool.sweep()

    async def _getaddrinfo(self, host: str, port: int) -> list[str]:
        found = await self.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in found))


def _bad_base(url: str) -> Problem:
    say = f"{url!r} is no plain http(s) address; mend `base` in the configuration"
    return Problem("provider", say, code="bad_base")
