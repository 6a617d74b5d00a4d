"""A scripted gateway on a loopback port, for the commands that call one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct, field

WAIT_S = 30.0


class Answer(Struct, frozen=True):
    """What is sent for one POST: `events` as they are, each a write; `hang` then waits for the caller to go."""

    events: tuple[bytes, ...] = ()
    status: int = 200
    hang: bool = False


class Script(Struct):
    base: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


def said(*texts: str, usage: bool = True) -> Answer:
    """A whole streamed answer in OpenAI's form."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        chunks.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}})
    events = [event({"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", **c}) for c in chunks]
    return Answer((*events, b"data: [DONE]\n\n"))


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@contextmanager
def gateway(*answers: Answer) -> Iterator[Script]:
    """Answers each POST with the next of `answers`, and GET /version as lilliput does."""
    script = Script(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"name":"lilliput","version":"0"}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            script.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            script.keys.append(self.headers["authorization"])
            answer = script.answers.pop(0)
            self.send_response(answer.status)
            self.send_header("content-type", "text/event-stream" if answer.status == 200 else "application/json")
            self.end_headers()
            for piece in answer.events:
                self.wfile.write(piece)
                self.wfile.flush()
            if answer.hang:
                self.connection.settimeout(WAIT_S)
                if not self.connection.recv(1):
                    script.hung_up.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.base = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def unused_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
