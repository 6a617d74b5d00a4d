"""The baseline is what scikit-learn fits, chosen without a look at cal or test, and served as it was measured."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.local.bundles import bundle

from lilliput.loop import linear
from lilliput.neutral import Problem
from lilliput.studio.parts import Example, Prediction, Recipe, Work, read, write
from lilliput.studio.served import predict_served, quiet
from lilliput.tasks import Task

pytest.importorskip("sklearn")
from lilliput.studio import baseline as of

LABELS = ("games", "mail", "math")


def examples(n: int, seed: int, labels: tuple[str, ...] = LABELS) -> list[Example]:
    """Every word tells a label, except for a third of them, which are noise."""
    dice = random.Random(seed)
    rows = []
    for i in range(n):
        label = dice.choice(labels)
        words = [
            f"{label}{dice.randrange(9)}" if dice.random() < 0.7 else f"noise{dice.randrange(99)}" for _ in "12345"
        ]
        rows.append(Example(id=f"{seed}-{i}", text=" ".join(words), answer=label))
    return rows


def work(root: Path, train: list[Example], **task: Any) -> Work:
    (root / "collect").mkdir(parents=True)
    (root / "baseline").mkdir()
    for split, rows in (("train", train), ("cal", examples(40, 2)), ("test", examples(40, 3))):
        write(root / "collect" / f"{split}.jsonl", rows)
    given: dict[str, Any] = {"name": "t", "teacher": "x", "kind": "label", "labels": LABELS, **task}
    return Work(root=root, task=Task(**given), recipe=Recipe(), students=root / "students")


@pytest.mark.parametrize("chars", of.CHARS)
@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]])
def test_its_probabilities_are_scikit_learns(tmp_path: Path, chars: tuple[int, int], labels: tuple[str, ...]) -> None:
    train, held = examples(60, 0, labels), examples(20, 1)
    (tmp_path / "b").write_bytes(of._fit(train, chars, 4.0))
    model = linear.load(tmp_path / "b")
    vectors = of._vectors(chars)
    fitted = of._regression(vectors.fit_transform([e.text for e in train]), train, 4.0)
    expected = fitted.predict_proba(vectors.transform([e.text for e in held]))
    for example, row in zip(held, expected, strict=True):
        assert model.scores(example.text) == pytest.approx(dict(zip(labels, row, strict=True)), abs=1e-5)


def test_it_is_fitted_and_served_as_it_was_measured(tmp_path: Path) -> None:
    told: list[float] = []
    run = work(tmp_path, examples(90, 0))
    facts = of.baseline(run, tmp_path / "baseline", lambda done, say, **figures: told.append(done))
    found = list(read(tmp_path / "predict" / "baseline.test.jsonl", Prediction))
    rows = run.examples("test")
    assert [p.id for p in found] == [e.id for e in rows]
    assert sum(p.answer == e.answer for p, e in zip(found, rows, strict=True)) >= 36
    assert all(p.raw == p.scores[p.answer] == max(p.scores.values()) for p in found)
    assert facts["test"] == facts["cal"] == 40
    assert told == sorted(told)
    assert told[-1] == 1.0
    raw = (tmp_path / "baseline" / of.FILE).read_bytes()
    of.baseline(run, tmp_path / "baseline", quiet)
    assert (tmp_path / "baseline" / of.FILE).read_bytes() == raw, "the same rows make the same file"
    served = bundle(tmp_path / "students" / "x", {"baseline.bin": raw}, labels=LABELS)
    assert predict_served(run, served, "served") == {"cal": 40, "test": 40}
    again = list(read(tmp_path / "predict" / "served.test.jsonl", Prediction))
    assert [(p.id, p.answer, p.raw) for p in again] == [(p.id, p.answer, p.raw) for p in found]


def test_what_it_cannot_learn(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"all 9 rows .* 'games'"):
        of.baseline(work(tmp_path / "one", examples(9, 0, LABELS[:1])), tmp_path / "one" / "baseline", quiet)
    with pytest.raises(Problem, match="no rows"):
        of.baseline(work(tmp_path / "none", []), tmp_path / "none" / "baseline", quiet)
    assert "skipped" in of.baseline(work(tmp_path / "text", [], kind="text"), tmp_path, quiet)
    two = [*examples(1, 0, LABELS[:1]), *examples(1, 1, LABELS[1:2])]
    assert of.baseline(work(tmp_path / "two", two), tmp_path / "two" / "baseline", quiet)["terms"] > 0
