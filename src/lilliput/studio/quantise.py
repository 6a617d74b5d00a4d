"""The stage `quantise`: the trained student in every form of the recipe, and what the engine answers with each.

Nothing is chosen here. A form is never taken for granted: weights that were trained a little and are rounded to the
grid that their base lay on are the base again, so `evaluate` holds every form against the task.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from lilliput.local.model import Model
from lilliput.local.settings import Adapter
from lilliput.loop.form import form
from lilliput.neutral import Problem
from lilliput.studio import export
from lilliput.studio.parts import ADAPTER, MODEL, Facts, Tell, Work, within
from lilliput.studio.served import predict

BESIDE = "base+lora"
"""The form that leaves the base as it is and puts the adapter over it."""
LORA = "lora.gguf"
SPLITS = ("cal", "test")


def file_of(form: str) -> str:
    """The name of a form's file in `quantise`'s output."""
    return LORA if form == BESIDE else f"{form}.gguf"


def quantise(work: Work, out: Path, tell: Tell) -> Facts:
    """Writes `<form>.gguf` (`lora.gguf` for `base+lora`), `predict/<form>.SPLIT.jsonl` and `predict/facts.json`.

    Facts, by form: `bytes` of what must lie on the disk to serve it, `own_bytes` of its file, `types` of its tensors,
    and `grid` where these are mostly the base's own.
    """
    forms = work.recipe.forms
    if work.weights is None or not work.weights.is_file():
        raise Problem("client", f"students are written after the GGUF of {work.recipe.base!r}: `lilliput pull` it")
    folder = work.trained()
    _check(forms, folder)
    known, grid = dict[str, dict[str, Any]](), _grid(work.weights)
    whole = _whole(work, folder, out) if set(forms) - {BESIDE} else folder
    try:
        for i, name in enumerate(forms):
            tell(i / len(forms), f"writing {name}")
            known[name] = _written(work, name, folder, whole, out / file_of(name), grid)
            share = 1 / len(forms)
            predict(work, served(work, name, out), name, SPLITS, within(tell, (i + 0.3) * share, 0.7 * share))
    finally:
        if whole != folder:
            shutil.rmtree(whole, ignore_errors=True)
    _note(work, known)
    return known


def served(work: Work, name: str, out: Path) -> Model:
    """A form as the engine serves it, not yet started."""
    recipe, task = work.recipe, work.task
    own = out / file_of(name)
    assert work.weights is not None
    return Model(
        work.weights if name == BESIDE else own,
        form(task.kind, task.labels, task.schema),
        alias=f"{task.name} {name}",
        adapters=(Adapter(str(own)),) if name == BESIDE else (),
        text_tokens=recipe.max_text_tokens,
        answer_tokens=recipe.max_answer_tokens,
        threads=recipe.threads,
        parallel=1,
    )


def _check(forms: tuple[str, ...], folder: Path) -> None:
    if not forms:
        raise Problem("client", "the recipe names no form to write the student in", param="forms")
    if odd := [name for name in forms if name not in export.FORMS and name != BESIDE]:
        say = f"no student is written as {odd[0]!r}; the forms are {', '.join(export.FORMS)} and {BESIDE}"
        raise Problem("client", say, param="forms")
    if BESIDE in forms and not (folder / ADAPTER).is_file():
        say = f"the form {BESIDE!r} needs adapters over the whole base: set `method` to 'lora' and `keep_layers` to 0"
        raise Problem("client", say, param="forms")
    if not any((folder / name).is_file() for name in (MODEL, ADAPTER)):
        raise Problem("client", f"there is no trained student in {folder}: run the stage 'distil' first")


def _whole(work: Work, folder: Path, out: Path) -> Path:
    """A folder with the model whole: adapters are merged into a copy of their base, which is of use to this stage
    alone."""
    if (folder / MODEL).is_file():
        return folder
    from lilliput.studio import base, torch_predict  # noqa: PLC0415

    merged = out / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    base.save(*torch_predict.student(work), merged)
    return merged


def _written(work: Work, name: str, folder: Path, whole: Path, to: Path, grid: str) -> dict[str, Any]:
    assert work.weights is not None
    if name == BESIDE:
        made = export.adapter(folder, work.weights, to)
        return made | {"own_bytes": made["bytes"], "bytes": made["bytes"] + work.weights.stat().st_size}
    made = export.model(whole, work.weights, name, to)
    most = max(made["types"], key=lambda t: (made["types"][t], t))
    return made | {"own_bytes": made["bytes"]} | ({"grid": "the base's own"} if most == grid else {})


def _grid(weights: Path) -> str:
    """The type of most matrices of the base."""
    kinds = Counter(t.tensor_type.name for t in export.read(weights).tensors if len(t.shape) > 1)
    return kinds.most_common(1)[0][0]


def _note(work: Work, known: dict[str, dict[str, Any]]) -> None:
    """Into `predict/facts.json`, beside what others put there."""
    path = work.of("predict") / "facts.json"
    old = msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.is_file() else {}
    baseline = work.of("baseline") / "baseline.bin"
    if baseline.is_file():
        old["baseline"] = {"bytes": baseline.stat().st_size}
    path.write_bytes(msgspec.json.encode(old | known, order="deterministic"))
