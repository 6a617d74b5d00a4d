"""What the studio's stages hand to each other: examples, recipes, predictions, and the directory of a run.

A run is a directory; a stage is a function `(work, out, tell) -> facts` that writes files into `out`, reads those of
earlier stages by `work.of("collect")`, and knows nothing of resuming: `stages` runs it, writes its manifest and skips
it when a finished one of the same inputs stands there. Only `distil`, `prune` and `base` may import torch.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from lilliput.tasks import Frame, Task

Facts = Mapping[str, Any]
"""What a stage tells in its manifest: counts, sizes, scores; plain JSON."""

SPLITS = ("train", "cal", "test")
"""Learned from; thresholds and calibration chosen on; looked at once, at the end."""

MODEL, ADAPTER = "model.safetensors", "adapter.safetensors"
"""What training leaves: a whole model, or what is to be put over its base."""


class Example(Struct, frozen=True, kw_only=True):
    """One row as the studio sees it. `text` is the part of the request that differs (see `tasks.Frame`), `answer` is
    what is to be learned (the teacher's, or its correction), `gold` a human's, known in benchmarks only.

    `top` is, for each token of the answer, the teacher's likeliest tokens as text with their log probabilities.
    """

    id: str
    text: str
    answer: str
    gold: str | None = None
    group: str = ""
    at: float = 0.0
    key: str = ""
    subject: str = ""
    source: str = "capture"
    weight: float = 1.0
    top: tuple[tuple[tuple[str, float], ...], ...] | None = None


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a student is to be made. Steps are fixed, never time, so that runs can be compared.

    `method`: `trunk` trains the top `layers` on cached states of the frozen rest (quickest on a CPU), `lora` adapters
    of `rank` on all linear layers, `full` everything, `none` no model: the baseline stands alone. `loss`: `text` alone,
    `topk` with the teacher's likeliest tokens, or `logits` of a local teacher with the same vocabulary.
    """

    base: str = "smollm2-135m"
    method: Literal["trunk", "lora", "full", "none"] = "trunk"
    loss: Literal["text", "topk", "logits"] = "text"
    steps: int = 0
    """0 chooses by the rows: about three passes, 60 steps at least, 400 at most."""
    batch: int = 32
    rate: float = 1e-3
    layers: int = 8
    rank: int = 8
    keep_layers: int = 0
    """Layers left after pruning; 0 prunes nothing."""
    forms: tuple[str, ...] = ("Q8_0",)
    """GGUF types to make and score: F16, Q8_0, Q5_1, Q4_K, Q4_0, IQ4_NL, or `base+lora`."""
    teacher: str = ""
    """Path of the weights of the local teacher that `logits` learns from."""
    text_instead: bool = False
    """Whether `topk` learns from the text alone where the teacher's tokens are missing or cut otherwise."""
    max_text_tokens: int = 192
    max_answer_tokens: int = 128
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Of train, cal and test."""
    by_time: bool = False
    """Whether the test split is the newest rows rather than a random share of groups."""
    seed: int = 0
    threads: int = 2


class Prediction(Struct, frozen=True, kw_only=True):
    """What somebody answers to the example with this id. `raw` is its own confidence, not yet recalibrated."""

    id: str
    answer: str
    raw: float = 0.0
    scores: Mapping[str, float] = {}
    ms: float = 0.0


class Tell(Protocol):
    """Progress of a stage: the share done (0 to 1), and what is going on; figures go to `--json` as they are."""

    def __call__(self, done: float, say: str, **figures: float) -> None: ...


class Work(Struct, frozen=True, kw_only=True):
    """One run: its task, recipe and directory. `ask` sends an OpenAI-form chat body to the gateway (or stands for a
    scripted teacher in tests) and gives the answer's body; `weights` is the base model's GGUF."""

    root: Path
    task: Task
    recipe: Recipe
    students: Path
    """Where published bundles live."""
    weights: Path | None = None
    ask: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def of(self, stage: str) -> Path:
        """The directory of a finished stage."""
        return self.root / stage

    def examples(self, split: str) -> list[Example]:
        """Those of `label`'s output when it ran, else `collect`'s."""
        labelled = self.root / "label" / f"{split}.jsonl"
        return list(read(labelled if labelled.is_file() else self.root / "collect" / f"{split}.jsonl", Example))

    def trained(self) -> Path:
        """Where the student's weights are: what `prune` left where there is pruning, else what `distil` did."""
        pruned = self.of("prune")
        return pruned if self.recipe.keep_layers and (pruned / MODEL).is_file() else self.of("distil")

    def frame(self) -> Frame:
        return msgspec.json.decode((self.of("collect") / "frame.json").read_bytes(), type=Frame)


Stage = Callable[[Work, Path, Tell], Facts]


def within(tell: Tell, start: float, share: float) -> Tell:
    """For a part of a stage that is `share` of it and begins at `start`."""
    return lambda done, say, **figures: tell(start + share * done, say, **figures)


def read(path: Path, type: type[Any]) -> Iterator[Any]:
    """The values in a JSON-lines file."""
    decode = msgspec.json.Decoder(type).decode
    with path.open("rb") as file:
        for line in file:
            yield decode(line)


def write(path: Path, values: Any) -> None:
    """JSON lines, one value each."""
    encode = msgspec.json.Encoder(order="deterministic").encode
    with path.open("wb") as file:
        for value in values:
            file.write(encode(value) + b"\n")


def atomically(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder and put it in place whole; who comes second to the same place throws his away."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(new)
        new.chmod(0o755)
        try:
            os.rename(new, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
