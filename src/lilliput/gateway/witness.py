"""A visit whose answer is also seen by others: what is kept to be given again, and what is put on record byte by byte.

It changes nothing of the answer. Where nobody looks, `exchange` makes none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lilliput.gateway.exchange import Lines, Visit
from lilliput.neutral import Key, Problem


class Witness:
    """`exchange.Visit` around another: all is handed on, then `begun(status, headers)` and `heard(data)` are told.

    `data` is what the caller gets, without the transfer's framing; `has_ended` is true once the last of it was handed
    on.
    """

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.status = 0
        self.has_ended = False
        self.key: Key = visit.key
        self.body = visit.body
        self.method = visit.method
        self.target = visit.target
        self.request_id = visit.request_id

    def begun(self, status: int, headers: Lines) -> None:
        """The answer began."""

    def heard(self, data: bytes) -> None:
        """A piece of it went out."""

    @property
    def has_started(self) -> bool:
        return self._visit.has_started

    @has_started.setter
    def has_started(self, value: bool) -> None:
        self._visit.has_started = value

    @property
    def last_word(self) -> Callable[[Problem], bytes]:
        return self._visit.last_word

    @last_word.setter
    def last_word(self, word: Callable[[Problem], bytes]) -> None:
        self._visit.last_word = word

    @property
    def dialect(self) -> str:
        return self._visit.dialect

    def header(self, name: bytes) -> bytes | None:
        return self._visit.header(name)

    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None] | None:
        self._begin(status, headers)
        self.heard(body)
        self.has_ended = True
        return self._visit.reply(status, headers, body)

    def start(self, status: int, headers: Lines) -> Awaitable[None] | None:
        self._begin(status, headers)
        return self._visit.start(status, headers)

    def write(self, data: bytes) -> Awaitable[None] | None:
        self.heard(data)
        return self._visit.write(data)

    def finish(self) -> Awaitable[None] | None:
        self.has_ended = True
        return self._visit.finish()

    def _begin(self, status: int, headers: Lines) -> None:
        self.status = status
        self.begun(status, headers)
