"""Makes students for four tasks and holds them against the bars: python -m benchmarks.loop [--quick] [--task NAME].

Each task and seed is a run of the studio in benchmarks/work, which goes on where it was stopped. What came of it is
written to benchmarks/results/loop-*.json, one file a task; `--page` writes docs/loop.md from those.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from benchmarks.loop import crf, data
from lilliput import config
from lilliput.cli.studio import hearing
from lilliput.local import weights
from lilliput.loop import score
from lilliput.studio import parts, stages
from lilliput.studio.collect import digest
from lilliput.studio.parts import Example, Facts, Prediction, Recipe, Tell, Work
from lilliput.tasks import Frame, Scorer, Task

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results"
SEEDS = (0, 1, 2)
TITLES = {
    "debian": "Debian synopsis to section",
    "reuters": "Reuters R8 to topic",
    "addresses": "US address to JSON",
    "disflqa": "DisflQA: passage and question to answer",
}
SYNTHETIC, REPEATED, CAL = 6000, 3, 150
SCHEMA = {"type": "object", "properties": {f: {"type": "string"} for f in data.FIELDS}, "additionalProperties": False}


class Set(Struct, frozen=True, kw_only=True):
    """A task, its recipe, and where its rows come from (none where `collect` is its own)."""

    task: Task
    recipe: Recipe
    rows: Callable[[int], list[tuple[str, str]]] | None = None
    collect: str = "collect:collect"


def sets() -> dict[str, Set]:
    topics = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
    forms = ("F16", "Q8_0", "Q4_K")
    sections = tuple(sorted({section for _, section in data.debian(0)})) if data.index() else ()
    return {
        "debian": Set(
            task=Task(name="debian", teacher="human", kind="label", labels=sections),
            recipe=Recipe(steps=110, layers=8, max_text_tokens=64, forms=forms),
            rows=data.debian,
        ),
        "reuters": Set(
            task=Task(name="reuters", teacher="human", kind="label", labels=topics),
            recipe=Recipe(steps=80, layers=8, max_text_tokens=96, forms=forms),
            rows=data.reuters,
        ),
        "addresses": Set(
            task=Task(
                name="addresses", teacher="human", kind="extract", scorer=Scorer(by="fields"),
                schema=Raw(msgspec.json.encode(SCHEMA)),
            ),
            recipe=Recipe(steps=240, layers=8, batch=32, max_answer_tokens=64, forms=forms),
            collect="benchmarks.loop.__main__:halves",
        ),
        "disflqa": Set(
            task=Task(name="disflqa", teacher="human", kind="text", scorer=Scorer(by="f1", least=0.8)),
            recipe=Recipe(steps=60, layers=8, batch=8, max_text_tokens=384, max_answer_tokens=32, forms=forms),
            rows=data.disfluent,
        ),
    }  # fmt: skip


def halves(work: Work, out: Path, tell: Tell) -> Facts:
    """`collect` for addresses: one half of the hand-labelled is the test; of the other some are for calibration, the
    rest, repeated, and machine-made ones are learned from."""
    labelled = data.addresses("labeled.xml")
    order = sorted(labelled, key=lambda pair: _place(work.recipe.seed, pair[0]))
    half = len(order) // 2
    made = sorted(data.addresses("synthetic_osm_data_xml.xml"), key=lambda p: _place(work.recipe.seed, p[0]))
    tested = {text for text, _ in order[:half]}
    mine = [pair for pair in order[half:] if pair[0] not in tested]
    known = [pair for pair in made if pair[0] not in tested][:SYNTHETIC]
    splits = {"test": order[:half], "cal": mine[:CAL], "train": mine[CAL:] * REPEATED + known}
    examples = {
        name: [Example(id=f"{name}{n}", text=t, answer=a, gold=a) for n, (t, a) in enumerate(pairs)]
        for name, pairs in splits.items()
    }
    for name, found in examples.items():
        parts.write(out / f"{name}.jsonl", found)
    (out / "frame.json").write_bytes(msgspec.json.encode(Frame()))
    return {"data_sha256": digest(examples), "splits": {name: len(found) for name, found in examples.items()}}


def _place(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def run(name: str, each: Set, seed: int, most: int) -> dict[str, Any]:
    """One run of the studio, of at most so many rows; its figures."""
    recipe = structs.replace(each.recipe, seed=seed)
    place = config.home(os.environ)
    work = Work(
        root=HERE / "work" / "loop" / f"{name}-{seed}-{most or 'all'}",
        task=each.task,
        recipe=recipe,
        students=HERE / "work" / "loop" / "students",
        weights=weights.pull(weights.DEFAULT, place.weights),
    )
    work.root.mkdir(parents=True, exist_ok=True)
    if each.rows is not None and not (work.root / stages.ROWS).is_file():
        parts.write(work.root / stages.ROWS, data.rows(name, each.rows(seed)[: most or None]))
    steps = [structs.replace(s, run=each.collect) if s.name == "collect" else s for s in stages.steps(work)]
    with hearing(False) as hear:
        outcome = stages.run(work, hear, steps)
    report = json.loads((work.of("evaluate") / "report.json").read_bytes())
    found = {
        "seed": seed,
        "passes": outcome.passes,
        "chosen": outcome.chosen,
        "why": outcome.why,
        "rows": report["rows"],
        "seconds": {m.stage: m.seconds for m in outcome.manifests.values()},
        "loss": outcome.manifests["distil"].facts.get("loss"),
        "candidates": {c["measured"]["who"]: _figures(c) for c in report["candidates"]},
    }
    if name == "addresses":
        found |= _addresses(work)
    return found


def _figures(candidate: Mapping[str, Any]) -> dict[str, Any]:
    m = candidate["measured"]
    return {
        "agreement": m["agreement"],
        "quality": m["quality"],
        "auroc": m["auroc"],
        "ece": m["ece"],
        "coverage": m["coverage"]["value"],
        "disagreement": m["disagreement"],
        "held": m["resplits"]["held"] if m["resplits"] else None,
        "p50_ms": m["p50_ms"],
        "bytes": m["bytes"],
        "passes": candidate["passes"],
        "against": {who: {"gap": p["gap"], "p": p["p"]} for who, p in candidate["pairs"].items()},
        "same": candidate["same"],
    }


def _addresses(work: Work) -> dict[str, Any]:
    """Valid JSON of the best form, and the F1 of usaddress's own model on the same items."""
    test = work.examples("test")
    said = {p.id: p.answer for p in parts.read(work.of("predict") / "Q8_0.test.jsonl", Prediction)}
    theirs = crf.answers([e.text for e in test])
    return {
        "valid_json": mean(score.is_json(said[e.id]) for e in test),
        "f1": micro_f1([(said[e.id], e.answer) for e in test]),
        "crf_f1": None if theirs is None else micro_f1([(a, e.answer) for a, e in zip(theirs, test, strict=True)]),
    }


def micro_f1(pairs: list[tuple[str, str]]) -> float:
    both, mine, theirs = (float(sum(n)) for n in zip(*(score.field_counts(a, b) for a, b in pairs), strict=True))
    return 2 * both / max(mine + theirs, 1)


Bar = tuple[str, str, bool]
"""What is asked, what was found, and whether that reaches it."""


def bars(name: str, kind: str, found: list[dict[str, Any]]) -> list[Bar]:
    """The bars of a task's kind over all seeds: all of them have to reach one."""
    given: list[Bar] = []

    def bar(say: str, value: Callable[[dict[str, Any]], float], reach: Callable[[float], bool], form: str) -> None:
        values = [value(run) for run in found]
        given.append((say, ", ".join(form.format(v) for v in values), all(map(reach, values))))

    def best(figure: Callable[[dict[str, Any]], float], but: str = "") -> Callable[[dict[str, Any]], float]:
        return lambda run: max(figure(c) for who, c in run["candidates"].items() if who != but)

    bar("training, seconds: at most 600", lambda r: float(r["seconds"]["distil"]), lambda v: v <= 600, "{:.0f}")
    if kind == "label":
        gap = best(lambda c: 100 * c["against"]["base"]["gap"]["value"], "baseline")
        bar("points over the zero-shot base: at least 5", gap, lambda v: v >= 5, "{:+.1f}")
        bar("p against TF-IDF, where better: under 0.05", _least_p, lambda v: v < 0.05, "{:.2g}")
        bar("served at alpha 0.05: at least half", best(lambda c: c["coverage"]), lambda v: v >= 0.5, "{:.1%}")
        bar("Q8_0, p50 ms: at most 40", lambda r: r["candidates"]["Q8_0"]["p50_ms"], lambda v: v <= 40, "{:.1f}")
        same = "Q8_0, same labels as F16: at least 98 %"
        bar(same, lambda r: r["candidates"]["Q8_0"]["same"].get("float", 0.0), lambda v: v >= 0.98, "{:.1%}")
    if kind == "extract":
        bar("valid JSON: all", lambda r: r["valid_json"], lambda v: v == 1, "{:.1%}")
        bar("field F1, Q8_0: at least 0.90", lambda r: r["f1"], lambda v: v >= 0.9, "{:.3f}")
        if all(run["crf_f1"] is not None for run in found):
            over = "field F1 against usaddress's own (trained on these)"
            bar(over, lambda r: r["f1"] - r["crf_f1"], lambda v: v >= 0, "{:+.3f}")
        else:
            given.append(("field F1 against usaddress's own", "not measured: it could not be installed", False))
    if kind == "text":
        low = best(lambda c: c["against"]["base"]["gap"]["low"])
        bar("token F1 over the base's, lower end of 95 %: over 0", low, lambda v: v > 0, "{:+.3f}")
    bar("AUROC of the confidence: at least 0.85", best(lambda c: c["auroc"]["value"]), lambda v: v >= 0.85, "{:.3f}")
    held = best(lambda c: c["held"] or 0.0)
    bar("bound held in 500 redraws: at least 90 %", held, lambda v: v >= 0.9, "{:.1%}")
    int4 = "int4 form: at most 2 points under F16"
    bar(int4, lambda r: 100 * r["candidates"]["Q4_K"]["against"]["float"]["gap"]["value"], lambda v: v >= -2, "{:+.1f}")
    return given


def _least_p(run: Mapping[str, Any]) -> float:
    """Of the students that are better than the baseline; 1 where none is."""
    pairs = [c["against"]["baseline"] for who, c in run["candidates"].items() if who != "baseline"]
    return min((p["p"] for p in pairs if p["gap"]["value"] > 0), default=1.0)


def page(results: Mapping[str, dict[str, Any]]) -> str:
    """docs/loop.md."""
    lines = [
        "# The loop, measured",
        "",
        "Students of SmolLM2-135M for four tasks on public, human-labelled data; the human's label stands in for the",
        "teacher's. `make loop` does it again; this page is made from `benchmarks/results/loop-*.json`.",
        "Times are those of a shared machine of two cores: read them as orders.",
    ]
    for name, each in TITLES.items():
        lines += ["", f"## {each}"]
        if name not in results:
            lines += ["Not measured yet."]
            continue
        found = results[name]
        seeds = ", ".join(str(run["seed"]) for run in found["runs"])
        lines += [f"{found['date']}, seeds {seeds}.", "", "| bar | found, by seed | |", "|---|---|---|"]
        lines += [f"| {say} | {value} | {'pass' if ok else '**miss**'} |" for say, value, ok in found["bars"]]
        lines += ["", "| seed | student | agrees | served | AUROC | p50 ms | MB | passes its gates |", "|" + "---|" * 8]
        for run in found["runs"]:
            for who, c in run["candidates"].items():
                cells = (
                    run["seed"], who, f"{c['agreement']['value']:.1%}", f"{c['coverage']:.1%}",
                    f"{c['auroc']['value']:.3f}", f"{c['p50_ms']:.2f}", f"{c['bytes'] / 1e6:.1f}",
                    "yes" if c["passes"] else "no",
                )  # fmt: skip
                lines.append("| " + " | ".join(map(str, cells)) + " |")
            lines.append(f"| {run['seed']} | | {run['why']} |" + " |" * 5)
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--task", action="append", help="only this one; repeatable")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value of every recipe")
    parser.add_argument("--rows", type=int, default=0, help="of a task, at most; all, if it is not given")
    parser.add_argument("--page", action="store_true", help="write docs/loop.md from the results, and run nothing")
    asked = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    missed = 0
    for name, each in () if asked.page else sets().items():
        if asked.task and name not in asked.task:
            continue
        if each.rows is data.debian and not data.index():
            print(f"{name}: left out, for apt has no index here")
            continue
        changed = msgspec.convert(
            {**structs.asdict(each.recipe), **dict(s.split("=", 1) for s in asked.set)}, Recipe, strict=False
        )
        some = structs.replace(each, recipe=changed)
        runs = [run(name, some, seed, asked.rows) for seed in SEEDS[: 1 if asked.quick else None]]
        found = bars(name, each.task.kind, runs)
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "recipe": changed, "bars": found, "runs": runs}
        text = msgspec.json.format(msgspec.json.encode({"task": name, **about}), indent=1)
        (RESULTS / f"loop-{name}.json").write_bytes(text + b"\n")
        print(f"\n{name}")
        for say, value, ok in found:
            print(f"  {'pass' if ok else 'MISS'}  {say:<52} {value}")
        missed += sum(not ok for *_, ok in found)
    results = {p.stem.removeprefix("loop-"): json.loads(p.read_bytes()) for p in RESULTS.glob("loop-*.json")}
    (HERE.parent / "docs" / "loop.md").write_text(page(results))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
