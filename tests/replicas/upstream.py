"""A provider of OpenAI chat on loopback that counts its calls and does to each what it is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from msgspec import Struct

_MARK = re.compile(rb"<([\w.-]+)>")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PROMPT_TOKENS, ANSWER_TOKENS = 5, 3
_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS, "total_tokens": 8}


class Call(Struct):
    """One call: what stood between < and > in its prompt, whether it is to be streamed, and the way back."""

    mark: str
    stream: bool
    writer: asyncio.StreamWriter


Act = Callable[[Call], Awaitable[None]]


def event(**fields: object) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(head | fields).encode() + b"\n\n"


def piece(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}])


END = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]) + event(choices=[], usage=_USAGE)
END += b"data: [DONE]\n\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHOICE = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
_WHOLE = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [_CHOICE], "usage": _USAGE}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status: int, body: object, headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def good(call: Call) -> None:
    if call.stream:
        call.writer.write(STREAM + chunk(piece("ok")) + chunk(END) + chunk(b""))
    else:
        call.writer.write(answer(200, _WHOLE))


async def silent(call: Call) -> None:
    """A black hole: it takes the call and never says a word."""
    await asyncio.Event().wait()


def refusing(status: int, headers: str = "") -> Act:
    said = answer(status, {"error": {"message": "no", "type": "error", "param": None, "code": None}}, headers)

    async def act(call: Call) -> None:
        call.writer.write(said)

    return act


class Upstream:
    """`async with Upstream() as up:` serves on 127.0.0.1; `act` may be changed while it does.

    `marks` counts the calls by their marks, `most` is how many were ever under way at once.
    """

    def __init__(self, act: Act = good) -> None:
        self.act = act
        self.port = self.calls = self.now = self.most = 0
        self.marks: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.shut()

    async def open(self) -> None:
        """Listens, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Breaks every connection and turns new ones away."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                mark = _MARK.search(body)
                call = Call(mark[1].decode() if mark else "", b'"stream":true' in body.replace(b" ", b""), writer)
                self.calls += 1
                self.marks[call.mark] += 1
                self.now += 1
                self.most = max(self.most, self.now)
                try:
                    await self.act(call)
                    await writer.drain()
                finally:
                    self.now -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


def provider(name: str, up: Upstream) -> str:
    """Its table for a gateway's configuration, which wants UP_KEY in its environment."""
    return (
        f'[providers.{name}]\ndialect = "openai_chat"\nbase = "http://127.0.0.1:{up.port}/v1"\n'
        f'key_env = "UP_KEY"\nallow_private = true\n'
    )


ENV = {"UP_KEY": "sk-upstream"}
