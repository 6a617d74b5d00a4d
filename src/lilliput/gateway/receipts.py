"""A receipt for each paid request: what was asked, sent, received and delivered, by hash and length, and what it cost.

No word of a prompt or an answer is in it. It is written when the request is closed, which is when all of it is known:
whether the caller stayed, what was settled. What keeps receipts is handed in (`Book`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from lilliput.gateway.exchange import Lines, Operation, Visit
from lilliput.gateway.observe import Record
from lilliput.gateway.witness import Witness
from lilliput.neutral import Problem, Target, Usage
from lilliput.wire import dialects

MOST_NAME = 256
MOST_DROPPED = 100
"""Names in a receipt come from callers: so long and so many at most."""

log = logging.getLogger("lilliput")


class Book(Protocol):
    """What keeps receipts: each is there when `add` returns; raises Problem (503) when it cannot be."""

    def add(self, fields: Mapping[str, object]) -> None: ...
    def close(self) -> None: ...


class Receipts:
    """`exchange.Receipts`: while receipts cannot be written nothing new is served, and none is lost for it.

    `price` names the prices that costs are reckoned with.
    """

    def __init__(self, book: Book, price: str) -> None:
        self._book, self.price = book, price
        self._unwritten: list[Mapping[str, object]] = []

    def open(self, visit: Visit, op: Operation, record: Record) -> Watched:
        """The visit, watched; raises Problem (503) while earlier receipts cannot be written."""
        if self._unwritten:
            self._write()
        seat = Watched(self, visit, op)
        record.trace = seat
        return seat

    def put(self, fields: Mapping[str, object]) -> None:
        self._unwritten.append(fields)
        try:
            self._write()
        except Problem as problem:
            log.error("a receipt could not be written: %s", problem.say)

    def close(self) -> None:
        """Ends the book, with what could not be written before if it can be now."""
        try:
            self._write()
            self._book.close()
        except Problem as problem:
            log.error("%d receipts are lost: %s", len(self._unwritten), problem.say)

    def _write(self) -> None:
        while self._unwritten:
            self._book.add(self._unwritten[0])
            del self._unwritten[0]


class Digest:
    """Bytes as they pass, by their SHA-256 and their number."""

    __slots__ = ("_bytes", "_sha")

    def __init__(self, data: bytes = b"") -> None:
        self._sha, self._bytes = hashlib.sha256(data), len(data)

    def add(self, data: bytes) -> None:
        self._sha.update(data)
        self._bytes += len(data)

    def told(self) -> dict[str, object]:
        return {"sha256": self._sha.hexdigest(), "bytes": self._bytes}


class Watched(Witness):
    """One request under watch: `exchange.Seat`, and `observe.Trace` for what goes to providers."""

    def __init__(self, receipts: Receipts, visit: Visit, op: Operation) -> None:
        super().__init__(visit)
        self._receipts, self._op = receipts, op
        self._line = b"x-lilliput-receipt: %b\r\n" % visit.request_id
        self._delivered = Digest()
        self._sent: Digest | None = None
        self._received: Digest | None = None
        self._spoken = ""
        self.heard = self._delivered.add  # type: ignore[method-assign]

    def reply(self, status: int, headers: Lines, body: bytes) -> Awaitable[None] | None:
        return super().reply(status, headers + self._line, body)

    def start(self, status: int, headers: Lines) -> Awaitable[None] | None:
        return super().start(status, headers + self._line)

    def sent(self, target: Target, body: bytes) -> Callable[[bytes], object]:
        """A try begins, and with it what is told of what came before is forgotten."""
        self._sent, self._received = Digest(body), Digest()
        self._spoken = dialects.passes(self._op.dialect, target) or target.dialect
        return self._received.add

    async def closed(self, record: Record) -> None:
        self._receipts.put(
            {
                "id": record.request_id.decode(),
                "at": record.began_at,
                "account": record.key_id,
                "operation": record.operation,
                "dialect": self._op.dialect,
                "stream": record.is_stream,
                "model": record.model[:MOST_NAME],
                "served": record.served_by[:MOST_NAME],
                "provider": record.served_by.partition("/")[0],
                "tries": record.tries,
                "policy": record.why.decode(),
                "asked": Digest(self.body).told(),
                "sent": self._sent and self._sent.told(),
                "received": self._received and self._received.told(),
                "delivered": self._delivered.told(),
                "transforms": self._transforms(record),
                "usage": record.usage and _buckets(record.usage),
                "price": self._receipts.price,
                "cost_nusd": record.cost_nusd,
                "status": self.status,
                "problem": record.problem and (record.problem.code or record.problem.fault)[:MOST_NAME],
                "ended": self.has_ended,
                "left_early": record.left_early,
            }
        )

    def _transforms(self, record: Record) -> list[str]:
        """What was done to the request and the answer on their way."""
        if self._sent is None:
            return []
        asked = self._op.dialect
        way = f"pass {asked}" if self._spoken in dialects.SAME[asked] else f"translate {asked} to {self._spoken}"
        dropped = [f"drop {name[:MOST_NAME]}" for name in record.dropped[:MOST_DROPPED]]
        return [way, *dropped, *(["add usage.cost"] if record.told_cost else [])]


def _buckets(usage: Usage) -> dict[str, object]:
    """The tokens, bucket by bucket, without those that are empty and without the provider's own words."""
    counts: dict[str, object] = {
        name: n for name in usage.__struct_fields__ if isinstance(n := getattr(usage, name), int) and n
    }
    return {**counts, "doubts": usage.doubts} if usage.doubts else counts
