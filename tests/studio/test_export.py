"""What is written as GGUF is what was trained: read back by transformers, by its types, and on its base's grid."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig
from tests.local.real import weights_path
from tests.studio import made_gguf, made_models

from lilliput.neutral import Problem
from lilliput.studio import base, export
from lilliput.studio.distil import lora, save_adapter

TEXTS = ("red sun\n=", "blue dog big sea\n= A", "ünlike words, red")


def logits(model: Any, spelled: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(torch.tensor([spelled(t).input_ids])).logits[0] for t in TEXTS])


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return made_gguf.weights(tmp_path / "base")


def told(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    assert field is not None
    return field.contents()


def test_a_model_comes_back_as_it_went(made: Path, tmp_path: Path) -> None:
    model, spelled = base.load(made.parent / "hf")
    again, theirs = base.load(made, cache=tmp_path / "cache")
    assert all(theirs(t).input_ids == spelled(t).input_ids for t in TEXTS)
    wanted, got = logits(model, spelled), logits(again, theirs)
    scale = float(wanted.abs().max())
    assert float((wanted - got).abs().max()) < 4e-3 * scale, "F16 has 11 bits"
    export.model(made.parent / "hf", made, "Q8_0", tmp_path / "q8.gguf")
    coarse, _ = base.load(tmp_path / "q8.gguf", cache=tmp_path / "cache")
    assert 4e-3 * scale < float((wanted - logits(coarse, spelled)).abs().max()) < 5e-2 * scale
    assert made.read_bytes() == made_gguf.weights(tmp_path / "again").read_bytes(), "the same model is the same file"


ROUNDED = [
    ("Q8_0", 0.01),
    ("Q5_1", 0.05),
    ("Q5_0", 0.06),
    ("Q4_1", 0.1),
    ("Q4_0", 0.12),
    ("IQ4_NL", 0.1),
    ("Q4_K", 0.1),
]


@pytest.mark.parametrize(("name", "most"), ROUNDED, ids=[r[0] for r in ROUNDED])
def test_rounding(name: str, most: float) -> None:
    values = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    type = gguf.GGMLQuantizationType[name]
    packed = export.packed(values, type)
    back = gguf.quants.dequantize(packed, type)
    assert float(np.abs(back - values).mean()) < most
    if name not in ("IQ4_NL", "Q4_K"):  # gguf reads these, and does not write them
        assert (packed == gguf.quants.quantize(values, type)).all()


def test_importance_says_where_to_be_exact() -> None:
    values = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    importance = np.where(np.arange(256) % 8 == 0, 100.0, 0.01).astype(np.float32)
    type = gguf.GGMLQuantizationType.Q4_0

    def error(given: Any) -> float:
        off = gguf.quants.dequantize(export.packed(values, type, given), type) - values
        return float((off**2 * importance).mean())

    assert error(importance) < 0.8 * error(None)


def test_rows_that_a_type_does_not_fit(made: Path, tmp_path: Path) -> None:
    """Rows of 32 and 64 are none for blocks of 256; the table of tokens keeps eight bits."""
    export.model(made.parent / "hf", made, "Q4_K", tmp_path / "x.gguf")
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    assert types["blk.0.ffn_down.weight"] == "Q5_0"
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.attn_norm.weight"] == "F32"


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_adds_what_it_added(made: Path, tmp_path: Path, rslora: bool) -> None:
    """base + alpha/r * B @ A over the base's own rows is the merged model, tensor by tensor."""
    model, spelled = base.load(made.parent / "hf")
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", use_rslora=rslora)
    adapted = lora(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2)
    save_adapter(adapted, tmp_path)
    assert export.adapter(tmp_path, made, tmp_path / "lora.gguf")["tensors"] == 2 * 2 * 7
    base.save(adapted.merge_and_unload(), spelled, tmp_path / "merged")
    export.model(tmp_path / "merged", made, "F16", tmp_path / "merged.gguf")
    parts = gguf.GGUFReader(tmp_path / "lora.gguf")
    assert told(parts, "general.type") == "adapter"
    scale = told(parts, "adapter.lora.alpha") / 4
    delta = {t.name: np.array(t.data) for t in parts.tensors}
    merged = {t.name: np.float32(t.data) for t in gguf.GGUFReader(tmp_path / "merged.gguf").tensors}
    for tensor in gguf.GGUFReader(made).tensors:
        if f"{tensor.name}.lora_a" in delta:
            added = scale * delta[f"{tensor.name}.lora_b"] @ delta[f"{tensor.name}.lora_a"]
            assert np.abs(added).max() > 0.1
            assert np.allclose(np.float32(tensor.data) + added, merged[tensor.name], atol=4e-3), tensor.name


def changed(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def test_refused(made: Path, tmp_path: Path) -> None:
    folder = made.parent / "hf"
    spelled = made_models.tokenizer()
    alien = made_gguf.described(tmp_path / "a.gguf", made_models.llama(len(spelled)).config, spelled, "qwen2")
    (tmp_path / "b.gguf").write_bytes(b"no GGUF at all")
    for source, form, say in [
        (alien, "F16", "of the build 'qwen2'; students are written of llama's build alone"),
        (tmp_path / "b.gguf", "F16", "b.gguf cannot be read as GGUF"),
        (made, "Q3_X", "not written as 'Q3_X'; the forms are F16, Q8_0"),
    ]:
        with pytest.raises(Problem, match=re.escape(say)):
            export.model(folder, source, form, tmp_path / "x.gguf")
    odd: list[tuple[dict[str, Any], str]] = [
        ({"model_type": "gemma"}, "of the build 'gemma'"),
        ({"model_type": "llama", "hidden_size": 64}, "has hidden_size 64 and its base's GGUF 32"),
    ]
    for fields, say in odd:
        changed(folder, **fields)
        with pytest.raises(Problem, match=say):
            export.model(folder, made, "F16", tmp_path / "x.gguf")


@pytest.mark.slow
def test_the_real_weights_written_in_their_own_form_are_their_own_bytes(tmp_path: Path) -> None:
    source = weights_path()
    export.model(base.unpacked(source), source, "Q4_1", tmp_path / "again.gguf")
    ours, theirs = gguf.GGUFReader(tmp_path / "again.gguf"), gguf.GGUFReader(source)
    wanted = {t.name: (t.tensor_type, t.data) for t in theirs.tensors}
    assert len(ours.tensors) == len(wanted) == 272
    for tensor in ours.tensors:
        assert tensor.tensor_type == wanted[tensor.name][0]
        assert np.array_equal(tensor.data, wanted[tensor.name][1]), tensor.name
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF.") and key != "general.size_label":
            assert ours.fields[key].contents() == field.contents(), key
