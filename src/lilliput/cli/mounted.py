"""The gateway composed on an ASGI server's lifespan."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from lilliput.cli.serve import compose
from lilliput.config import home, read
from lilliput.gateway.asgi import App, Message, Receive, Send
from lilliput.neutral import Problem


class Mounted:
    """An ASGI app that composes its gateway at `lifespan.startup`, or at the first request where nobody sends one."""

    def __init__(self) -> None:
        self._app: App | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._app is None:
            await self._start()
        assert self._app is not None
        await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Problem as problem:
            await send({"type": "lifespan.startup.failed", "message": problem.say})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._stop.set()
        if self._starting is not None:
            await self._starting
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._run())
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait({self._starting, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._starting.done():
            self._starting.result()

    async def _run(self) -> None:
        place = home(os.environ)
        given = os.environ.get("LILLIPUT_CONFIG")
        file = Path(given) if given else place.config_file if place.config_file.is_file() else None
        async with compose(place, read(file), os.environ) as parts:
            self._app = parts.app
            self._ready.set()
            await self._stop.wait()


app = Mounted()
