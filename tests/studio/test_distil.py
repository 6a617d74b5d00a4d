"""Students of a random llama: they learn, the same seed gives the same bytes, and a killed run goes on to them too."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from tests.local.real import weights_path
from tests.studio import made_models

from lilliput.loop import confidence
from lilliput.neutral import Problem
from lilliput.studio import base, torch_predict, training
from lilliput.studio.distil import distil
from lilliput.studio.parts import Example, Prediction, Work, read, write
from lilliput.studio.training import Ranks

LONG: dict[str, Any] = {"steps": 100, "rate": 0.03, "batch": 8}


def quiet(done: float, say: str, **figures: float) -> None:
    """Nobody listens."""


def made(work: Work, tell: Any = quiet) -> tuple[str, dict[str, Any]]:
    """The hash of the student's weights, and what `train.json` says."""
    out = work.of("distil")
    distil(work, out, tell)
    [student] = out.glob("*.safetensors")
    return hashlib.sha256(student.read_bytes()).hexdigest(), json.loads((out / "train.json").read_bytes())


@pytest.mark.parametrize("method", ["trunk", "lora", "full"])
def test_a_student_learns_and_is_the_same_again_after_a_kill(method: str, tmp_path: Path) -> None:
    first = made_models.work(tmp_path / "a", made_models.colours(), method=method, **LONG)
    heard: list[dict[str, float]] = []
    wanted, train = made(first, lambda done, say, **figures: heard.append(figures))
    assert train["by_step"][-1] < 0.2 * train["by_step"][0]
    assert heard[-1].keys() == {"loss", "tokens_per_s", "eta_s"}

    class Killed(Exception):
        pass

    def kill(done: float, say: str, **figures: float) -> None:
        if "step 87 " in say:
            raise Killed

    again = made_models.work(tmp_path / "b", made_models.colours(), method=method, **LONG)
    again = msgspec.structs.replace(again, weights=first.weights)
    with pytest.raises(Killed):
        made(again, kill)
    steps: list[str] = []
    got, _ = made(again, lambda done, say, **figures: steps.append(say))
    assert got == wanted
    assert next(s for s in steps if "step" in s).startswith("step 81 "), "it went on from the checkpoint"

    if method == "lora":
        tensors = load_file(first.of("distil") / "adapter.safetensors")
        assert len(tensors) == 2 * 2 * 7, "two matrices at each of a layer's seven linear ones"
        assert all(t.abs().max() > 0 for t in tensors.values())
    write(first.root / "collect" / "test.jsonl", made_models.colours(1))
    torch_predict.predict(first, "test", quiet)
    found = list(read(first.root / "predict" / "torch.test.jsonl", Prediction))
    assert all(p.raw == pytest.approx(p.scores[p.answer]) for p in found)
    told = sum(p.scores[e.answer] for p, e in zip(found, made_models.colours(1), strict=True))
    assert told / len(found) > (0.5 if method == "lora" else 0.9)


def test_a_checkpoint_of_another_run_is_not_gone_on_from(tmp_path: Path) -> None:
    work = made_models.work(tmp_path / "a", made_models.colours())
    wanted, _ = made(work)
    other = msgspec.structs.replace(work, recipe=msgspec.structs.replace(work.recipe, seed=1, steps=30))

    def kill(done: float, say: str, **figures: float) -> None:
        if "step 25 " in say:
            raise KeyboardInterrupt

    (work.of("distil") / "model.safetensors").unlink()
    with pytest.raises(KeyboardInterrupt):
        made(other, kill)
    assert (work.of("distil") / training.CHECKPOINT).is_file()
    assert made(work)[0] == wanted


def test_a_text_is_written_back(tmp_path: Path) -> None:
    answers = [("red", "blue sea"), ("blue", "red"), ("dog", "sun sun big")]
    rows = [Example(id=f"{i}", text=t, answer=a) for i, (t, a) in enumerate(answers)]
    work = made_models.work(tmp_path / "a", rows, kind="text", method="full", steps=100, max_answer_tokens=6)
    made(work)
    write(work.root / "collect" / "test.jsonl", [*rows, Example(id="long", text="red " * 300, answer="")])
    torch_predict.predict(work, "test", quiet)
    *found, long = read(work.root / "predict" / "torch.test.jsonl", Prediction)
    assert [p.answer for p in found] == [a for _, a in answers]
    model, tokenizer = torch_predict.student(work)
    ids = tokenizer(" dog\n=").input_ids
    answer = [*tokenizer(" sun sun big").input_ids, 0]
    chances = model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].softmax(-1)
    [row] = torch_predict.greedy([ids], model, tokenizer, 6)
    assert [t for t, _ in row] == answer
    wanted = [float(c[t]) for c, t in zip(chances, answer, strict=True)]
    assert [p for _, p in row] == pytest.approx(wanted, rel=1e-3)
    assert found[2].raw == pytest.approx(confidence.raw("text", [("", p) for p in wanted]), rel=1e-2)
    assert (long.answer, long.raw) == ("", 0.0)


def top(*tokens: str) -> tuple[tuple[tuple[str, float], ...], ...]:
    """A teacher that is sure of one token after the other."""
    return tuple(((t, -0.01), (" dog", -5.0)) for t in tokens)


REFUSED = [
    ("too long", [Example(id="1", text="red", answer="blue " * 9)], {}, "none is left to learn from: 1 are longer"),
    ("no logprobs", [Example(id="1", text="red", answer="sea")], {"loss": "topk"}, "carries the teacher's likeliest"),
    (
        "other tokens",
        [Example(id="1", text="red", answer="big sea", top=top("bi", "g sea"))],
        {"loss": "topk"},
        "1 answers are cut into other tokens by the teacher, such as ' big' where the teacher has 'bi'",
    ),
    ("no teacher", [Example(id="1", text="red", answer="sea")], {"loss": "logits"}, "set `teacher`"),
    ("too many layers", [Example(id="1", text="red", answer="sea")], {"layers": 9}, "this model has 2"),
]


@pytest.mark.parametrize(("name", "rows", "recipe", "say"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(name: str, rows: list[Example], recipe: dict[str, Any], say: str, tmp_path: Path) -> None:
    work = made_models.work(tmp_path / "a", rows, kind="text", max_answer_tokens=8, **recipe)
    with pytest.raises(Problem, match=say):
        made(work)


def test_the_teachers_tokens_are_learned_from(tmp_path: Path) -> None:
    """The teacher says by its probabilities what its text does not: half of its mass is on another word."""
    rows = [
        Example(id="1", text="red", answer="sea", top=(((" sea", -0.7), (" sun", -0.7)),)),
        Example(id="2", text="dog", answer="big big", top=top("odd")),
    ]
    work = made_models.work(tmp_path / "a", rows, kind="text", loss="topk", text_instead=True, steps=100, method="full")
    _, train = made(work)
    assert train["unaligned"] == 1
    model, tokenizer = base.load(work.of("distil"))
    chances = model(torch.tensor([tokenizer(" red\n=").input_ids])).logits[0, -1].softmax(-1)
    sea, sun = tokenizer(" sea sun").input_ids
    assert float(chances[sea]) == pytest.approx(0.5, abs=0.07)
    assert float(chances[sun]) == pytest.approx(0.5, abs=0.07)


def test_a_local_teachers_logits_are_learned_from(tmp_path: Path) -> None:
    rows = [Example(id=f"{i}", text=t, answer="sea") for i, t in enumerate(("red", "blue dog"))]
    spelled = made_models.tokenizer()
    base.save(made_models.llama(len(spelled), seed=9), spelled, tmp_path / "teacher")
    work = made_models.work(
        tmp_path / "a", rows, kind="text", loss="logits", teacher=str(tmp_path / "teacher"), steps=100, method="full"
    )
    _, train = made(work)
    assert train["by_step"][-1] < 0.2 * train["by_step"][0]
    base.save(made_models.llama(300), made_models.tokenizer("lo"), tmp_path / "other")
    other = msgspec.structs.replace(work.recipe, teacher=str(tmp_path / "other"))
    with pytest.raises(Problem, match="vocabulary"):
        made(msgspec.structs.replace(work, recipe=other))


@pytest.mark.slow
def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    """Two processes joined by gloo, as torchrun starts them, on one directory."""
    alone = made_models.work(tmp_path / "a", made_models.colours(), steps=12)
    _, wanted = made(alone)
    work = made_models.work(tmp_path / "b", made_models.colours(), steps=12)
    work = msgspec.structs.replace(work, weights=alone.weights)
    program = (
        "import sys, msgspec\nfrom lilliput.studio.distil import distil\nfrom lilliput.studio.parts import Work\n"
        "work = msgspec.json.decode(sys.argv[1], type=Work, dec_hook=lambda type, value: type(value))\n"
        "distil(work, work.of('distil'), lambda done, say, **figures: None)\n"
    )
    given = msgspec.json.encode(work, enc_hook=str).decode()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ring = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, given],
            env={**os.environ, **ring, "RANK": str(rank), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for rank in range(2)
    ]
    assert [p.wait(100) for p in running] == [0, 0]
    got = json.loads((work.of("distil") / "train.json").read_bytes())
    assert got["by_step"] == pytest.approx(wanted["by_step"], abs=1e-4)
    assert Ranks() == training.ranks(), "no ring, one rank"


def test_a_gguf_is_unpacked_once(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="lilliput pull"):
        base.load(tmp_path / "none.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF not at all")
    with pytest.raises(Problem, match=r"bad\.gguf cannot be trained from"):
        base.load(tmp_path / "bad.gguf")


@pytest.mark.slow
def test_the_real_weights_are_unpacked_once(tmp_path: Path) -> None:
    path = weights_path()
    base.load(path, cache=tmp_path)
    [folder] = tmp_path.iterdir()
    made_at = (folder / "model.safetensors").stat().st_mtime_ns
    model, tokenizer = base.load(path, cache=tmp_path)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made_at
    assert {p.suffix for p in folder.iterdir()} == {".safetensors", ".json", ".jinja"}
    ids = tokenizer("The capital of France is").input_ids
    assert tokenizer.decode(int(model(torch.tensor([ids])).logits[0, -1].argmax())) == " Paris"
