"""The cached trunk computes what the whole model computes, and only its top learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.studio import made_models

from lilliput.neutral import Problem
from lilliput.studio.trunk import Trunk, Whole, padded, portions

SEQUENCES = [(5, 9, 200, 3), (7, 8, 9, 10, 11, 12, 250, 4, 4, 1), (6,), (9, 8, 7, 6, 5, 4)]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_trunk_and_top_are_the_whole_model(layers: int, tmp_path: Path) -> None:
    model = made_models.llama(300, layers=3)
    trunk = Trunk(model, layers, SEQUENCES, folder=tmp_path)
    assert not list(tmp_path.iterdir()), "the cache has no name"
    items = [3, 1, 0]
    got, whole = trunk.states(items), Whole(model, SEQUENCES).states(items)
    for row, i in enumerate(items):
        alone = model(input_ids=torch.tensor([SEQUENCES[i]])).logits[0]
        for states in (got, whole):
            logits = model.get_output_embeddings()(states[row, : len(SEQUENCES[i])])
            assert torch.allclose(logits, alone, atol=1e-4)


def test_only_the_top_and_the_norm_are_trained() -> None:
    model = made_models.llama(300, layers=3)
    trunk = Trunk(model, 1, SEQUENCES, used=[0, 3])
    names = trunk.parameters().keys()
    assert all(n.startswith(("model.layers.2.", "model.norm.")) for n in names)
    assert len(names) == 10
    trunk.states([0, 3]).sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == names
    with pytest.raises(Problem, match="this model has 3"):
        Trunk(model, 4, SEQUENCES)


def test_portions_hold_no_more_than_told() -> None:
    lengths = [10, 2, 3, 50, 4]
    cut = list(portions([1, 2, 4, 0, 3], lengths, 20))
    assert cut == [[1, 2, 4], [0], [3]]
    assert padded([(1, 2), (3,)]).tolist() == [[1, 2], [3, 0]]
