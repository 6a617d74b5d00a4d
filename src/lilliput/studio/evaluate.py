"""The stage that says what each student is worth, which is the cheapest that passes, and when it may answer.

It reads what others predicted, `predict/WHO.SPLIT.jsonl` (`parts.Prediction`; splits cal, test and, where there are,
`swapped`), and writes report.json, report.md, plots, items.jsonl, reference.json for the drift signal and, when a
student passes, chosen.json. The test split is looked at here alone; nothing is chosen on it but which form is cheapest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from lilliput.loop import drift
from lilliput.loop.confidence import calibrated
from lilliput.neutral import Problem
from lilliput.studio import charts, gates, measure, report, swaps
from lilliput.studio.measure import Delta, Measured
from lilliput.studio.parts import Example, Facts, Prediction, Tell, Work, write
from lilliput.studio.predicted import facts, predictions, scorers
from lilliput.studio.stats import Paired
from lilliput.tasks import Threshold

APART = frozenset({"teacher", "base", "previous", "unpruned", "torch", "float"})
"""Measured for comparison, never chosen."""
SPREAD = 0.05
"""How much more may be deferred for the sake of a cheaper student: the teacher's calls are what costs."""
MOST_CURVES = 5


class Candidate(Struct, frozen=True, kw_only=True):
    """One student with its figures, its comparisons and its verdicts."""

    measured: Measured
    pairs: Mapping[str, Paired]
    same: Mapping[str, float]
    verdicts: Sequence[gates.Verdict]
    passes: bool


class Report(Struct, frozen=True, kw_only=True):
    """report.json. `best` is who is chosen or, when nobody passes, who comes nearest."""

    task: str
    kind: str
    alpha: float
    delta: float
    rows: Mapping[str, int]
    seed: int
    chosen: str
    best: str
    why: str
    candidates: Sequence[Candidate]
    deltas: Sequence[Delta]
    confusion: Sequence[tuple[str, str, int]]
    """Teacher's label, student's label, how often."""


class Chosen(Struct, frozen=True, kw_only=True):
    """chosen.json: what `publish` puts into the bundle's manifest. `who` names the form; of an ensemble, `of` the form
    beside the baseline."""

    who: str
    form: Literal["baseline", "model", "ensemble"]
    of: str
    calibration: tuple[float, float]
    threshold: Threshold
    scores: Mapping[str, float]


def evaluate(work: Work, out: Path, tell: Tell) -> Facts:
    """Facts: `chosen` ("" when no student passes), `passes`, `why`, the main figures, and `content_sha256`, the hash of
    the report without its times."""
    cal, test = work.examples("cal"), work.examples("test")
    said = predictions(work, {"cal": cal, "test": test})
    forms = [who for who in said if who not in APART and "test" in said[who] and "cal" in said[who]]
    if not forms:
        raise Problem("client", f"no predictions of a student in {work.of('predict')}: run the stage 'predict' first")
    of, agrees = scorers(work)
    sizes = facts(work)
    if both := _ensemble(work, forms, said, agrees, cal):
        said["ensemble"], beside = both
        forms.append("ensemble")
    forms.sort(key=_rank)
    candidates: list[Candidate] = []
    for i, who in enumerate(forms):
        tell(i / len(forms), f"measuring {who}")
        kept = measure.measure(
            who,
            work.task,
            agrees,
            (cal, said[who]["cal"]),
            (test, said[who]["test"]),
            of=beside if who == "ensemble" else "",
            bytes=int(sizes.get(who, {}).get("bytes", 0)),
            usd=sizes.get(who, {}).get("usd"),
            seed=work.recipe.seed,
        )
        baseline = next((c.passes for c in candidates if c.measured.who == "baseline"), False)
        candidates.append(_judged(work, kept, said, cal, test, of, baseline))
    passing = [c for c in candidates if c.passes]
    best = cheapest(passing) if passing else max(candidates, key=_nearness)
    sure = [calibrated(p.raw, best.measured.calibration) for p in said[best.measured.who]["test"]]
    told = Report(
        task=work.task.name,
        kind=work.task.kind,
        alpha=work.task.alpha,
        delta=work.task.delta,
        rows={split: len(work.examples(split)) for split in ("train", "cal", "test")},
        seed=work.recipe.seed,
        chosen=best.measured.who if passing else "",
        best=best.measured.who,
        why=_why(best, bool(passing)),
        candidates=candidates,
        deltas=_deltas(work, test, said, of),
        confusion=_confusion(work, test, said[best.measured.who]["test"]),
    )
    tell(0.95, "writing the report")
    _write(work, out, told, best, sure, said, test, agrees)
    return {
        "chosen": told.chosen,
        "passes": bool(passing),
        "why": told.why,
        "content_sha256": content_sha256(told),
        **_scores(best.measured),
    }


def cheapest(passing: Sequence[Candidate]) -> Candidate:
    """Of those that serve nearly as much as the one that serves most: the baseline before a model before both, then the
    smaller file, then the quicker."""
    most = max(c.measured.coverage.value for c in passing)
    near = [c for c in passing if c.measured.coverage.value >= most - SPREAD]
    return min(near, key=lambda c: (_rank(c.measured.who)[0], c.measured.bytes, c.measured.p50_ms, c.measured.who))


def _rank(who: str) -> tuple[int, str]:
    return {"baseline": 0, "ensemble": 2}.get(who, 1), who


def _nearness(c: Candidate) -> tuple[int, float, float]:
    failed = sum(not v.passed and v.blocks for v in c.verdicts)
    return -failed, c.measured.coverage.value, c.measured.agreement.value


def _form(who: str) -> Literal["baseline", "model", "ensemble"]:
    return "baseline" if who == "baseline" else "ensemble" if who == "ensemble" else "model"


def _ensemble(
    work: Work,
    forms: Sequence[str],
    said: Mapping[str, Mapping[str, Sequence[Prediction]]],
    agrees: measure.Agrees,
    cal: Sequence[Example],
) -> tuple[dict[str, list[Prediction]], str] | None:
    """The baseline and the form that agrees best on cal, where both give label probabilities."""
    models = [who for who in forms if _form(who) == "model" and all(p.scores for p in said[who]["cal"])]
    if work.task.kind != "label" or "baseline" not in forms or not models:
        return None
    beside = max(
        models, key=lambda who: sum(agrees(p.answer, e.answer) for e, p in zip(cal, said[who]["cal"], strict=True))
    )
    splits = [s for s in ("cal", "test") if s in said["baseline"]]
    return {s: measure.ensemble(said["baseline"][s], said[beside][s]) for s in splits}, beside


def _judged(
    work: Work,
    kept: Measured,
    said: Mapping[str, Mapping[str, Sequence[Prediction]]],
    cal: Sequence[Example],
    test: Sequence[Example],
    of: measure.Score,
    baseline_passes: bool,
) -> Candidate:
    mine = said[kept.who]["test"]
    others = {
        who: said[who]["test"] for who in ("base", "baseline", "previous", "unpruned") if "test" in said.get(who, {})
    }
    others["teacher"] = [Prediction(id=e.id, answer=e.answer) for e in test]
    same: dict[str, float] = {}
    if _form(kept.who) == "model":
        exact = next(
            (who for who in ("float", "torch", "F16") if "test" in said.get(who, {}) and who != kept.who), None
        )
        if exact is not None:
            others["float"] = said[exact]["test"]
            same["float"] = _same(mine, others["float"])
        if kept.who == "F16" and "test" in said.get("torch", {}):
            same["torch"] = _same(mine, said["torch"]["test"])
    pairs = {
        who: measure.compared(work.task.kind, test, mine, theirs, of, work.recipe.seed)
        for who, theirs in others.items()
        if who != kept.who
    }
    if kept.who != "baseline" and "baseline" in others:
        same["baseline"] = _same(mine, others["baseline"])
    waivers = work.root / "waivers.json"
    given = gates.verdicts(
        gates.Judged(
            task=work.task,
            kept=kept,
            cal_items=len(cal),
            cal_share=work.recipe.shares[1],
            pairs=pairs,
            same=same,
            baseline_passes=baseline_passes,
        ),
        msgspec.json.decode(waivers.read_bytes(), type=dict[str, str]) if waivers.is_file() else None,
    )
    return Candidate(measured=kept, pairs=pairs, same=same, verdicts=given, passes=gates.passes(given))


def _same(a: Sequence[Prediction], b: Sequence[Prediction]) -> float:
    return sum(x.answer == y.answer for x, y in zip(a, b, strict=True)) / max(len(a), 1)


def _deltas(
    work: Work, test: Sequence[Example], said: Mapping[str, Mapping[str, Sequence[Prediction]]], of: measure.Score
) -> list[Delta]:
    twins = {e.id: e for e in swaps.swapped(test, work.task.kind, work.recipe.seed)}
    originals = {e.id: e for e in test}
    found = []
    for who, splits in said.items():
        if "swapped" in splits:
            mine = [Prediction(id=e.id, answer=e.answer) for e in test] if who == "teacher" else splits.get("test", ())
            found += measure.deltas(
                who, originals, twins, {p.id: p for p in mine}, {p.id: p for p in splits["swapped"]}, of
            )
    return found


def _confusion(work: Work, test: Sequence[Example], mine: Sequence[Prediction]) -> list[tuple[str, str, int]]:
    if work.task.kind != "label":
        return []
    counts = Counter((e.answer, p.answer) for e, p in zip(test, mine, strict=True))
    return [(a, b, n) for (a, b), n in sorted(counts.items())]


def _why(best: Candidate, passed: bool) -> str:
    if passed:
        m = best.measured
        return (
            f"{m.who} serves {100 * m.coverage.value:.1f} % of the test split and differs in "
            f"{100 * m.disagreement.value:.1f} % of it"
        )
    failed = [v for v in best.verdicts if v.blocks and not v.passed and not v.waived]
    return f"no student passes; nearest is {best.measured.who}: " + "; ".join(
        f"{v.name} ({v.value}; wanted: {v.bar}; would pass: {v.remedy})" for v in failed
    )


def _scores(m: Measured) -> dict[str, float]:
    found = {
        "agreement": m.agreement.value,
        "auroc": m.auroc.value,
        "ece": m.ece,
        "coverage": m.coverage.value,
        "disagreement": m.disagreement.value,
        **{name.replace(" ", "_"): e.value for name, e in m.quality.items()},
    }
    return found if m.accuracy is None else {**found, "accuracy": m.accuracy.value}


def content_sha256(told: Report) -> str:
    """Of everything but the times, which no two runs share."""
    plain = msgspec.to_builtins(told)
    for candidate in plain["candidates"]:
        del candidate["measured"]["p50_ms"], candidate["measured"]["p95_ms"]
        candidate["verdicts"] = [v for v in candidate["verdicts"] if v["name"] != "latency"]
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()


def _write(
    work: Work,
    out: Path,
    told: Report,
    best: Candidate,
    sure: Sequence[float],
    said: Mapping[str, Mapping[str, Sequence[Prediction]]],
    test: Sequence[Example],
    agrees: measure.Agrees,
) -> None:
    m = best.measured
    encode = partial(msgspec.json.encode, order="deterministic")
    (out / "report.json").write_bytes(msgspec.json.format(encode(told), indent=1))
    (out / "report.md").write_text(report.markdown(told), encoding="utf-8")
    ranked = sorted(told.candidates, key=lambda c: c.measured.who != m.who)[:MOST_CURVES]
    curves = {c.measured.who: [(a, b) for a, b, _ in c.measured.curve] for c in ranked}
    plots = {
        "risk-coverage": charts.risk_coverage(curves, told.alpha, {m.who: m.coverage.value}),
        "deferral": charts.deferral(m.curve, m.threshold.confidence),
        "reliability": charts.reliability(m.bins),
    }
    if told.confusion:
        plots["confusion"] = charts.confusion({(a, b): n for a, b, n in told.confusion})
    for name, svg in plots.items():
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    write(
        out / "items.jsonl",
        (
            {
                "id": e.id,
                "teacher": e.answer,
                "student": p.answer,
                "confidence": c,
                "agrees": agrees(p.answer, e.answer),
                "served": c >= m.threshold.confidence,
            }
            for e, p, c in zip(test, said[m.who]["test"], sure, strict=True)
        ),
    )
    cal = work.examples("cal")
    cal_sure = [calibrated(p.raw, m.calibration) for p in said[m.who]["cal"]]
    seen = drift.fit(
        [e.text for e in work.examples("train")],
        [e.text for e in cal],
        [c >= m.threshold.confidence for c in cal_sure],
    )
    (out / "reference.json").write_bytes(encode(seen))
    if told.chosen:
        chosen = Chosen(
            who=m.who,
            form=_form(m.who),
            of=m.of,
            calibration=m.calibration,
            threshold=m.threshold,
            scores=_scores(m),
        )
        (out / "chosen.json").write_bytes(encode(chosen))
