"""A model on the real weights: the probabilities of labels are PyTorch's, an adapter counts, grammars hold."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from lilliput.local.model import Model
from lilliput.local.settings import Adapter
from lilliput.loop.form import form
from lilliput.neutral import Problem
from lilliput.studio.zeroshot import ZeroShot
from lilliput.tasks import Task

pytestmark = pytest.mark.slow

LABELS = ("games", "science", "sound", "mail", "fonts", "database", "math", "graphics", "net", "editors", "kernel")
TEXTS = ["fast 3D racing game with penguins", "mail transport agent", "The Greek letters, café and 数学"]
SCHEMA = (
    b'{"type":"object","required":["new","floor","kind"],"properties":{"new":{"type":"boolean"},'
    b'"floor":{"type":"integer"},"kind":{"enum":["house","a|b\\\\"]}}}'
)
DEEP = (
    b'{"type":"object","required":["new","marks"],"properties":{"new":{"type":"boolean"},"marks":{"type":"array",'
    b'"minItems":2,"maxItems":3,"items":{"enum":["a\\"b","c\\\\",null]}},"at":{"type":"object","properties":{'
    b'"floor":{"type":["integer","null"]},"share":{"type":"number"}}}}}'
)


def adapter(path: Path, weights: Path, scale: float) -> Path:
    """A LoRA over one matrix of the last layer."""
    gguf = pytest.importorskip("gguf")
    np = pytest.importorskip("numpy")
    name = "blk.29.ffn_down.weight"
    (wide, high) = next(t.shape for t in gguf.GGUFReader(weights).tensors if t.name == name)
    dice = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor(f"{name}.lora_a", dice.normal(size=(4, int(wide))).astype(np.float32))
    writer.add_tensor(f"{name}.lora_b", (scale * dice.normal(size=(int(high), 4))).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def scores(model: Model) -> list[Any]:
    try:
        await model.start()
        return list(await asyncio.gather(*(model.read(text) for text in TEXTS)))
    finally:
        await model.stop()


def test_what_is_told_of_labels_is_the_models_own(smollm: Path, tmp_path: Path) -> None:
    base = pytest.importorskip("lilliput.studio.base")
    torch = pytest.importorskip("torch")
    of = form("label", LABELS)
    found = asyncio.run(scores(Model(smollm, of, threads=2)))
    model, tokenizer = base.load(smollm)
    codes = [tokenizer(code).input_ids for code in of.codes()]
    assert {len(ids) for ids in codes} == {1}
    for text, guess in zip(TEXTS, found, strict=True):
        ids = tokenizer(of.prompt(text)).input_ids
        assert tokenizer(of.prompt(text) + of.codes()[0]).input_ids == [*ids, *codes[0]]
        assert guess.tokens == (len(ids), 1)
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1, [c[0] for c in codes]].float()
        # The engine rounds activations to 8 bits.
        assert [guess.scores[label] for label in LABELS] == pytest.approx(logits.softmax(-1).tolist(), abs=0.05)
        assert sum(guess.scores.values()) == pytest.approx(1.0, abs=1e-4)

    nothing = adapter(tmp_path / "zero.gguf", smollm, 0.0)
    some = adapter(tmp_path / "some.gguf", smollm, 0.05)
    same, moved = (
        asyncio.run(scores(Model(smollm, of, threads=2, adapters=[Adapter(str(path))]))) for path in (nothing, some)
    )
    assert same[0].scores == pytest.approx(found[0].scores, abs=0.01)
    assert max(abs(moved[0].scores[label] - found[0].scores[label]) for label in LABELS) > 0.05
    with pytest.raises(Problem, match=r"some\.gguf has the sha256"):
        asyncio.run(scores(Model(smollm, of, adapters=[Adapter(str(some), "0" * 64)])))


def test_what_is_written_keeps_to_the_grammar(smollm: Path) -> None:
    for guess in asyncio.run(scores(Model(smollm, form("extract", schema=Raw(SCHEMA)), threads=2))):
        value = json.loads(guess.answer)
        assert list(value) == ["new", "floor", "kind"]
        assert value["kind"] in ("house", "a|b\\")
        assert 0.0 < guess.confidence < 1.0


def test_the_base_alone_writes_json_without_white_space(smollm: Path) -> None:
    async def read() -> None:
        base = ZeroShot(smollm, Task(name="t", teacher="x", kind="extract", schema=Raw(DEEP)), threads=2)
        try:
            await base.start()
            for text in TEXTS[:2]:
                value = json.loads((await base.read(text)).answer)
                assert list(value) in (["new", "marks"], ["new", "marks", "at"])
                assert 2 <= len(value["marks"]) <= 3
                assert set(value["marks"]) <= {'a"b', "c\\", None}
                assert set(value.get("at", {})) <= {"floor", "share"}
        finally:
            await base.stop()

    asyncio.run(read())


@pytest.mark.parametrize("labels", [LABELS[:4], ("new york one", "new york two")])
def test_the_base_alone_answers_by_names_or_letters(smollm: Path, labels: tuple[str, ...]) -> None:
    async def read() -> None:
        base = ZeroShot(smollm, Task(name="t", teacher="x", kind="label", labels=labels), threads=2)
        try:
            await base.start()
            one, two = [await base.read(text) for text in TEXTS[:2]]
            assert one.answer in labels
            assert sum(one.scores.values()) == pytest.approx(1.0, abs=1e-4)
            assert one.scores != pytest.approx(two.scores, abs=1e-3)
        finally:
            await base.stop()

    asyncio.run(read())
