"""Layers go by influence, the ends stay, and what is left is the same model to torch and to the engine's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.studio import made_gguf, made_models
from torch import nn

from lilliput.neutral import Problem
from lilliput.studio import base, export, prune, torch_predict
from lilliput.studio.distil import distil
from lilliput.studio.parts import Example, Prediction, Work, read, write


def quiet(done: float, say: str, **figures: float) -> None:
    """Nobody listens."""


def trained(root: Path, **recipe: Any) -> Work:
    """A student of five layers, which learned."""
    work = made_models.work(root, made_models.colours(), keep_layers=3, steps=40, rate=0.03, batch=8, **recipe)
    spelled = made_models.tokenizer()
    base.save(made_models.llama(len(spelled), 5), spelled, root / "base")
    for split in ("cal", "test"):
        write(root / "collect" / f"{split}.jsonl", made_models.colours(1))
    distil(work, work.of("distil"), quiet)
    return work


SLOW = [pytest.param(m, marks=pytest.mark.slow) for m in ("full", "lora")]


@pytest.mark.parametrize("method", ["trunk", *SLOW])
def test_a_pruned_student_is_healed_and_answers(method: str, tmp_path: Path) -> None:
    work = trained(tmp_path / "r", method=method)
    work.of("prune").mkdir()
    facts = prune.prune(work, work.of("prune"), quiet)
    told = json.loads((work.of("prune") / "prune.json").read_bytes())
    assert facts["layers"] == told["layers"] == prune.chosen(told["influence"], 3)
    model, spelled = torch_predict.student(work)
    assert model.config.num_hidden_layers == len(model.model.layers) == 3
    torch_predict.predict(work, "test", quiet)
    for who, layers in (("torch", 3), ("unpruned", 5)):
        found = read(work.of("predict") / f"{who}.test.jsonl", Prediction)
        right = [p.answer == e.answer for p, e in zip(found, made_models.colours(1), strict=True)]
        assert sum(right) >= 4, f"{layers} layers"
    source = made_gguf.described(tmp_path / "base.gguf", model.config, spelled)
    export.model(work.of("prune"), source, "F16", tmp_path / "x.gguf")
    again, _ = base.load(tmp_path / "x.gguf", cache=tmp_path / "cache")
    ids = torch.tensor([spelled("red sun\n=").input_ids])
    with torch.no_grad():
        wanted, got = model(ids).logits, again(ids).logits
    assert float((wanted - got).abs().max()) < 3e-2 * float(wanted.abs().max())


def test_what_a_layer_does() -> None:
    """A layer that adds nothing has no influence; padding does not count."""
    model = made_models.llama(50, 4)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        nn.init.zeros_(model.model.layers[2].get_submodule(name).weight)
    alone = [prune.influences(model, [s]) for s in ([1, 2, 3, 4, 5, 6], [7, 8])]
    both = prune.influences(model, [[1, 2, 3, 4, 5, 6], [7, 8]])
    assert both[2] == pytest.approx(0, abs=1e-6)
    assert min(both[:2] + both[3:]) > 1e-3
    assert both == pytest.approx([(6 * a + 2 * b) / 8 for a, b in zip(*alone, strict=True)], rel=1e-4, abs=1e-6)
    ids = torch.tensor([[1, 2, 3, 4]])
    wanted = model(ids).logits
    prune.cut(model, [0, 1, 3])
    assert torch.allclose(model(ids).logits, wanted, atol=1e-5)
    assert torch.allclose(model.generate(ids, max_new_tokens=1, use_cache=True, pad_token_id=0)[0, :4], ids)


CHOSEN = [
    ("the most", [9, 9, 0.1, 0.3, 0.2, 0.4, 0.0], 5, [0, 1, 3, 5, 6]),
    ("the ends", [0, 0, 1, 1, 1, 1, 0], 3, [0, 1, 6]),
    ("of equals the first", [1, 1, 1, 1, 1, 1, 1], 5, [0, 1, 2, 3, 6]),
]


@pytest.mark.parametrize(("name", "influence", "keep", "kept"), CHOSEN, ids=[r[0] for r in CHOSEN])
def test_chosen(name: str, influence: list[float], keep: int, kept: list[int]) -> None:
    assert prune.chosen(influence, keep) == kept


@pytest.mark.parametrize("keep", [1, 2, 5, 9])
def test_a_number_that_cannot_be_kept(keep: int, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="keep 3 to 4, or 0 to prune nothing"):
        prune.check(keep, 5)


def test_nothing_to_prune(tmp_path: Path) -> None:
    work = made_models.work(tmp_path / "r", [Example(id="1", text="red", answer="warm")])
    assert "skipped" in prune.prune(work, tmp_path, quiet)
    assert work.trained() == work.of("distil")
