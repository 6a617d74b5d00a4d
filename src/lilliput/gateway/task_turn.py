"""One request to a task: what its student makes of it, what goes to the caller, and what of the answer is kept.

What is done with it afterwards is `tasks`' business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw, structs

from lilliput.catalogue.rows import LOCAL
from lilliput.gateway.chat import Ask, Chat
from lilliput.gateway.exchange import Operation, Visit
from lilliput.gateway.gates import Gate
from lilliput.gateway.observe import Record
from lilliput.gateway.task_audit import said
from lilliput.gateway.task_students import FAILURES, Slot, Students
from lilliput.gateway.witness import Witness
from lilliput.loop.frame import cut
from lilliput.loop.redact import Redactor
from lilliput.neutral import Began, Counted, Ended, Event, Problem, Request, Said, Target, Text, Usage
from lilliput.tasks import PREFIX, Guess, Row, Task, served_by
from lilliput.wire import dialects

MOST_READ = 1 << 16
"""Bytes of a body that may be a student's; a longer one is its teacher's unread."""
MOST_KEPT = 1 << 18
"""Bytes of a body, and of an answer, that may become a row."""
BYTES_A_TOKEN = 4
AWAY = frozenset({"provider", "timeout", "server"})
"""Faults of a teacher that is out of reach."""
ONLY_TEACHERS = frozenset(
    ("modalities", "audio", "suffix", "echo", "best_of", "background", "web_search_options", "responseModalities")
)
"""Fields that ask for what no student gives."""
PLACE = Target(provider="task", model="task")
log = logging.getLogger("lilliput")
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


class Turn(Witness):
    """`exchange.Turn`. Its key is the caller's without a scope: who may call the task may have its teacher's answer.

    A guess that was not served is held against the teacher's answer afterwards.
    """

    def __init__(
        self, visit: Visit, op: Operation, task: Task, students: Students, limit_s: float, closed: Callable[..., object]
    ) -> None:
        super().__init__(visit)
        self.key = structs.replace(visit.key, models=())
        self.op, self.task = op, task
        self.guess: Guess | None = None
        self.slot: Slot | None = None
        self.text: str | None = None
        self.answer = ""
        self.is_served = self.is_kept = self.is_captured = False
        self.why: str = task.state
        self.ask: Ask
        self._students, self._limit_s, self._closed = students, limit_s, closed
        self._redactor: Redactor | None = None
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._is_asked = False

    def header(self, name: bytes) -> bytes | None:
        """A task's answers are kept by no cache: they would outlive the student that gave them."""
        return b"no-store" if name == b"cache-control" else super().header(name)

    def heard(self, data: bytes) -> None:
        if self.is_kept:
            self._size_bytes += len(data)
            if self._size_bytes <= MOST_KEPT:
                self._pieces.append(data)

    async def answered(self, gate: Gate, visit: Visit, op: Operation, ask: Any, record: Record) -> bool:
        if self.task.state != "live" or not isinstance(op, Chat):
            return False
        await self._guess()
        if not self.is_sure:
            self._teachers(record)
            return False
        await self._give(gate, visit, op, record, b"sure")
        return True

    async def rescued(
        self, gate: Gate, visit: Visit, op: Operation, ask: Any, record: Record, problem: Problem
    ) -> bool:
        if self.task.state != "live" or not isinstance(op, Chat) or visit.has_started or problem.fault not in AWAY:
            return False
        if self.is_served:  # and could not be put on record
            return False
        if not self._is_asked:  # there was no way to the teacher to begin with
            await self._guess()
        if self.guess is None or not (self.is_sure or self.task.offline == "degraded"):
            return False
        try:
            if gate.till is not None and record.taken is None and not record.is_held:
                name = self.served_by.removeprefix(f"{LOCAL}/")
                here = Target(provider=LOCAL, model=name)
                await gate.till.open(self.key, here, record, len(self.body), ask.most)
            if not self.is_sure:
                record.lines += b"x-lilliput-degraded: true\r\n"
            await self._give(gate, visit, op, record, b"sure" if self.is_sure else b"offline")
        except Problem as fault:
            log.warning("task %s: its student's answer was not given: %s", self.task.name, fault.say)
            return False
        return True

    async def closed(self, record: Record) -> None:
        self._closed(self, record)

    @property
    def is_sure(self) -> bool:
        guess, slot = self.guess, self.slot
        return guess is not None and slot is not None and guess.confidence >= slot.student.threshold.confidence

    @property
    def served_by(self) -> str:
        return served_by(self.task.name, self.slot.student.id if self.slot is not None else "")

    async def _guess(self) -> None:
        """What the student makes of it, if it can; `why` says why not."""
        self._is_asked = True
        self.slot = slot = self._students.slot(self.task.name, self.task.student)
        if slot is None or slot.is_busy:
            self.why = "starting" if slot is None else "busy"
            return
        self.text = self.fit(slot)
        if self.text is None:
            return
        self.guess = await self.guessed(slot, self.text, self._limit_s)
        slot.see(self.text, self.is_sure)

    async def guessed(self, slot: Slot, text: str, limit_s: float) -> Guess | None:
        """The guess, with what is in `answer`; None, and `why` says why, where there is none."""
        try:
            guess = await self._students.guess(slot, text, limit_s)
        except TimeoutError:
            self.why = "late"
            return None
        except FAILURES:
            self.why = "down"
            return None
        assert self._redactor is not None
        self.answer = self._redactor.restore(guess.answer, escaped=self.task.kind == "extract")
        if not guess.answer:
            self.why = "unsure"
            return None
        most = self._request().max_tokens
        if most and max(guess.tokens[1], len(self.answer) // BYTES_A_TOKEN) > most:
            self.why = "form"
            return None
        self.why = "unsure"
        return guess

    def fit(self, slot: Slot) -> str | None:
        """The text for the student, without what is somebody's, as it was trained; None for a request of the
        teacher's."""
        if len(self.body) > MOST_READ:
            self.why = "long"
            return None
        request = self._request()
        if not may_ask(self.task, request):
            self.why = "form"
            return None
        try:
            self._redactor = Redactor()
            hidden, _ = self._redactor.redact_messages(messages(request))
        except Problem:
            self.why = "form"
            return None
        text = cut(slot.student.frame, hidden)
        if text is None:
            self.why = "frame"
        return text

    def row(self, record: Record, answer: str) -> Row | None:
        """The row of an answer that the teacher gave; None for a request that has no such form."""
        redactor = Redactor()
        request = self._request()
        try:
            asked, in_asked = redactor.redact_messages(messages(request))
        except Problem:
            return None
        hidden, in_answer = redactor.redact(answer)
        return Row(
            id=record.request_id.decode(),
            task=self.task.name,
            at=record.began_at,
            key=self.key.id,
            messages=asked,
            answer=hidden,
            teacher=self.task.teacher,
            consent=self.task.consent,
            terms=self.task.terms,
            subject=request.user or "",
            redacted=in_asked + in_answer,
        )

    def told(self, record: Record) -> str | None:
        """The text that the caller got from the teacher; None unless it got the whole of one."""
        is_whole = self.status == 200 and self.has_ended and record.problem is None and not record.left_early
        if not is_whole or self._size_bytes > MOST_KEPT or record.cache in ("hit", "semantic", "idempotent"):
            return None
        return said(self.op.dialect, record.is_stream, b"".join(self._pieces))

    def asks(self, teacher: str) -> bytes:
        """The request as its teacher is asked again, in OpenAI's form."""
        request = structs.replace(self._request(), stream=False, include_usage=False)
        return dialects.provider("openai_chat").write_body(request, structs.replace(PLACE, model=teacher)).body

    def _request(self) -> Request:
        return cast(Chat, self.op).request(self.ask)

    def _teachers(self, record: Record) -> None:
        record.task = b"%b%b; by=teacher; why=%b" % (PREFIX.encode(), self.task.name.encode(), self.why.encode())

    async def _give(self, gate: Gate, visit: Visit, op: Chat, record: Record, why: bytes) -> None:
        guess, slot = self.guess, self.slot
        assert guess is not None
        assert slot is not None
        self.is_served, self.why = True, why.decode()
        record.served_by, record.tries, record.task = self.served_by, 0, b""
        about = (PREFIX.encode(), self.task.name.encode(), slot.student.id[:8].encode(), guess.confidence, why)
        record.route = b"%b%b; by=student; student=%b; confidence=%.3f; why=%b" % about
        read, wrote = guess.tokens if guess.tokens[0] else (estimated(self.text or ""), estimated(self.answer))
        usage = Usage(input=read, output=wrote)
        await op.give(gate, visit, record, self.ask, events(self.served_by, self.answer, usage), usage)


def estimated(text: str) -> int:
    """Tokens of what a student read or wrote that counts none: a baseline's calls would seem to have saved nothing."""
    return -(-len(text.encode()) // BYTES_A_TOKEN)


def events(model: str, answer: str, usage: Usage) -> Sequence[Event]:
    return (Began(model=model), Said(answer), Ended("stop"), Counted(usage))


def messages(request: Request) -> Raw:
    """The messages in OpenAI's form, whatever dialect they came in; raises Problem (400) for what it has no place
    for."""
    return _fields(dialects.provider("openai_chat").write_body(request, PLACE).body)["messages"]


def may_ask(task: Task, r: Request) -> bool:
    """Whether a student can give all that is asked for."""
    if r.tools or (r.n or 1) > 1 or r.logprobs or r.top_logprobs or r.stop or not ONLY_TEACHERS.isdisjoint(r.extra):
        return False
    if not all(isinstance(part, Text) for message in r.messages for part in message.parts):
        return False
    form = r.format
    if form is None or form.kind == "text":
        return True
    if task.kind != "extract" or form.kind == "json":
        return task.kind == "extract"
    schema = form.schema
    return schema is None or _encode(msgspec.json.decode(schema)) == _encode(msgspec.json.decode(task.schema or b"0"))
