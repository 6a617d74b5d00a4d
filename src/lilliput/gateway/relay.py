"""A streamed answer on its way from a provider to the caller: as bytes that pass, or as events from dialect to dialect.

Nothing goes out before the first real output: until then another target can still be asked. After it, trouble is told
inside the stream, and the stream never ends as if it were whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lilliput.gateway.answer import Answer
from lilliput.gateway.exchange import Lines, Visit, dollars, told
from lilliput.gateway.observe import Record
from lilliput.neutral import Began, Counted, Problem
from lilliput.wire import cost, custom_tools
from lilliput.wire.broken import invalid_answer
from lilliput.wire.port import Reader, Watch, Writer

SSE = b"text/event-stream; charset=utf-8"

Closing = Callable[[object], Awaitable[None]]
"""What is to be done before the caller learns that the answer is over; it gets the watch or the writer."""


async def passing(
    visit: Visit,
    record: Record,
    answer: Answer,
    watch: Watch,
    content_type: bytes = SSE,
    closing: Closing | None = None,
) -> None:
    """Relays the provider's own bytes, each event checked; raises the Problem that cut it short."""
    visit.last_word = watch.problem
    last: list[bytes] = []
    is_closed = False
    lines = head(record, content_type)

    def give(out: bytes) -> Awaitable[None] | None:
        if watch.done or watch.trouble is not None:
            answer.stop()
            if closing is not None and watch.done and not is_closed:
                last.append(out)
                return None
        if out and closing is not None and record.is_held:  # the usage at the end waits for its cost
            waits = watch.trouble is None and cost.may_be_last(out)
            out, last[:] = b"".join(last) + (b"" if waits else out), [out] if waits else []
        if not out:
            return None
        if not visit.has_started:
            visit.start(200, lines)
            record.first_at = record.clock()
        record.pieces += 1
        return visit.write(out)

    feed = watch.feed
    try:
        await answer.pour(lambda chunk: give(feed(chunk)))
        if not watch.done and watch.trouble is None:
            end = watch.end()
            slow = give(end)
            if slow is not None:
                await slow
        if watch.trouble is not None:
            raise _unasked(answer) or watch.trouble
    finally:
        record.usage = watch.usage
        if last and not watch.done and visit.has_started:
            visit.write(b"".join(last))
    if closing is not None:
        await closing(watch)
        is_closed = True
        out = priced(record, cost.events, b"".join(last))
        last.clear()
        slow = give(out)
        if slow is not None:
            await slow
    slow = visit.finish()
    if slow is not None:
        await slow


class Translated:
    """One stream from a reader to a writer."""

    def __init__(
        self,
        visit: Visit,
        record: Record,
        answer: Answer,
        reader: Reader,
        writer: Writer,
        restore: custom_tools.Restore | None = None,
        closing: Closing | None = None,
    ) -> None:
        self.visit, self.record, self.answer = visit, record, answer
        self.reader, self.writer, self.restore, self.closing = reader, writer, restore, closing
        self.held: list[bytes] = []
        self.trouble: Problem | None = None

    async def run(self) -> bool:
        """Relays to the end; raises the Problem that cut it short. True when only a formal end is left to be read."""
        visit, reader = self.visit, self.reader
        visit.last_word = self.writer.problem
        await self.answer.pour(self.take)
        slow = self.take(b"") if self.trouble is None else None
        if slow is not None:
            await slow
        if self.trouble is not None:
            raise _unasked(self.answer) or self.trouble
        if not visit.has_started:
            raise invalid_answer(b"", "it is empty")
        end = self.writer.end()
        if self.closing is not None:
            await self.closing(self.writer)
        slow = self.give(priced(self.record, cost.events, end))
        if slow is not None:
            await slow
        slow = visit.finish()
        if slow is not None:
            await slow
        return reader.done

    def take(self, chunk: bytes) -> Awaitable[None] | None:
        """Reads a piece of the answer, b"" its end, and writes what it says."""
        reader = self.reader
        try:
            events = reader(chunk)
        except Problem as problem:
            events, self.trouble = (), problem
        else:
            self.trouble = reader.trouble
        if self.trouble is not None or reader.done:
            self.answer.stop()
        if self.restore is not None:
            events = self.restore(events)
        writer, out = self.writer, b""
        has_started = self.visit.has_started
        for e in events:
            out += writer(e)
            if isinstance(e, Counted):
                self.record.usage = e.usage
            elif not has_started and not isinstance(e, Began):
                has_started = True
                self.start()
        return self.give(out) if out else None

    def start(self) -> None:
        self.visit.start(200, head(self.record, self.writer.content_type))
        self.record.first_at = self.record.clock()

    def give(self, out: bytes) -> Awaitable[None] | None:
        if not self.visit.has_started:
            self.held.append(out)
            return None
        self.record.pieces += 1
        if self.held:
            out = b"".join([*self.held, out])
            self.held.clear()
        return self.visit.write(out) if out else None


def priced(record: Record, tell: Callable[[bytes, str], bytes], data: bytes) -> bytes:
    """The end of an answer with its cost told in it, where that is known."""
    if record.cost_nusd is None:
        return data
    priced = tell(data, dollars(record.cost_nusd))
    record.told_cost = priced != data
    return priced


def _unasked(answer: Answer) -> Problem | None:
    """What is wrong with an answer that cannot be read because it is compressed, which we never ask for."""
    encoding = answer.header(b"content-encoding")
    return invalid_answer(encoding, "it is compressed, unasked") if encoding not in (None, b"identity") else None


def head(record: Record, content_type: bytes) -> Lines:
    """The header lines of a stream."""
    kind = b"content-type: %b\r\ncache-control: no-cache\r\n" % content_type
    return kind + told(record)
