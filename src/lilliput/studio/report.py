"""A report for people: Markdown of what `evaluate` found. Every plot stands beside its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lilliput.studio.measure import Measured
from lilliput.studio.stats import Estimate, Resplits

if TYPE_CHECKING:
    from lilliput.studio.evaluate import Candidate, Report

TABLE_COVERAGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MOST_CONFUSED = 15


def markdown(told: Report) -> str:
    best = next(c for c in told.candidates if c.measured.who == told.best)
    parts = [
        f"# {told.task}: which student, if any",
        f"{'**Passes.**' if told.chosen else '**Nothing passes.**'} {told.why}.",
        f"A {told.kind} task; of the answers that a student serves, a share of at most {told.alpha:g} may differ from "
        f"the teacher's, with confidence {1 - told.delta:g}. Rows: "
        + ", ".join(f"{count} {split}" for split, count in told.rows.items())
        + f"; seed {told.seed}. Calibration and threshold were chosen on cal; all shares are of test, with 95 % "
        "intervals.",
        "## Candidates",
        _candidates(told.candidates),
        *_usual(told),
        f"## Gates of {told.best}",
        _table(
            ("gate", "bar", "value", "verdict", "what would pass"),
            ((v.name, v.bar, v.value, _verdict(v), v.waived or v.remedy) for v in best.verdicts),
        ),
        *_compared(best),
        "## Deferral",
        "![Disagreement by coverage](risk-coverage.svg) ![What a threshold does](deferral.svg)",
        _curve(best.measured),
        _resplits(best.measured),
        "## Calibration",
        "![Reliability](reliability.svg)",
        f"Expected calibration error {best.measured.ece:.3f} (raw {best.measured.ece_raw:.3f}), "
        f"Brier {best.measured.brier:.3f}; slope and intercept of the logit "
        f"{best.measured.calibration[0]:.3f}, {best.measured.calibration[1]:.3f}.",
        _table(
            ("answers", "confidence", "right"),
            ((str(b.items), f"{b.confidence:.3f}", f"{b.right:.3f}") for b in best.measured.bins),
        ),
        "## Slices",
        _table(
            ("slice", "items", "agreement", "served", "agreement of served"),
            (
                (
                    f"{s.by}: {s.name}",
                    str(s.items),
                    _share(s.agreement),
                    str(s.served),
                    _served(s.served, s.served_agreement),
                )
                for s in best.measured.slices
            ),
        ),
    ]
    if told.confusion:
        off = sorted(((a, b, n) for a, b, n in told.confusion if a != b), key=lambda row: (-row[2], row))
        parts += [
            "## Confusion",
            "![Confusion](confusion.svg)",
            _table(("teacher", "student", "items"), ((a, b, str(n)) for a, b, n in off[:MOST_CONFUSED])),
        ]
    if told.deltas:
        parts += [
            "## Swaps",
            "The task's own requests, changed in what should not change the answer. Gap: share right of the changed "
            "ones less that of the originals, in points.",
            _table(
                ("who", "swap", "items", "gap", "answer changed"),
                ((d.who, d.swap, str(d.items), _points(d.gap), _share(d.changed)) for d in told.deltas),
            ),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _candidates(candidates: Sequence[Candidate]) -> str:
    rows = []
    for c in candidates:
        m = c.measured
        rows.append(
            (
                f"{m.who} (with {m.of})" if m.of else m.who,
                _share(m.agreement),
                _share(m.accuracy) if m.accuracy else "",
                f"{m.auroc.value:.3f} ({m.auroc.low:.3f} to {m.auroc.high:.3f})",
                _share(m.coverage),
                _share(m.disagreement) if m.disagreement.items else "",
                f"{m.p50_ms:.1f} / {m.p95_ms:.1f}",
                f"{m.bytes / 1e6:.1f}" if m.bytes else "",
                f"{m.usd:.3g}" if m.usd is not None else "",
                "yes" if c.passes else "no",
            )
        )
    return _table(
        (
            *("who", "agreement with the teacher", "accuracy", "AUROC", "coverage", "disagreement of served"),
            *("p50 / p95 ms", "MB", "USD", "passes"),
        ),
        rows,
    )


def _usual(told: Report) -> list[str]:
    """What the kind is measured by, where it is more than right or wrong."""
    names = sorted({name for c in told.candidates for name in c.measured.quality})
    if not names:
        return []
    return [
        _table(
            ("who", *names),
            (
                (c.measured.who, *(_share(c.measured.quality[n]) if n in c.measured.quality else "" for n in names))
                for c in told.candidates
            ),
        )
    ]


def _compared(best: Candidate) -> list[str]:
    table = _table(
        ("against", "student", "other", "gap in points", "student alone right", "other alone right", "p (McNemar)"),
        (
            (
                who,
                f"{100 * p.a:.1f} %",
                f"{100 * p.b:.1f} %",
                _points(p.gap),
                str(p.only_a),
                str(p.only_b),
                f"{p.p:.2g}",
            )
            for who, p in sorted(best.pairs.items())
        ),
    )
    same = ", ".join(f"{who} {100 * share:.1f} %" for who, share in sorted(best.same.items()))
    return ["## Compared on the same items", table, f"The same answer as: {same}." if same else ""]


def _curve(m: Measured) -> str:
    rows = []
    for wanted in TABLE_COVERAGES:
        point = next((p for p in m.curve if p[0] >= wanted - 1e-9), None)
        if point is not None:
            rows.append((f"{100 * point[0]:.1f} %", f"{100 * point[1]:.1f} %", f"{point[2]:.3f}"))
    return _table(("served", "differ", "confidence at least"), rows)


def _resplits(m: Measured) -> str:
    def row(name: str, found: Resplits) -> tuple[str, ...]:
        shares = (found.held, found.realised, found.missed, found.coverage, found.nothing)
        return (name, *(f"{100 * share:.1f} %" for share in shares))

    if m.resplits is None or m.point is None:
        return ""
    return f"{m.resplits.times} redraws of the held-out items, a threshold chosen on each:\n\n" + _table(
        (
            "chosen by",
            "bound held",
            "held on the items left over",
            "missed there by 2 points",
            "median coverage",
            "served nothing",
        ),
        (row("bound", m.resplits), row("point estimate", m.point)),
    )


def _verdict(v: object) -> str:
    if getattr(v, "passed", False):
        return "pass"
    return "waived" if getattr(v, "waived", "") else "FAIL" if getattr(v, "blocks", False) else "miss (does not block)"


def _share(e: Estimate) -> str:
    return f"{100 * e.value:.1f} % ({100 * e.low:.1f} to {100 * e.high:.1f})"


def _points(e: Estimate) -> str:
    return f"{100 * e.value:+.1f} ({100 * e.low:+.1f} to {100 * e.high:+.1f})"


def _served(items: int, share: float) -> str:
    return f"{100 * share:.1f} %" if items else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
