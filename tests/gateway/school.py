"""A gateway with a task over the rig's provider, which is its teacher, and students that say what a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs
from tests.gateway.rig import Rig, Script, by_wish, rig, until

from lilliput.gateway.tasks import Tasks
from lilliput.loop.drift import Reference
from lilliput.neutral import Problem
from lilliput.store.sqlite import SqliteStore
from lilliput.store.tasks import SqliteTasks
from lilliput.tasks import Audited, Frame, Guess, Student, Task, Threshold

NAME = "greet"
TASK = Task(name=NAME, teacher="p/m", kind="text", keys=("k1",), consent="we agreed", terms="allowed")
SURE = Threshold(confidence=0.9, alpha=0.05, delta=0.1, items=100, coverage=0.5, bound=0.04, method="none")
Says = Callable[[str], Awaitable[Guess]]


def saying(answer: str = "hello", confidence: float = 0.973, wait_s: float = 0.0) -> Says:
    async def guess(text: str) -> Guess:
        await asyncio.sleep(wait_s)
        return Guess(answer=answer, confidence=confidence, ms=1.5, tokens=(4, 1))

    return guess


class Pupil:
    """A student: `task_students.Runner`."""

    def __init__(self, says: Says, id: str, form: Any = "baseline") -> None:
        self.says, self.heard, self.is_started, self.is_stopped, self.busy = says, list[str](), False, False, 0
        self.student = Student(id=id, task=NAME, kind="text", form=form, frame=Frame(), threshold=SURE)

    async def start(self) -> None:
        self.is_started = True

    async def stop(self) -> None:
        assert self.busy == 0, "it was stopped under a guess"
        self.is_stopped = True

    async def guess(self, text: str) -> Guess:
        if self.is_stopped:
            raise Problem("server", "it is stopped", code="student_stopped")
        self.heard.append(text)
        self.busy += 1
        try:
            return await self.says(text)
        finally:
            self.busy -= 1


class School:
    """What a test looks at; also `task_students.Bundles`."""

    def __init__(self, r: Rig, store: SqliteTasks) -> None:
        self.r, self.store, self.pupils = r, store, dict[str, Pupil]()
        self.blocked: set[str] = set()
        self.references: dict[str, Reference] = {}
        self.dice = 0.0
        self.tasks: Tasks

    def runner(self, id: str) -> Pupil:
        if id in self.blocked or id not in self.pupils:
            raise Problem("server", f"there is no {id}", code="student_broken")
        return self.pupils[id]

    def may_serve(self, id: str) -> bool:
        return id not in self.blocked

    def reference(self, id: str) -> Reference | None:
        return self.references.get(id)

    async def put(self, **fields: Any) -> Task:
        """The task, changed."""
        old = await self.store.task(NAME)
        task = await self.store.put(structs.replace(old or TASK, **fields))
        self.tasks.changed(NAME)
        return task

    async def hire(self, says: Says, id: str = "0123456789abcdef", **fields: Any) -> Pupil:
        """A student in place, and running."""
        pupil = self.pupils[id] = Pupil(says, id)
        await self.put(student=id, **{"state": "live", **fields})
        await until(lambda: (NAME, id) in self.tasks.students.running())
        return pupil

    async def rows(self, n: int) -> list[Any]:
        await self.quiet()
        found = await self.store.rows(NAME)
        assert len(found) == n, found
        return found

    async def audits(self, n: int) -> list[Audited]:
        await self.quiet()
        found = await self.store.audits(NAME)
        assert len(found) == n, found
        return found

    async def quiet(self) -> None:
        """All that came of the answers so far is done."""
        await until(lambda: not self.tasks._jobs)

    async def ask(self, text: str = "hi", **fields: Any) -> Any:
        return await self.r.chat(model=f"task/{NAME}", **{"messages": [{"role": "user", "content": text}], **fields})


@contextlib.asynccontextmanager
async def school(
    place: Path,
    script: Script = by_wish,
    *,
    r: Rig | None = None,
    pupils: Mapping[str, Pupil] | None = None,
    **more: Any,
) -> AsyncIterator[School]:
    async with contextlib.AsyncExitStack() as stack:
        if r is None:
            r = await stack.enter_async_context(rig(script))
        sqlite = SqliteStore(place / "tasks.db")
        stack.push_async_callback(sqlite.close)
        made = School(r, SqliteTasks(sqlite))
        made.pupils.update(pupils or {})
        made.tasks = r.gate.tasks = Tasks(r.gate, made.store, made, dice=lambda: made.dice, **more)
        await made.tasks.start()
        stack.push_async_callback(made.tasks.close)
        if await made.store.task(NAME) is None:
            await made.put()
        yield made


def route(answer: Any) -> str:
    return str(answer.headers["x-lilliput-route"])


def text_of(dialect: str, answer: Any) -> str:
    """What a caller of this dialect reads, streamed or not."""
    body = answer.body.decode()
    if not body.startswith(("{", "[")):
        pieces = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    else:
        whole = json.loads(body)
        pieces = whole if isinstance(whole, list) else [whole]
    out = ""
    for p in pieces:
        match dialect:
            case "chat":
                out += "".join((c.get("message") or c["delta"]).get("content") or "" for c in p["choices"])
            case "completions":
                out += "".join(c["text"] for c in p["choices"])
            case "messages":
                out += p.get("delta", {}).get("text", "") + "".join(c["text"] for c in p.get("content", ()))
            case "generate":
                out += "".join(
                    x.get("text", "") for c in p["candidates"] for x in c.get("content", {}).get("parts", ())
                )
            case "responses":
                done = p if p.get("object") == "response" else {}
                if p.get("type") == "response.output_text.delta":
                    out += p["delta"]
                out += "".join(c["text"] for o in done.get("output", ()) for c in o.get("content", ()))
    return out


HI = [{"role": "user", "content": "hi"}]
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
DOORS: list[tuple[str, bool, str, dict[str, Any]]] = [
    ("chat", False, "/v1/chat/completions", {"messages": HI}),
    ("chat", True, "/v1/chat/completions", {"messages": HI}),
    ("responses", False, "/v1/responses", {"input": "hi"}),
    ("responses", True, "/v1/responses", {"input": "hi"}),
    ("messages", False, "/v1/messages", {"max_tokens": 50, "messages": HI}),
    ("messages", True, "/v1/messages", {"max_tokens": 50, "messages": HI}),
    ("generate", False, f"/v1beta/models/task/{NAME}:generateContent", GEMINI),
    ("generate", True, f"/v1beta/models/task/{NAME}:streamGenerateContent?alt=sse", GEMINI),
    ("generate", True, f"/v1beta/models/task/{NAME}:streamGenerateContent", GEMINI),
    ("completions", False, "/v1/completions", {"prompt": "hi"}),
    ("completions", True, "/v1/completions", {"prompt": "hi"}),
]


async def knock(r: Rig, door: tuple[str, bool, str, dict[str, Any]], **more: Any) -> Any:
    dialect, stream, path, body = door
    named = {} if dialect == "generate" else {"model": f"task/{NAME}", "stream": stream}
    return await r.ask("POST", path, {**body, **named}, **more)
