"""What one candidate is worth, in figures: pure, from examples and the predictions made for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec import Struct

from lilliput.loop import bound, calibrate, score
from lilliput.loop.confidence import calibrated
from lilliput.studio import stats, swaps
from lilliput.studio.parts import Example, Prediction
from lilliput.studio.slices import slices
from lilliput.studio.stats import Estimate, Paired
from lilliput.tasks import Kind, Task, Threshold

Score = Callable[[str, str], float]
"""The task's scorer."""
Agrees = Callable[[str, str], bool]
CURVE = 100
"""Points of a curve at most."""


class Slice(Struct, frozen=True, kw_only=True):
    """Some of the test items: how many, what share is answered as the teacher does, and of the served ones."""

    by: str
    name: str
    items: int
    agreement: Estimate
    served: int
    served_agreement: float
    p: float = 1.0
    """How likely so many disagreements among the served are at the rate of all served (exact binomial)."""


class Measured(Struct, frozen=True, kw_only=True):
    """One candidate. `agreement` is with the teacher, `accuracy` with the humans' answers where those are known;
    `quality` names the measure of the kind: mean score, micro F1 over fields, or token F1. Shares and intervals (95 %)
    are those of the test split; `calibration` and `threshold` were chosen on the cal split alone."""

    who: str
    of: str = ""
    """Of an ensemble: the form beside the baseline."""
    items: int
    agreement: Estimate
    accuracy: Estimate | None
    quality: Mapping[str, Estimate]
    calibration: tuple[float, float]
    threshold: Threshold
    auroc: Estimate
    ece_raw: float
    ece: float
    brier: float
    bins: Sequence[calibrate.Bin]
    coverage: Estimate
    disagreement: Estimate
    """Among the served of the test split, with Clopper and Pearson's interval."""
    curve: Sequence[tuple[float, float, float]]
    """Coverage, share of disagreement and confidence, from the surest down."""
    p50_ms: float
    p95_ms: float
    bytes: int = 0
    usd: float | None = None
    """Of one answer, as facts.json has it."""
    slices: Sequence[Slice] = ()
    others: Sequence[tuple[float, float]] = ()
    """What would pass instead: (alpha, coverage)."""
    resplits: stats.Resplits | None = None
    point: stats.Resplits | None = None
    """As `resplits`, for a threshold without a bound."""


class Delta(Struct, frozen=True, kw_only=True):
    """What a swap does: the share answered right of the twins and of the originals, and the gap; of a label task also
    the share whose answer changed."""

    who: str
    swap: str
    items: int
    gap: Estimate
    changed: Estimate


OTHERS = (0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
"""Values of alpha that are tried when the task's own does not pass."""


def measure(
    who: str,
    task: Task,
    agrees: Agrees,
    cal: tuple[Sequence[Example], Sequence[Prediction]],
    test: tuple[Sequence[Example], Sequence[Prediction]],
    *,
    of: str = "",
    bytes: int = 0,
    usd: float | None = None,
    seed: int = 0,
) -> Measured:
    """Both splits' predictions stand in the order of their examples."""
    cal_right, right = ([agrees(p.answer, e.answer) for e, p in zip(*split, strict=True)] for split in (cal, test))
    scale = calibrate.platt([p.raw for p in cal[1]], cal_right)
    cal_sure, sure = ([calibrated(p.raw, scale) for p in predictions] for predictions in (cal[1], test[1]))
    threshold = bound.threshold(cal_sure, cal_right, task.alpha, task.delta)
    served = [c >= threshold.confidence for c in sure]
    wrong = sum(s and not r for s, r in zip(served, right, strict=True))
    low, high = bound.interval(wrong, sum(served))
    golden = all(e.gold is not None for e in test[0]) and bool(test[0])
    human = [agrees(p.answer, e.gold or "") for e, p in zip(*test, strict=True)] if golden else []
    pool = (cal_sure + sure, cal_right + right)
    draw = partial(stats.resplits, *pool, task.alpha, task.delta, items=len(cal_sure), seed=seed)
    return Measured(
        who=who,
        of=of,
        items=len(right),
        agreement=stats.wilson(sum(right), len(right)),
        accuracy=stats.wilson(sum(human), len(human)) if golden else None,
        quality=quality(task.kind, test[0], test[1], seed),
        calibration=scale,
        threshold=threshold,
        auroc=Estimate(*calibrate.auroc(sure, right), len(right)),
        ece_raw=calibrate.ece([p.raw for p in test[1]], right),
        ece=calibrate.ece(sure, right),
        brier=calibrate.brier(sure, right),
        bins=calibrate.reliability(sure, right),
        coverage=stats.wilson(sum(served), len(served)),
        disagreement=Estimate(wrong / max(sum(served), 1), low, high, sum(served)),
        curve=curve(sure, right),
        p50_ms=stats.quantile([p.ms for p in test[1]], 0.5),
        p95_ms=stats.quantile([p.ms for p in test[1]], 0.95),
        bytes=bytes,
        usd=usd,
        slices=sliced(task.kind, test[0], right, served),
        others=[(t.alpha, t.coverage) for t in _others(cal_sure, cal_right, task)],
        resplits=draw() if cal_sure and sure else None,
        point=draw(point=True) if cal_sure and sure else None,
    )


def _others(sure: Sequence[float], right: Sequence[bool], task: Task) -> list[Threshold]:
    tried = [bound.threshold(sure, right, alpha, task.delta) for alpha in OTHERS if alpha > task.alpha]
    return [t for t in tried if t.coverage > 0]


def quality(
    kind: Kind, examples: Sequence[Example], predictions: Sequence[Prediction], seed: int
) -> dict[str, Estimate]:
    """The measures of the kind, against the humans' answers where there are any, else the teacher's."""
    pairs = [(p.answer, e.answer if e.gold is None else e.gold) for e, p in zip(examples, predictions, strict=True)]
    if kind == "extract":
        counts = [score.field_counts(a, b) for a, b in pairs]
        formed = sum(score.is_json(a) for a, _ in pairs)
        return {
            "field F1": stats.bootstrap(counts, stats.micro_f1, seed=seed),
            "valid JSON": stats.wilson(formed, len(pairs)),
        }
    if kind == "text":
        return {
            "token F1": stats.bootstrap([score.token_f1(a, b) for a, b in pairs], stats.mean, seed=seed),
            "exact match": stats.wilson(sum(score.exact_match(a, b) for a, b in pairs), len(pairs)),
        }
    return {}


def curve(sure: Sequence[float], right: Sequence[bool]) -> list[tuple[float, float, float]]:
    """Ties whole; `CURVE` points at most."""
    order = sorted(range(len(sure)), key=lambda i: -sure[i])
    points, wrong = [], 0
    for k, i in enumerate(order, 1):
        wrong += not right[i]
        if k == len(order) or sure[order[k]] != sure[i]:
            points.append((k / len(order), wrong / k, sure[i]))
    step = -(-len(points) // CURVE) or 1
    return points[::-1][::step][::-1]


def sliced(kind: Kind, examples: Sequence[Example], right: Sequence[bool], served: Sequence[bool]) -> list[Slice]:
    """In the order of their names; a slice that is everything is left out."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        for each in slices(example, kind):
            groups[each].append(i)
    all_served = sum(served)
    rate = sum(s and not r for s, r in zip(served, right, strict=True)) / max(all_served, 1)
    found = []
    for (by, name), members in sorted(groups.items()):
        mine = [i for i in members if served[i]]
        wrong = sum(not right[i] for i in mine)
        if len(members) < len(examples):
            found.append(
                Slice(
                    by=by,
                    name=name,
                    items=len(members),
                    agreement=stats.wilson(sum(right[i] for i in members), len(members)),
                    served=len(mine),
                    served_agreement=1.0 - wrong / max(len(mine), 1),
                    p=1.0 - bound.tail(wrong - 1, len(mine), rate),
                )
            )
    return found


def ensemble(a: Sequence[Prediction], b: Sequence[Prediction]) -> list[Prediction]:
    """The mean of two students' label probabilities; the times add up."""
    both = []
    for x, y in zip(a, b, strict=True):
        labels = sorted({*x.scores, *y.scores})
        scores = {label: (x.scores.get(label, 0.0) + y.scores.get(label, 0.0)) / 2 for label in labels}
        best = max(labels, key=lambda label: scores[label])
        both.append(Prediction(id=x.id, answer=best, raw=scores[best], scores=scores, ms=x.ms + y.ms))
    return both


def compared(
    kind: Kind, examples: Sequence[Example], a: Sequence[Prediction], b: Sequence[Prediction], of: Score, seed: int = 0
) -> Paired:
    """Scores of two sets of predictions against the humans' answers where all are known, else the teacher's."""
    golden = all(e.gold is not None for e in examples)
    mine, theirs = (
        [of(p.answer, (e.gold if golden else e.answer) or "") for e, p in zip(examples, each, strict=True)]
        for each in (a, b)
    )
    return stats.paired(mine, theirs, seed)


def deltas(
    who: str,
    originals: Mapping[str, Example],
    twins: Mapping[str, Example],
    said: Mapping[str, Prediction],
    twins_said: Mapping[str, Prediction],
    of: Score,
    seed: int = 0,
) -> list[Delta]:
    """By swap; twins that nobody predicted are left out."""
    groups: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    for id, twin in twins.items():
        source, name = swaps.origin(id)
        if id in twins_said and source in said:
            before, after = said[source].answer, twins_said[id].answer
            groups[name].append((of(after, twin.answer), of(before, originals[source].answer), after != before))
    return [
        Delta(
            who=who,
            swap=name,
            items=len(rows),
            gap=stats.bootstrap([row[:2] for row in rows], stats.gap, seed=seed),
            changed=stats.wilson(sum(row[2] for row in rows), len(rows)),
        )
        for name, rows in sorted(groups.items())
    ]
