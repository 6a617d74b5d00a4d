"""A small model that answers one task: the engine of its weights, and what is asked of it.

A label is told in one step: the bias lifts the labels' codes above all other tokens by the same amount, so the
probabilities over them are exactly the model's softmax over the codes, however unlikely they all were (llama.cpp's
server, tools/server/README.md, `logit_bias` and `post_sampling_probs`, checked 2026-11-23).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from lilliput.local import guard
from lilliput.local.call import Calls
from lilliput.local.engine import COMMAND, Engine
from lilliput.local.settings import Adapter, Settings
from lilliput.loop import confidence
from lilliput.loop.form import Form
from lilliput.neutral import Problem
from lilliput.tasks import Guess

log = logging.getLogger("lilliput")
BIAS = 100.0
"""Far above any distance between logits, and small enough that float32 keeps them to 1e-5."""
PROMPT_TOKENS = 64
"""Room for what the prompt adds to the text."""
CHARS_A_TOKEN = 16
FIELDS = ("content", "completion_probabilities", "tokens_evaluated", "tokens_predicted", "stop_type")


class _Top(Struct):
    id: int
    prob: float


class _Token(Struct):
    token: str = ""
    logprob: float = 0.0
    top_probs: list[_Top] = []


class _Completion(Struct):
    content: str
    tokens_evaluated: int
    tokens_predicted: int
    stop_type: str
    completion_probabilities: list[_Token] = []


class _Tokens(Struct):
    tokens: list[int]


class _Content(Struct):
    content: str


class _Prompt(Struct):
    prompt: str


class Model:
    """The model at `path` for answers of `form`, not yet started.

    It reads `prompt(text)`, of texts the first `text_tokens`; for a label it writes the first token of one of `codes`.
    Nothing of a prompt is kept for the next one, so that no caller can tell by the time what others asked;
    `same_start` keeps it, for prompts that share a long beginning of our own.
    """

    def __init__(
        self,
        path: Path,
        form: Form,
        *,
        alias: str = "",
        sha256: str | None = None,
        adapters: Sequence[Adapter] = (),
        text_tokens: int = 192,
        answer_tokens: int = 128,
        prompt_tokens: int = PROMPT_TOKENS,
        threads: int = 0,
        parallel: int = 4,
        prompt: Callable[[str], str] | None = None,
        codes: Sequence[str] = (),
        same_start: bool = False,
        command: Sequence[str] = COMMAND,
    ) -> None:
        room = text_tokens + answer_tokens + prompt_tokens
        settings = Settings(context_tokens=-(-room // 64) * 64, parallel=parallel, threads=threads)
        self.engine = Engine(path, settings, alias=alias, sha256=sha256, adapters=adapters, command=command)
        self.form, self.text_tokens = form, text_tokens
        self._prompt = prompt or form.prompt
        self._codes = tuple(codes) or form.codes()
        self._answer_tokens, self._same_start = answer_tokens, same_start
        self._calls = Calls(self.engine)
        self._labels: dict[int, str] = {}
        self._asks = b""
        self._reviving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the engine, and read one text, so that the first real one is as quick as the others."""
        if self.form.kind == "label":
            firsts = [(await self._tokens(code))[:1] for code in self._codes]
            self._labels = {
                token: label for first, label in zip(firsts, self.form.labels, strict=True) for token in first
            }
            if len(self._labels) < len(self.form.labels):
                say = f"the tokenizer of {self.engine.alias} writes two labels with the same first token"
                raise Problem("server", say, code="student_broken")
        self._asks = self._rest()
        await self.read("warm")

    async def stop(self) -> None:
        self._calls.close()
        await self.engine.stop()

    def refuse_dead(self) -> None:
        """Raises Problem (503) when the engine is down, and starts it again beside: no caller waits for that."""
        if self.engine.running:
            return
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._revive(), name=f"revive {self.engine.alias}")
        say = f"the engine of {self.engine.alias} is starting again"
        raise Problem("server", say, code="engine_unavailable", retry_after_s=1.0)

    async def _revive(self) -> None:
        try:
            await self.engine.address()
        except Problem as e:
            log.warning("%s", e.say)

    async def read(self, text: str) -> Guess:
        """What it answers, with its own confidence, not yet calibrated: none and 0 where what it wrote is not well
        formed, or the text too long to write it from.

        Raises Problem (503, `engine_unavailable`) when its engine does not run.
        """
        began = time.perf_counter()
        kept = await self._cut(text)
        if kept is None:
            return Guess(answer="", confidence=0.0, ms=(time.perf_counter() - began) * 1e3)
        prompt = msgspec.json.encode(self._prompt(kept))
        done = await self._calls.post("/completion", b'{"prompt":' + prompt + self._asks, _Completion)
        counts = (done.tokens_evaluated, done.tokens_predicted)
        if self.form.kind == "label":
            top = done.completion_probabilities[0].top_probs if done.completion_probabilities else []
            scores = dict.fromkeys(self.form.labels, 0.0)
            scores.update((self._labels[t.id], t.prob) for t in top if t.id in self._labels)
            answer: str | None = max(scores, key=scores.__getitem__)
            sure = scores[answer or ""]
        else:
            scores = {}
            answer = self.form.answer(done.content) if done.stop_type != "limit" else None
            written = [(t.token, math.exp(t.logprob)) for t in done.completion_probabilities]
            sure = confidence.raw(self.form.kind, written) if answer is not None else 0.0
        ms = (time.perf_counter() - began) * 1e3
        return Guess(answer=answer or "", confidence=sure, scores=scores, ms=ms, tokens=counts)

    async def _cut(self, text: str) -> str | None:
        """The first `text_tokens` of a text where a label is asked for, else None when it has more: what was cut away
        might be what is to be written. The engine is asked only where it may have more."""
        if len(text.encode()) <= self.text_tokens:
            return text
        start = text[: self.text_tokens * CHARS_A_TOKEN]
        tokens = await self._tokens(start)
        if len(tokens) <= self.text_tokens and start == text:
            return text
        if self.form.kind != "label":
            return None
        body = msgspec.json.encode({"tokens": tokens[: self.text_tokens]})
        return (await self._calls.post("/detokenize", body, _Content)).content

    async def template(self, content: str) -> str:
        """The prompt of a chat with one user message, as the weights' own template writes it."""
        body = msgspec.json.encode({"messages": [{"role": "user", "content": content}]})
        return (await self._calls.post("/apply-template", body, _Prompt)).prompt

    async def _tokens(self, text: str) -> list[int]:
        body = msgspec.json.encode({"content": text, "add_special": False, "parse_special": False})
        return (await self._calls.post("/tokenize", body, _Tokens)).tokens

    def _rest(self) -> bytes:
        """All of a request that stands behind its prompt: the same for every text."""
        body: dict[str, object] = {"cache_prompt": self._same_start, "response_fields": FIELDS, "seed": 1}
        if self.form.kind == "label":
            n = len(self._labels)
            body |= {"n_predict": 1, "n_probs": n, "post_sampling_probs": True, "top_k": n, "temperature": 1.0}
            body |= {"samplers": ["top_k", "temperature"], "logit_bias": [[token, BIAS] for token in self._labels]}
        else:
            body |= {"n_predict": self._answer_tokens, "n_probs": 1, "temperature": 0.0, "samplers": ["temperature"]}
            if self.form.schema is not None:
                guard.schema(bytes(self.form.schema), "schema")
            if grammar := self.form.grammar():
                body["grammar"] = grammar
            elif self.form.schema is not None:
                body["json_schema"] = self.form.schema
        return b"," + msgspec.json.encode(body)[1:]
