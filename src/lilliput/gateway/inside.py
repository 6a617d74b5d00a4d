"""A request that the gateway makes of itself: the life of any other (`exchange`), with nobody at the other end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lilliput.gateway.exchange import Lines
from lilliput.neutral import Key, Problem
from lilliput.wire.openai.problem import write_stream_problem

NO_HEADERS: Mapping[bytes, bytes] = {}


class Inside:
    """`exchange.Visit` of the gateway's own, whose answer is a value."""

    def __init__(
        self, key: Key, body: bytes, request_id: bytes, target: bytes, headers: Mapping[bytes, bytes] = NO_HEADERS
    ) -> None:
        self.key, self.body, self.request_id, self.target = key, body, request_id, target
        self.method, self.dialect = b"POST", "openai_chat"
        self.has_started = False
        self.last_word: Callable[[Problem], bytes] = write_stream_problem
        self.status, self.answer = 0, b""
        self._headers = headers

    def header(self, name: bytes) -> bytes | None:
        return self._headers.get(name)

    def reply(self, status: int, headers: Lines, body: bytes) -> None:
        self.has_started, self.status, self.answer = True, status, body

    def start(self, status: int, headers: Lines) -> None:
        self.has_started, self.status = True, status

    def write(self, data: bytes) -> None:
        self.answer += data

    def finish(self) -> None:
        pass
