"""The base as it comes, told the task in words: what every student is compared with. Writes `predict/base.SPLIT.jsonl`.

It is asked as its makers meant it to be, by its own chat template. A label is its name's first token, or a letter
where two names begin alike; an extraction is JSON, held to the task's schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lilliput.local.model import Model
from lilliput.loop.form import Form, form
from lilliput.neutral import Problem
from lilliput.studio.parts import Facts, Tell, Work
from lilliput.studio.served import predict
from lilliput.tasks import Guess, Task

PLACE = "TEXT-STANDS-HERE"
PROMPT_TOKENS = 1024
"""Room for the template, the task's own words and the list of labels or the schema."""


class ZeroShot:
    """The weights of `path` asked for a task's answers; `head` and `tail` stand around every text, as its callers
    wrote them."""

    def __init__(
        self, path: Path, task: Task, *, head: str = "", tail: str = "", threads: int = 0, answer_tokens: int = 128
    ) -> None:
        self._path, self._task, self._head, self._tail = path, task, head, tail
        self._threads, self._answer_tokens = threads, answer_tokens
        self._around = ("", "")
        self._model = self._made(task.labels)

    async def start(self) -> None:
        """The names of labels are tried first, then letters."""
        try:
            await self._told(self._asked(""))
        except Problem as e:
            if e.code != "student_broken":
                raise
            await self._model.stop()
            letters = form(self._task.kind, self._task.labels).codes()
            self._model = self._made(tuple(c.strip() for c in letters))
            options = "\n".join(f"{c.strip()}. {label}" for c, label in zip(letters, self._task.labels, strict=True))
            await self._told(f"{self._asked(options)} Answer with its letter alone.")

    async def stop(self) -> None:
        await self._model.stop()

    async def read(self, text: str) -> Guess:
        return await self._model.read(text)

    async def _told(self, asked: str) -> None:
        """Start the model with the template around what is asked. The template is its own, so it is asked first."""
        before, found, after = (await self._model.template(asked)).partition(PLACE)
        if not found:
            raise Problem("server", f"the chat template of {self._path.name} leaves the message out")
        self._around = (before, after)
        await self._model.start()

    def _asked(self, options: str) -> str:
        text = f"{self._head}{PLACE}{self._tail}"
        if self._task.kind == "text":
            return f"{text}\nAnswer as briefly as you can."
        if self._task.kind == "label":
            return f"{text}\nWhich of these fits best?\n{options or ', '.join(self._task.labels)}"
        schema = bytes(self._task.schema or b"").decode()
        return f"{text}\nWrite what it says as JSON of this schema: {schema}"

    def _made(self, codes: Sequence[str]) -> Model:
        task = self._task
        return Model(
            self._path,
            form(task.kind, task.labels) if task.kind != "extract" else Form(kind="extract", schema=task.schema),
            threads=self._threads,
            parallel=1,
            answer_tokens=self._answer_tokens,
            prompt_tokens=PROMPT_TOKENS,
            prompt=lambda text: text.strip().join(self._around),
            codes=codes,
            same_start=True,
        )


def zeroshot(work: Work, out: Path, tell: Tell) -> Facts:
    """Predicts test with the plain base: nothing is chosen for it on cal."""
    if work.weights is None:
        raise Problem("client", f"the weights of {work.recipe.base!r} are not here; fetch them with `lilliput pull`")
    frame = work.frame()
    base = ZeroShot(
        work.weights, work.task, head=frame.head, tail=frame.tail, threads=work.recipe.threads,
        answer_tokens=work.recipe.max_answer_tokens,
    )  # fmt: skip
    return predict(work, base, "base", ("test",), tell)
