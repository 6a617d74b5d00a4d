"""A running engine to talk to from plain tests, and its answers as Python values."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lilliput.local.engine import Engine
from lilliput.local.settings import Settings

START_S = 120.0
ANSWER_S = 120.0


class Talk:
    """An engine and the loop that it belongs to, in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="engine's loop")
        self.thread.start()

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(START_S)

    def close(self) -> None:
        self.wait(self.engine.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def connect(self) -> http.client.HTTPConnection:
        address = self.wait(self.engine.address()).removeprefix("http://").removesuffix("/v1")
        return http.client.HTTPConnection(address, timeout=ANSWER_S)

    def send(
        self, path: str, body: object, method: str = "POST", key: str | None = None, raw: bytes | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The connection, to be closed, and the answer, to be read."""
        connection = self.connect()
        key = self.engine.key.reveal() if key is None else key
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        connection.request(method, path, json.dumps(body) if raw is None else raw, headers)
        return connection, connection.getresponse()

    def ask(self, path: str, body: object, method: str = "POST", key: str | None = None) -> tuple[int, Any]:
        """Status and JSON, or text where it is none."""
        connection, answer = self.send(path, body, method, key)
        text = answer.read().decode()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def chat(self, content: str = "Say hello in one short sentence.", **fields: object) -> Any:
        """A whole answer, which must be a 200."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0, **fields}
        status, answer = self.ask("/v1/chat/completions", body)
        assert status == 200, answer
        return answer

    def stream(self, content: str = "Say hello in one short sentence.", **fields: object) -> list[Any]:
        """The events of a streamed answer; the last one is "[DONE]"."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0, **fields}
        connection, answer = self.send("/v1/chat/completions", {**body, "stream": True})
        assert answer.status == 200
        lines = [line.removeprefix("data: ") for line in answer.read().decode().split("\n\n") if line]
        connection.close()
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def busy(self) -> int:
        """How many requests the engine works on."""
        _, text = self.ask("/metrics", None, "GET")
        (line,) = [line for line in str(text).splitlines() if line.startswith("llamacpp:requests_processing ")]
        return int(float(line.split()[1]))


def said(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


@contextmanager
def talking(path: Path, settings: Settings | None = None, sha256: str | None = None) -> Iterator[Talk]:
    talk = Talk(Engine(path, settings, alias="smollm2-135m", sha256=sha256))
    try:
        yield talk
    finally:
        talk.close()
