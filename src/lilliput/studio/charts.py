"""Plots as SVG, written by hand: readable on light and on dark paper, no dependency. Their tables are `report`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from lilliput.loop.calibrate import Bin

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 36, 64
INK, GRID = "#7d8590", "#7d859055"
COLOURS = ("#3b82f6", "#e8710a", "#16a34a", "#a855f7", "#dc2626", "#0d9488")
MOST_LABELS = 20
"""Of a confusion matrix; the rest is told in the table."""

Points = Sequence[tuple[float, float]]


class _Plane:
    """Axes from 0 to `wide` and 0 to `high`, both shares."""

    def __init__(self, title: str, x: str, y: str, wide: float = 1.0, high: float = 1.0) -> None:
        self.wide, self.high = wide, high
        self.parts = [_text(WIDTH / 2, 20, title, size=14)]
        for i in range(6):
            share = i / 5
            px, py = self.at(share * wide, share * high)
            self.parts += [
                _line((LEFT, py), (WIDTH - RIGHT, py), GRID),
                _text(LEFT - 6, py + 4, f"{100 * share * high:.3g} %", anchor="end"),
                _text(px, HEIGHT - BOTTOM + 16, f"{100 * share * wide:.3g} %"),
            ]
        self.parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 34, x))
        self.parts.append(
            f'<text transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)" text-anchor="middle"'
            f' font-size="11" fill="{INK}">{escape(y)}</text>'
        )
        self.keys = 0

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + min(1.0, x / self.wide) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - min(1.0, y / self.high) * (HEIGHT - TOP - BOTTOM),
        )

    def line(self, points: Points, say: str, dashed: bool = False, colour: str = "") -> None:
        colour = colour or COLOURS[self.keys % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        self.key(say, colour)

    def key(self, say: str, colour: str) -> None:
        x = LEFT + 170 * (self.keys % 3)
        y = HEIGHT - 16 + 12 * (self.keys // 3)
        self.parts.append(f'<rect x="{x}" y="{y - 8}" width="10" height="10" fill="{colour}"/>')
        self.parts.append(_text(x + 15, y + 1, say, anchor="start"))
        self.keys += 1

    def svg(self, say: str) -> str:
        return _svg(WIDTH, HEIGHT, say, self.parts)


def risk_coverage(curves: Mapping[str, Points], alpha: float, chosen: Mapping[str, float]) -> str:
    """Disagreement among the served (up) as more are served (right), with alpha, and the coverage chosen by whom."""
    top = max([alpha * 2, *(risk for points in curves.values() for _, risk in points)])
    plane = _Plane("Disagreement by coverage", "share served, surest first", "disagreement", high=min(1.0, top))
    plane.line([(0.0, alpha), (1.0, alpha)], f"alpha {alpha:g}", dashed=True, colour=INK)
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        plane.line(points, name, colour=colour)
        if coverage := chosen.get(name):
            a, b = plane.at(coverage, 0.0), plane.at(coverage, plane.high)
            plane.parts.append(_line(a, b, colour, dash="2 3"))
            plane.parts.append(_text(b[0], b[1] - 3, f"{100 * coverage:.0f} %", size=10))
    return plane.svg("Disagreement with the teacher among served answers, by share served")


def deferral(curve: Sequence[tuple[float, float, float]], threshold: float) -> str:
    """Coverage and disagreement by the confidence that is asked for."""
    plane = _Plane("What a threshold does", "confidence asked for", "share")
    rising = sorted(curve, key=lambda point: point[2])
    plane.line([(sure, coverage) for coverage, _, sure in rising], "served")
    plane.line([(sure, wrong) for _, wrong, sure in rising], "differ, of the served")
    if threshold <= 1.0:
        plane.parts.append(_line(plane.at(threshold, 0.0), plane.at(threshold, 1.0), INK, dash="5 4"))
        plane.key(f"threshold {threshold:.3f}", INK)
    return plane.svg("Share served and share of disagreement, by confidence asked for")


def reliability(bins: Sequence[Bin]) -> str:
    """Share right by confidence; on the diagonal a confidence is what it says."""
    plane = _Plane("Reliability", "confidence", "share right")
    plane.line([(0.0, 0.0), (1.0, 1.0)], "as it says", dashed=True, colour=INK)
    plane.line([(b.confidence, b.right) for b in bins], "measured")
    for b in bins:
        x, y = plane.at(b.confidence, b.right)
        plane.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"/>')
        plane.parts.append(_text(x, y - 8, str(b.items), size=10))
    return plane.svg("Share of right answers by confidence; the numbers count answers")


def confusion(counts: Mapping[tuple[str, str], int]) -> str:
    """The teacher's labels down, the student's across; shares of each row."""
    totals: dict[str, int] = {}
    for (teacher, student), count in counts.items():
        totals[teacher] = totals.get(teacher, 0) + count
        totals.setdefault(student, 0)
    labels = sorted(sorted(totals, key=lambda label: (-totals[label], label))[:MOST_LABELS])
    side = 26
    left, top = 120, 120
    wide, high = left + side * len(labels) + 16, top + side * len(labels) + 16
    parts = [_text(8, 18, "Teacher down, student across", size=14, anchor="start")]
    for i, row in enumerate(labels):
        y, x = top + side * i, left + side * i
        parts.append(_text(left - 6, y + side / 2 + 4, _short(row), anchor="end"))
        parts.append(
            f'<text transform="translate({x + side / 2 + 4:.1f} {top - 6}) rotate(-60)" font-size="11" fill="{INK}">'
            f"{escape(_short(row))}</text>"
        )
        for j, column in enumerate(labels):
            count = counts.get((row, column), 0)
            colour = COLOURS[0] if i == j else COLOURS[1]
            share = count / max(totals[row], 1)
            parts.append(
                f'<rect x="{left + side * j}" y="{y}" width="{side - 1}" height="{side - 1}" fill="{colour}"'
                f' fill-opacity="{0.05 + 0.75 * share:.2f}"/>'
            )
            if count:
                parts.append(_text(left + side * j + side / 2, y + side / 2 + 4, str(count), size=10))
    return _svg(max(wide, 260), high, "How often the student says what where the teacher says what", parts)


def _short(label: str) -> str:
    return label if len(label) <= 15 else label[:14] + "…"


def _text(x: float, y: float, say: str, size: int = 11, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}">{escape(say)}</text>'


def _line(a: tuple[float, float], b: tuple[float, float], colour: str, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{colour}"{dashes}/>'


def _svg(wide: float, high: float, say: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" role="img"'
        f' aria-label="{escape(say)}" font-family="system-ui, sans-serif">\n<title>{escape(say)}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
