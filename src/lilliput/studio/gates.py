"""The bars that a student has to clear: data, and one verdict for each with what would clear it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from msgspec import Struct

from lilliput.loop import bound
from lilliput.studio.measure import Measured
from lilliput.studio.stats import Paired
from lilliput.tasks import Task

SIGNIFICANT = 0.05
SLICE_ITEMS = 10
"""Served items below which a slice says nothing."""


class Verdict(Struct, frozen=True, kw_only=True):
    """`blocks`: whether a student that fails it is not published. `waived` is the written word of whoever lets it pass
    all the same; `remedy` says what would pass."""

    name: str
    bar: str
    value: str
    passed: bool
    blocks: bool
    remedy: str = ""
    waived: str = ""


class Judged(Struct, frozen=True, kw_only=True):
    """All that the gates look at: one candidate, the rows it was chosen on, and the pairs it was compared in."""

    task: Task
    kept: Measured
    cal_items: int
    cal_share: float
    pairs: Mapping[str, Paired]
    """Against `teacher`, `base`, `baseline`, `previous`, `unpruned`, `float`, as far as they were measured."""
    same: Mapping[str, float]
    """Share of equal answers with `float` and `torch`."""
    baseline_passes: bool


Found = tuple[str, bool, str]
"""The value as text, whether it passes, and what would."""


class Gate(Struct, frozen=True):
    """`look` gives None where the gate has nothing to look at."""

    name: str
    bar: str
    blocks: bool
    look: Callable[[Judged], Found | None]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rows(j: Judged) -> Found:
    least = bound.least_items(0, j.task.alpha, j.task.delta)
    more = math.ceil(max(0, least - j.cal_items) / max(j.cal_share, 1e-9))
    return str(j.cal_items), j.cal_items >= least, f"about {more} more rows"


def _chosen(j: Judged) -> Found:
    found = j.kept.threshold
    value = f"coverage {_percent(found.coverage)}, bound {found.bound:.3f}"
    return value, found.coverage > 0.0, _instead(j)


def _instead(j: Judged) -> str:
    ways = [f"alpha {alpha:g} would pass at {_percent(coverage)} coverage" for alpha, coverage in j.kept.others[:1]]
    # The surest half that there is: what it shows now, shown by more items, might be enough.
    half = [(share, wrong) for share, wrong, _ in j.kept.curve if share >= 0.5] or [(1.0, 1.0)]
    share, wrong = half[0]
    served = bound.items_needed(wrong, j.task.alpha, j.task.delta)
    if served is not None and (more := served / share - j.cal_items) > 0:
        ways.append(f"about {math.ceil(more / max(j.cal_share, 1e-9))} more rows, if they are like these")
    return (
        "; ".join(ways) or f"nothing near: the surest half differs in {_percent(wrong)}; a larger base or better rows"
    )


def _realised(j: Judged) -> Found | None:
    seen = j.kept.disagreement
    if not seen.items:
        return None
    value = f"{_percent(seen.value)} ({_percent(seen.low)} to {_percent(seen.high)}) of {seen.items}"
    return value, seen.low <= j.task.alpha, "rows of one time and kind: cal and test do not look alike"


def _resplits(j: Judged) -> Found | None:
    if j.kept.resplits is None:
        return None
    held = j.kept.resplits.held
    return _percent(held), held >= 1.0 - j.task.delta, "a confidence that rises with agreement: look at the risk curve"


def _auroc(j: Judged) -> Found | None:
    area = j.kept.auroc
    wrong = round((1.0 - j.kept.agreement.value) * j.kept.items)
    if wrong == 0:  # nothing to tell apart
        return None
    value = f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"
    return value, area.value >= 0.80, "more steps or rows; an ensemble with the baseline"


def _teacher(j: Judged) -> Found | None:
    if (pair := j.pairs.get("teacher")) is None:
        return None
    value = f"{100 * pair.gap.value:+.1f} points ({100 * pair.gap.low:+.1f} to {100 * pair.gap.high:+.1f})"
    return value, pair.gap.low >= -0.02, "serve with deferral only, as published"


def _beats(whom: str, say: str) -> Callable[[Judged], Found | None]:
    def look(j: Judged) -> Found | None:
        pair = j.pairs.get(whom)
        if pair is None or j.kept.who == whom or (whom == "baseline" and not j.baseline_passes):
            return None
        return _gap(pair), is_better(pair, j.task.kind), say

    return look


def _gap(pair: Paired) -> str:
    return f"{100 * pair.gap.value:+.1f} points, p {pair.p:.2g}"


def is_better(pair: Paired, kind: str) -> bool:
    """Of labels by McNemar's test, of all else by the interval of the gap."""
    return pair.gap.value > 0 and (pair.p < SIGNIFICANT if kind == "label" else pair.gap.low > 0)


def _not_worse(whom: str, points: float, say: str) -> Callable[[Judged], Found | None]:
    def look(j: Judged) -> Found | None:
        if (pair := j.pairs.get(whom)) is None:
            return None
        return _gap(pair), pair.gap.value >= -points / 100, say

    return look


def _previous(j: Judged) -> Found | None:
    if (pair := j.pairs.get("previous")) is None:
        return None
    return _gap(pair), not (pair.gap.high < 0), "keep the student in place"


def _float(j: Judged) -> Found | None:
    if (pair := j.pairs.get("float")) is None:
        return None
    same = j.same["float"]
    passed = pair.gap.value >= -0.01 and (same >= 0.98 or j.task.kind != "label")
    return f"{_percent(same)} the same, {_gap(pair)}", passed, "a finer form: Q8_0, or base+lora"


def _export(j: Judged) -> Found | None:
    same = j.same.get("torch")
    return None if same is None else (_percent(same), same >= 0.99, "an error of the exporter: report it")


def _ece(j: Judged) -> Found:
    return f"{j.kept.ece:.3f} (raw {j.kept.ece_raw:.3f})", j.kept.ece <= 0.06, "more held-out rows"


def _slices(j: Judged) -> Found:
    """Served ones, for an answer that is deferred harms nobody; by Holm's step, so that many slices raise no alarm."""
    mean = 1.0 - j.kept.disagreement.value
    tested = sorted((s for s in j.kept.slices if s.served >= SLICE_ITEMS), key=lambda s: s.p)
    bad = []
    for i, each in enumerate(tested):
        if each.p > SIGNIFICANT / (len(tested) - i):
            break
        if each.served_agreement < mean - 0.10:
            bad.append(f"{each.by} {each.name}: {_percent(each.served_agreement)} of {each.served}")
    return "; ".join(bad) or f"none of {len(tested)}", not bad, "more rows of these slices, or a waiver in waivers.json"


def _latency(j: Judged) -> Found | None:
    value = f"p50 {j.kept.p50_ms:.1f} ms, p95 {j.kept.p95_ms:.1f} ms"
    return (value, j.kept.p50_ms <= 40.0, "fewer layers, or the baseline") if j.task.kind == "label" else None


GATES = (
    Gate("rows", "held-out rows enough for the bound", True, _rows),
    Gate("threshold", "some answers served within alpha, at confidence 1 - delta", True, _chosen),
    Gate("test", "disagreement on the test split not shown above alpha", True, _realised),
    Gate("resplits", "bound held in a share of 500 redraws of at least 1 - delta", True, _resplits),
    Gate("deferral", "AUROC at least 0.80", True, _auroc),
    Gate("base", "better than the zero-shot base, p < 0.05", True, _beats("base", "more steps or rows")),
    Gate("baseline", "better than TF-IDF, p < 0.05", True, _beats("baseline", "use the baseline")),
    Gate("previous", "not shown worse than the student in place", True, _previous),
    Gate("pruned", "within 3 points of the unpruned", True, _not_worse("unpruned", 3, "more layers, or more healing")),
    Gate("quantised", "98 % the same labels as the float form, and 1 point at most below", True, _float),
    Gate("export", "99 % the same answers from PyTorch and GGUF F16", True, _export),
    Gate("slices", "no slice shown more than 10 points under the mean of the served", True, _slices),
    Gate("teacher", "lower bound of the gap to the teacher at least -2 points", False, _teacher),
    Gate("calibration", "ECE (10 bins) at most 0.06 after scaling", False, _ece),
    Gate("latency", "p50 at most 40 ms on the machine it was measured on", False, _latency),
)


def verdicts(judged: Judged, waivers: Mapping[str, str] | None = None) -> list[Verdict]:
    """One for each gate that has something to look at."""
    given = []
    for gate in GATES:
        if (found := gate.look(judged)) is not None:
            value, passed, remedy = found
            given.append(
                Verdict(
                    name=gate.name,
                    bar=gate.bar,
                    value=value,
                    passed=passed,
                    blocks=gate.blocks,
                    remedy="" if passed else remedy,
                    waived="" if passed else (waivers or {}).get(gate.name, ""),
                )
            )
    return given


def passes(given: list[Verdict]) -> bool:
    return all(v.passed or v.waived or not v.blocks for v in given)
