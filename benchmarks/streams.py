"""A thousand streams held open through a real gateway, and five hundred callers that dawdle beside them.

    python -m benchmarks.streams [--seconds 600] [--streams 1000] [--slow 500] [--json FILE]

Each stream has bytes of its own; their hash where the provider wrote them is compared with that where they came. In
the second half of the time slow sockets hang on: heads that trickle, bodies that trickle, readers that hardly read.
Meanwhile others ask as ever, and their p99 is compared between the halves. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import uvloop
from msgspec import Struct, json
from tests.live import Live
from tests.replicas.caller import Caller, request
from tests.replicas.upstream import END, ENV, STREAM, Call, Upstream, chunk, good, piece, provider

from benchmarks.measure import memory

EVENT_S, EVENT_BYTES = 1.0, 64
OTHERS, PAUSE_S = 16, 0.05
TRICKLE_S = 1.0
FLOOD_BYTES = 64 << 10
"""A second, to a reader who takes sixteen."""
OPEN_AT_ONCE = 50
P99_TIMES, GROWTH_MB, SLOW_MB = 2.0, 1.0, 0.4
LONG_S = 300.0
"""Growth is a goal of runs that last at least this long."""


class Held(Struct):
    """What a run came to. `rss_mb` is the gateway's at the start, once all streams are open, before the slow sockets
    come, and at the end."""

    streams: int
    seconds: float
    whole: int
    wrong: int
    cut: int
    stream_mb: float
    p99_ms: tuple[float, float]
    others: tuple[int, int]
    others_failed: int
    slow: int
    slow_closed: int
    rss_mb: tuple[float, float, float, float]

    @property
    def grown_mb(self) -> tuple[float, float]:
        """While streams alone were held, and beside the slow sockets."""
        return self.rss_mb[2] - self.rss_mb[1], self.rss_mb[3] - self.rss_mb[2]

    @property
    def missed(self) -> list[str]:
        found = []
        if self.wrong or self.cut or self.whole != self.streams:
            found.append(f"{self.wrong} streams with wrong bytes, {self.cut} cut, {self.whole} of {self.streams} whole")
        if self.others_failed:
            found.append(f"{self.others_failed} of the others' calls failed")
        if self.p99_ms[1] >= P99_TIMES * self.p99_ms[0]:
            found.append(f"p99 {self.p99_ms[1] / self.p99_ms[0]:.2f} x with slow sockets, not under {P99_TIMES:g} x")
        if self.seconds >= LONG_S and self.grown_mb[0] > GROWTH_MB:
            found.append(f"RSS grew {self.grown_mb[0]:.1f} MB while streams were held, over {GROWTH_MB:g}")
        if self.grown_mb[1] > SLOW_MB * self.slow:
            found.append(f"RSS grew {self.grown_mb[1]:.1f} MB by slow sockets, over {SLOW_MB:g} each")
        return found


class Provider:
    """Streams until `until`, a second between events, each stream's text its own; `written` are the hashes."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}
        self.until = 0.0

    async def act(self, call: Call) -> None:
        if call.mark == "slow-reader":
            await self._flood(call)
        elif not call.mark.startswith("held-"):
            await good(call)
        else:
            await self._hold(call)

    async def _hold(self, call: Call) -> None:
        sha, number = hashlib.sha256(), 0
        call.writer.write(STREAM)
        while time.monotonic() < self.until and not call.writer.is_closing():
            data = piece(hashlib.blake2b(f"{call.mark} {number}".encode(), digest_size=EVENT_BYTES // 2).hexdigest())
            sha.update(data)
            call.writer.write(chunk(data))
            await call.writer.drain()
            await asyncio.sleep(EVENT_S)
            number += 1
        if call.writer.is_closing():
            return
        sha.update(END)
        call.writer.write(chunk(END) + chunk(b""))
        self.written[call.mark] = sha.hexdigest()

    async def _flood(self, call: Call) -> None:
        call.writer.write(STREAM)
        while time.monotonic() < self.until and not call.writer.is_closing():
            call.writer.write(chunk(piece("x" * FLOOD_BYTES)))
            await call.writer.drain()
            await asyncio.sleep(EVENT_S)


async def held_stream(live: Live, mark: str) -> tuple[str, str, int]:
    """The mark, the hash of all its bytes ("" for a stream that was cut) and how many there were."""
    url, sha, size = urlsplit(live.base), hashlib.sha256(), 0
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(request(live.base, live.key, "up/m", mark, stream=True))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            return mark, "", 0
        while length := int(await reader.readuntil(b"\r\n"), 16):
            data = (await reader.readexactly(length + 2))[:-2]
            sha.update(data)
            size += len(data)
        return mark, sha.hexdigest(), size
    except (OSError, asyncio.IncompleteReadError, ValueError):
        return mark, "", size
    finally:
        writer.transport.abort()


class Slow:
    """Callers that dawdle, a third of each kind; one that is shown the door comes back."""

    def __init__(self, live: Live, count: int) -> None:
        self.closed = 0
        kinds = (self._head, self._body, self._reader)
        self._live, self._url = live, urlsplit(live.base)
        self._tasks = [asyncio.create_task(self._again(kinds[n % len(kinds)], n)) for n in range(count)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _again(self, kind: Callable[[socket.socket], Awaitable[None]], number: int) -> None:
        await asyncio.sleep(number * 0.004)
        while True:
            place = socket.socket()
            place.setblocking(False)
            place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                await asyncio.get_running_loop().sock_connect(place, (self._url.hostname, self._url.port))
                await kind(place)
            except OSError:
                pass
            finally:
                place.close()
            self.closed += 1

    async def _head(self, place: socket.socket) -> None:
        """A byte of the head now and then."""
        await self._trickle(place, request(self._live.base, self._live.key, "up/m", "slow-head"), 0)

    async def _body(self, place: socket.socket) -> None:
        """The head at once, the body a byte now and then."""
        data = request(self._live.base, self._live.key, "up/m", "slow-body")
        await self._trickle(place, data, data.index(b"\r\n\r\n") + 4)

    async def _trickle(self, place: socket.socket, data: bytes, at_once: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(place, data[:at_once])
        for at in range(at_once, len(data) - 1):
            await loop.sock_sendall(place, data[at : at + 1])
            with suppress(BlockingIOError):
                place.recv(65536)  # an answer or the end: it was refused
                return
            await asyncio.sleep(TRICKLE_S)

    async def _reader(self, place: socket.socket) -> None:
        """Asks for more than it reads."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(place, request(self._live.base, self._live.key, "up/m", "slow-reader", stream=True))
        while await loop.sock_recv(place, 16):
            await asyncio.sleep(TRICKLE_S)


class Others:
    """Callers that are no trouble; how long each call took, and whether it was well."""

    def __init__(self, live: Live) -> None:
        self.took: list[tuple[float, float]] = []
        self.failed = 0
        self._is_over = False
        self._tasks = [asyncio.create_task(self._one(live, n)) for n in range(OTHERS)]

    async def _one(self, live: Live, number: int) -> None:
        seat = Caller(live.base, live.key)
        while not self._is_over:
            began = time.monotonic()
            answer = await seat.ask("up/m", str(number))
            self.took.append((began, answer.took_s))
            self.failed += answer.status != 200
            await asyncio.sleep(PAUSE_S)
        seat.close()

    async def stop(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    def p99_ms(self, began: float, ended: float) -> tuple[float, int]:
        """And of how many."""
        took = [t for at, t in self.took if began <= at < ended]
        return quantiles(took, n=100)[98] * 1000, len(took)


async def hold(seconds: float, streams: int, slow: int) -> Held:
    ours = Provider()
    async with Upstream(ours.act) as up, AsyncExitStack() as stack:
        live = Live(f"[server]\nmax_connections = 16384\n{provider('up', up)}", env=ENV)
        await asyncio.to_thread(live.__enter__)
        stack.push_async_callback(asyncio.to_thread, live.__exit__, None, None, None)
        rss = [memory(live.pid).rss_mb]
        ours.until = time.monotonic() + seconds + streams / OPEN_AT_ONCE * 0.1
        tasks = []
        for n in range(streams):
            tasks.append(asyncio.create_task(held_stream(live, f"held-{n}")))
            if n % OPEN_AT_ONCE == OPEN_AT_ONCE - 1:
                await asyncio.sleep(0.1)
        others = Others(live)
        await asyncio.sleep(min(2.0, seconds / 10))
        rss.append(memory(live.pid).rss_mb)
        began, half = time.monotonic(), (ours.until - time.monotonic()) / 2
        await asyncio.sleep(half)
        rss.append(memory(live.pid).rss_mb)
        dawdlers = Slow(live, slow)
        await asyncio.sleep(min(5.0, half / 2))  # until all of them hang on
        slow_at = time.monotonic()
        await asyncio.sleep(ours.until - slow_at)
        ended = time.monotonic()
        rss.append(memory(live.pid).rss_mb)
        closed = dawdlers.closed
        await dawdlers.stop()
        await others.stop()
        came = await asyncio.gather(*tasks)
    alone, beside = others.p99_ms(began, began + half), others.p99_ms(slow_at, ended)
    return Held(
        streams=streams,
        seconds=seconds,
        whole=sum(bool(sha) and sha == ours.written.get(mark) for mark, sha, _ in came),
        wrong=sum(bool(sha) and sha != ours.written.get(mark) for mark, sha, _ in came),
        cut=sum(not sha for _, sha, _ in came),
        stream_mb=sum(size for _, _, size in came) / 2**20,
        p99_ms=(alone[0], beside[0]),
        others=(alone[1], beside[1]),
        others_failed=others.failed,
        slow=slow,
        slow_closed=closed,
        rss_mb=(rss[0], rss[1], rss[2], rss[3]),
    )


def shown(held: Held) -> str:
    ratio = held.p99_ms[1] / held.p99_ms[0]
    rows = [
        ("streams held", f"{held.streams:,} for {held.seconds:g} s, {held.stream_mb:.0f} MB"),
        ("whole, every byte right", f"{held.whole:,}; {held.wrong} wrong, {held.cut} cut"),
        ("p99 of the others", f"{held.p99_ms[0]:.1f} ms over {held.others[0]:,} calls"),
        (
            f"the same beside {held.slow} slow sockets",
            f"{held.p99_ms[1]:.1f} ms over {held.others[1]:,}: {ratio:.2f} x",
        ),
        ("slow sockets shown the door", str(held.slow_closed)),
        ("RSS: start, streams open, half the time later, end", ", ".join(f"{mb:.1f}" for mb in held.rss_mb) + " MB"),
        ("goals", "; ".join(held.missed) or "met"),
    ]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    asked = parser.parse_args(words)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = uvloop.run(hold(asked.seconds, asked.streams, asked.slow))
    if asked.json is not None:
        asked.json.write_bytes(json.format(json.encode(held)) + b"\n")
    print(shown(held))
    return int(bool(held.missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
