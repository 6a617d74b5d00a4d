"""Every form of the recipe is written and answered with; the engine itself runs in the slow test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs
from tests.studio import made_gguf, made_models

from lilliput.neutral import Problem
from lilliput.studio import quantise, torch_predict
from lilliput.studio.distil import distil
from lilliput.studio.parts import Prediction, Work, read, write


def quiet(done: float, say: str, **figures: float) -> None:
    """Nobody listens."""


def trained(root: Path, **recipe: Any) -> Work:
    work = made_models.work(root, made_models.colours(), steps=60, rate=0.03, batch=8, **recipe)
    for split in ("cal", "test"):
        write(root / "collect" / f"{split}.jsonl", made_models.colours(1))
    work = structs.replace(work, weights=made_gguf.weights(root / "gguf"))
    distil(work, work.of("distil"), quiet)
    work.of("quantise").mkdir()
    return work


REFUSED = [
    ("no such form", {"forms": ("Q3_X",)}, "no student is written as 'Q3_X'; the forms are F16"),
    ("no form", {"forms": ()}, "names no form"),
    ("no adapter", {"forms": ("base+lora",)}, "needs adapters over the whole base"),
    ("not trained", {}, "run the stage 'distil' first"),
]


@pytest.mark.parametrize(("name", "recipe", "say"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(name: str, recipe: dict[str, Any], say: str, tmp_path: Path) -> None:
    work = made_models.work(tmp_path / "r", made_models.colours(1), **recipe)
    work = structs.replace(work, weights=made_gguf.weights(tmp_path / "gguf"))
    with pytest.raises(Problem, match=say):
        quantise.quantise(work, tmp_path, quiet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "forms"), [("full", ("F16", "Q8_0")), ("lora", ("base+lora", "F16"))], ids=["full", "lora"]
)
def test_the_engine_answers_as_torch_does(method: str, forms: tuple[str, ...], tmp_path: Path) -> None:
    work = trained(tmp_path / "r", method=method, forms=forms)
    facts = quantise.quantise(work, work.of("quantise"), quiet)
    assert sorted(p.name for p in work.of("quantise").iterdir()) == sorted(map(quantise.file_of, forms))
    torch_predict.predict(work, "test", quiet)
    wanted = list(read(work.of("predict") / "torch.test.jsonl", Prediction))
    for name in forms:
        found = list(read(work.of("predict") / f"{name}.test.jsonl", Prediction))
        assert [p.answer for p in found] == [p.answer for p in wanted]
        for mine, theirs in zip(found, wanted, strict=True):
            assert mine.scores == pytest.approx(theirs.scores, abs=0.05 if name == "Q8_0" else 0.01), name
    known = msgspec.json.decode((work.of("predict") / "facts.json").read_bytes())
    assert {name: known[name]["bytes"] for name in forms} == {name: facts[name]["bytes"] for name in forms}
    own = work.of("quantise") / quantise.file_of(forms[0])
    assert known[forms[0]]["own_bytes"] == own.stat().st_size
    assert "grid" in known["F16"], "this base is one of F16"

    async def told() -> str:
        model = quantise.served(work, forms[0], work.of("quantise"))
        try:
            await model.start()
            return (await model.read("red sun")).answer
        finally:
            await model.stop()

    assert asyncio.run(told()) == "warm"
