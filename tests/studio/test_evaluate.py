"""The stage: what it chooses, what it refuses, and that its report can be read and repeated."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from lilliput.loop.confidence import calibrated
from lilliput.loop.drift import Reference
from lilliput.neutral import Problem
from lilliput.studio import gates, swaps
from lilliput.studio.evaluate import Chosen, Report, cheapest, evaluate
from lilliput.studio.parts import Example, Prediction, Recipe, Work, read, write
from lilliput.tasks import Scorer, Task

LABELS = ("billing", "bug", "sales", "other")
Error = Callable[[Example, float], float]
"""Of an example and the share of examples that are surer, the chance to be wrong."""


def steep(most: float) -> Error:
    return lambda example, at: most * at**3


def says(example: Example, error: Error, seed: str, ms: float) -> Prediction:
    dice = random.Random(f"{seed} {example.id}")
    at = dice.random()
    wrong = dice.random() < error(example, at)
    answer = dice.choice([label for label in LABELS if label != example.answer]) if wrong else example.answer
    sure = 0.999 - 0.6 * at
    scores = {label: sure if label == answer else (1 - sure) / 3 for label in LABELS}
    return Prediction(id=example.id, answer=answer, raw=sure, scores=scores, ms=ms * (0.5 + dice.random()))


def run(root: Path, students: dict[str, Error], task: Task | None = None, sizes: tuple[int, int] = (400, 300)) -> Work:
    dice = random.Random(7)
    for folder in ("collect", "predict", "evaluate"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, items in (("train", 600), ("cal", sizes[0]), ("test", sizes[1])):
        made = [
            Example(id=f"{split}{i}", text=f"he asks of thing {dice.randrange(50)}", answer=LABELS[dice.randrange(4)])
            for i in range(items)
        ]
        write(root / "collect" / f"{split}.jsonl", made)
        for who, error in students.items():
            if split != "train":
                ms = {"baseline": 0.1, "F16": 40.0}.get(who, 25.0)
                path = root / "predict" / f"{who}.{split}.jsonl"
                write(path, [says(e, error, f"{who}", ms) for e in made])
    task = task or Task(name="tickets", teacher="big", kind="label", labels=LABELS)
    return Work(root=root, task=task, recipe=Recipe(), students=root)


def evaluated(work: Work) -> tuple[dict[str, Any], Report]:
    found = evaluate(work, work.root / "evaluate", lambda done, say, **figures: None)
    return dict(found), msgspec.json.decode((work.root / "evaluate" / "report.json").read_bytes(), type=Report)


def verdict(report: Report, who: str, gate: str) -> gates.Verdict:
    candidate = next(c for c in report.candidates if c.measured.who == who)
    return next(v for v in candidate.verdicts if v.name == gate)


def test_a_good_student_is_chosen_with_all_its_files(tmp_path: Path) -> None:
    work = run(tmp_path, {"base": steep(2.0), "baseline": steep(1.6), "Q8_0": steep(0.35), "F16": steep(0.35)})
    (tmp_path / "predict" / "facts.json").write_text('{"Q8_0":{"bytes":145000000,"usd":0.00001},"F16":{"bytes":271}}')
    twins = swaps.swapped(work.examples("test"), "label")
    write(tmp_path / "predict" / "Q8_0.swapped.jsonl", [says(e, steep(0.9), "twin", 1.0) for e in twins])
    facts, report = evaluated(work)
    out = tmp_path / "evaluate"
    assert facts["passes"], facts["why"]
    chosen = msgspec.json.decode((out / "chosen.json").read_bytes(), type=Chosen)
    assert chosen.who == facts["chosen"] == report.chosen
    assert chosen.threshold.bound <= 0.05
    assert facts["coverage"] > 0.5
    # What is served and differs can be counted again from the items and the predictions alone.
    items = list(read(out / "items.jsonl", dict))
    served = [item for item in items if item["served"]]
    assert facts["coverage"] == len(served) / 300
    assert facts["disagreement"] == sum(not item["agrees"] for item in served) / len(served)
    if chosen.form != "ensemble":
        said = {p.id: p.raw for p in read(tmp_path / "predict" / f"{chosen.who}.test.jsonl", Prediction)}
        assert items[0]["confidence"] == calibrated(said[items[0]["id"]], chosen.calibration)
    assert msgspec.json.decode((out / "reference.json").read_bytes(), type=Reference).known
    for plot in ("risk-coverage", "deferral", "reliability", "confusion"):
        svg = ElementTree.fromstring((out / f"{plot}.svg").read_text())
        assert svg.get("aria-label")
        assert f"{plot}.svg" in (out / "report.md").read_text()
    assert {d.swap for d in report.deltas} >= {"gender", "typos", "case", "space"}
    assert all(d.gap.value < 0 and d.changed.value > 0.05 for d in report.deltas)


def test_the_same_predictions_give_the_same_report(tmp_path: Path) -> None:
    students = {"baseline": steep(1.6), "Q8_0": steep(0.35)}
    first, _ = evaluated(run(tmp_path / "a", students, sizes=(150, 100)))
    second, _ = evaluated(run(tmp_path / "b", students, sizes=(150, 100)))
    assert first == second
    for path in (tmp_path / "b" / "predict").iterdir():  # other times, same content
        write(path, [msgspec.structs.replace(p, ms=p.ms * 3) for p in read(path, Prediction)])
    third, _ = evaluated(run(tmp_path / "b", {}, sizes=(150, 100)))
    assert third["content_sha256"] == first["content_sha256"]


def test_a_student_no_better_than_the_baseline_is_not_chosen(tmp_path: Path) -> None:
    facts, report = evaluated(run(tmp_path, {"baseline": steep(0.35), "Q8_0": steep(0.36)}))
    assert facts["chosen"] in ("baseline", "ensemble")
    assert not verdict(report, "Q8_0", "baseline").passed
    assert verdict(report, "Q8_0", "baseline").remedy == "use the baseline"


def test_nothing_passes_and_the_reason_says_what_would(tmp_path: Path) -> None:
    facts, report = evaluated(run(tmp_path, {"Q8_0": lambda example, at: 0.07}))
    assert not facts["passes"]
    assert not (tmp_path / "evaluate" / "chosen.json").exists()
    assert "alpha 0.1 would pass at 100.0 % coverage" in verdict(report, "Q8_0", "threshold").remedy
    assert "no student passes; nearest is Q8_0: threshold" in facts["why"]


def test_too_few_rows_say_how_many_more(tmp_path: Path) -> None:
    facts, report = evaluated(run(tmp_path, {"Q8_0": steep(0.1)}, sizes=(30, 40)))
    assert not facts["passes"]
    assert verdict(report, "Q8_0", "rows").remedy == "about 75 more rows"  # 15 of them in the fifth that is cal


def test_cal_and_test_that_do_not_look_alike_fail(tmp_path: Path) -> None:
    """And a written waiver lets it pass all the same."""
    work = run(tmp_path, {"Q8_0": lambda e, at: 0.5 * at**3 + (0.15 if e.id.startswith("test") else 0.0)})
    _, report = evaluated(work)
    assert not verdict(report, "Q8_0", "test").passed
    (tmp_path / "waivers.json").write_text(json.dumps({"test": "known: a new product"}))
    _, report = evaluated(work)
    assert verdict(report, "Q8_0", "test").waived == "known: a new product"


def test_a_slice_that_is_served_badly_fails(tmp_path: Path) -> None:
    unfair: Error = lambda e, at: 0.35 if e.answer == "sales" else 0.2 * at**6  # noqa: E731
    task = Task(name="tickets", teacher="big", kind="label", labels=LABELS, alpha=0.2)
    _, report = evaluated(run(tmp_path, {"Q8_0": unfair}, task))
    assert "label sales" in verdict(report, "Q8_0", "slices").value
    assert not verdict(report, "Q8_0", "slices").passed


def test_a_form_unlike_the_float_fails(tmp_path: Path) -> None:
    _, report = evaluated(run(tmp_path, {"F16": steep(0.3), "Q4_0": steep(0.5), "torch": steep(0.3)}))
    assert not verdict(report, "Q4_0", "quantised").passed
    assert not verdict(report, "F16", "export").passed  # drawn apart here, so that they differ


def test_the_cheapest_is_taken_of_those_that_serve_nearly_as_much(tmp_path: Path) -> None:
    _, report = evaluated(run(tmp_path, {"baseline": steep(0.35), "Q8_0": steep(0.1), "F16": steep(0.1)}))
    by = {c.measured.who: c for c in report.candidates}
    more = {"Q8_0": 0.80, "F16": 0.81, "baseline": 0.60, "ensemble": 0.81}

    def having(shares: dict[str, float]) -> str:
        changed = [
            msgspec.structs.replace(
                by[who],
                measured=msgspec.structs.replace(
                    by[who].measured,
                    coverage=msgspec.structs.replace(by[who].measured.coverage, value=share),
                    bytes={"Q8_0": 145, "F16": 271}.get(who, 0),
                ),
            )
            for who, share in shares.items()
        ]
        return cheapest(changed).measured.who

    assert having(more) == "Q8_0"
    assert having({**more, "baseline": 0.77}) == "baseline"


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    work = run(tmp_path, {"Q8_0": steep(0.3)})
    path = tmp_path / "predict" / "Q8_0.test.jsonl"
    write(path, list(read(path, Prediction))[1:])
    with pytest.raises(Problem, match=r"Q8_0.test.jsonl lacks 1 of 300 predictions, the first of 'test0'"):
        evaluated(work)
    for each in (tmp_path / "predict").iterdir():
        each.unlink()
    with pytest.raises(Problem, match="no predictions of a student"):
        evaluated(work)


def test_extraction_and_a_judge(tmp_path: Path) -> None:
    for folder in ("collect", "predict", "evaluate"):
        (tmp_path / folder).mkdir()
    for split, items in (("train", 10), ("cal", 120), ("test", 100)):
        made = [
            Example(id=f"{split}{i}", text=f"t {i}", answer=json.dumps({"a": i, "b": "x"}), gold=json.dumps({"a": i}))
            for i in range(items)
        ]
        write(tmp_path / "collect" / f"{split}.jsonl", made)
        said = [
            Prediction(id=e.id, answer="broken" if i % 10 == 9 else e.answer, raw=1 - i % 10 / 10)
            for i, e in enumerate(made)
        ]
        write(tmp_path / "predict" / f"Q8_0.{split}.jsonl", said)
    asked: list[str] = []

    def ask(body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body["model"])
        return {"choices": [{"message": {"content": "No."}}]}

    task = Task(name="t", teacher="big", kind="extract", scorer=Scorer(by="judge", model="wise"))
    facts, report = evaluated(Work(root=tmp_path, task=task, recipe=Recipe(), students=tmp_path, ask=ask))
    kept = report.candidates[0].measured
    assert kept.agreement.value == pytest.approx(0.9)
    assert kept.quality["valid JSON"].value == pytest.approx(0.9)
    assert kept.quality["field F1"].value == pytest.approx(2 * 90 / (180 + 100))
    assert facts["auroc"] == 1.0
    assert set(asked) == {"wise"}
