"""Predictions as they will be served: a bundle, or a model beside it, run over the splits by the engine itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from lilliput.local.student import Runner
from lilliput.studio.parts import Example, Prediction, Tell, Work, write
from lilliput.tasks import Guess


class Reads(Protocol):
    """What answers a text with its own confidence: a `Runner`, or a `Model`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, text: str) -> Guess: ...


def quiet(done: float, say: str, **figures: float) -> None:
    """For whoever has nobody to tell."""


def predict_served(
    work: Work, bundle: Path, who: str, splits: Sequence[str] = ("cal", "test"), tell: Tell = quiet
) -> dict[str, int]:
    """Runs a published bundle over splits and writes `predict/WHO.SPLIT.jsonl`; how many of each. One text at a time,
    so that `ms` is what a caller alone would wait."""
    return predict(work, Runner(bundle, work.weights, threads=work.recipe.threads), who, splits, tell)


def predict(work: Work, reader: Reads, who: str, splits: Sequence[str], tell: Tell = quiet) -> dict[str, int]:
    """The same of any reader, not yet started."""
    return asyncio.run(_predict(work, reader, who, splits, tell))


async def _predict(work: Work, reader: Reads, who: str, splits: Sequence[str], tell: Tell) -> dict[str, int]:
    rows = {split: work.examples(split) for split in splits}
    total, done = sum(map(len, rows.values())), 0
    try:
        await reader.start()
        for split, examples in rows.items():
            found = []
            for example in examples:
                found.append(await _predicted(reader.read, example))
                done += 1
                if done % 20 == 0:
                    tell(done / total, f"{who} has answered {done} of {total}")
            path = work.of("predict") / f"{who}.{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, found)
    finally:
        await reader.stop()
    return {split: len(examples) for split, examples in rows.items()}


async def _predicted(read: Callable[[str], Awaitable[Guess]], example: Example) -> Prediction:
    guess = await read(example.text)
    return Prediction(id=example.id, answer=guess.answer, raw=guess.confidence, scores=guess.scores, ms=guess.ms)
