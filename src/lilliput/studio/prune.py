"""The stage `prune`: the trained student with fewer layers, healed by learning the same examples once more.

Which layers go is said by Block Influence (ShortGPT, arXiv 2403.03853): those that turn what they are given the least.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import structs
from torch import Tensor, nn

from lilliput.loop.form import form
from lilliput.neutral import Problem
from lilliput.studio import base, torch_predict, training
from lilliput.studio.distil import adapted, encoded, taught
from lilliput.studio.parts import Facts, Tell, Work, within, write
from lilliput.studio.trunk import padded, portions

CALIBRATION = 256
"""Examples on which influence is measured."""
FIRST, LAST = 2, 1
"""Layers that always stay, at either end."""
UNPRUNED, SPLITS = "unpruned", ("cal", "test")


def prune(work: Work, out: Path, tell: Tell) -> Facts:
    """Leaves what `distil` leaves, of a whole model, and `prune.json`; predicts cal and test as `unpruned`."""
    recipe = work.recipe
    if not recipe.keep_layers:
        return {"skipped": "the recipe keeps all layers"}
    torch.set_num_threads(recipe.threads)
    tell(0.0, "loading the student")
    model, tokenizer = torch_predict.student(work, "distil")
    check(recipe.keep_layers, model.config.num_hidden_layers)
    _predict_unpruned(work, model, tokenizer, tell)
    shape = form(work.task.kind, work.task.labels, work.task.schema)
    # What is read does not hang on the loss, and the teacher's tokens are of no use here.
    items, _ = encoded(work.examples("train"), shape, tokenizer, structs.replace(recipe, loss="text"))
    influence = influences(model, [i.ids for i in items[:CALIBRATION]])
    kept = chosen(influence, recipe.keep_layers)
    cut(model, kept)
    told = {"layers": kept, "of": len(influence), "influence": [round(x, 5) for x in influence]}
    (out / "prune.json").write_text(json.dumps(told) + "\n")
    healing = structs.replace(recipe, layers=min(recipe.layers, len(kept)))
    if recipe.method == "lora":
        model = adapted(model, healing)
    healed = taught(work, model, tokenizer, out, within(tell, 0.2, 0.8), healing)
    if recipe.method == "lora":
        model = model.merge_and_unload()
    base.save(model.cpu(), tokenizer, out)
    (out / training.CHECKPOINT).unlink(missing_ok=True)
    return {**healed, "layers": kept, "of": len(influence)}


def check(keep: int, layers: int) -> None:
    """Raises Problem for a number of layers that cannot be kept."""
    least = FIRST + LAST
    if not least <= keep < layers:
        say = f"{keep} of {layers} layers cannot be kept: the first {FIRST} and the last stay, so keep {least} to "
        raise Problem("client", f"{say}{layers - 1}, or 0 to prune nothing", param="keep_layers")


@torch.inference_mode()
def influences(model: Any, sequences: Sequence[Sequence[int]]) -> list[float]:
    """Of each layer: 1 - the mean cosine between what it is given and what it gives, over all real positions."""
    layers = model.get_decoder().layers
    sums, positions = torch.zeros(len(layers), dtype=torch.float64), 0
    real = torch.ones(1, 1, dtype=torch.bool)

    def watch(i: int) -> Any:
        def seen(layer: nn.Module, given: tuple[Tensor, ...], gives: Any) -> None:
            made = gives[0] if isinstance(gives, tuple) else gives
            sums[i] += nn.functional.cosine_similarity(given[0].float(), made.float(), dim=-1)[real].sum()

        return seen

    hooks = [layer.register_forward_hook(watch(i)) for i, layer in enumerate(layers)]
    try:
        lengths = [len(s) for s in sequences]
        for items in portions(sorted(range(len(sequences)), key=lengths.__getitem__), lengths):
            ids = padded([sequences[i] for i in items])
            real = torch.arange(ids.shape[1]) < torch.tensor([[lengths[i]] for i in items])
            positions += int(real.sum())
            model.get_decoder()(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [1 - float(s) / positions for s in sums]


def chosen(influence: Sequence[float], keep: int) -> list[int]:
    """The layers that stay, in order: the ends, and those of most influence between them."""
    last = len(influence) - LAST
    ends = [*range(FIRST), *range(last, len(influence))]
    inner = sorted(range(FIRST, last), key=lambda i: (-influence[i], i))
    return sorted([*ends, *inner[: keep - len(ends)]])


def cut(model: Any, kept: Sequence[int]) -> None:
    """Leave only these layers, numbered anew, in place."""
    decoder = model.get_decoder()
    decoder.layers = nn.ModuleList(decoder.layers[i] for i in kept)
    for i, layer in enumerate(decoder.layers):
        layer.self_attn.layer_idx = i
    model.config.num_hidden_layers = len(kept)


def _predict_unpruned(work: Work, model: Any, tokenizer: Any, tell: Tell) -> None:
    shape = form(work.task.kind, work.task.labels, work.task.schema)
    folder = work.of("predict")
    folder.mkdir(exist_ok=True)
    for i, split in enumerate(SPLITS):
        share = within(tell, 0.1 * i, 0.1)
        found = torch_predict.predictions(work.examples(split), shape, model, tokenizer, work, share)
        write(folder / f"{UNPRUNED}.{split}.jsonl", found)
