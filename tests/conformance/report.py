"""What a run says: a table per dialect, the exceptions by id with their reason, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from tests.conformance.harness import CHECKS, Result

BAR = 0.99
"""Least part of a dialect's interactions that must pass every check."""
UNBROKEN = 1.0
"""Least part that must tell an unfinished answer from a whole one."""


def table(results: Iterable[Result]) -> str:
    """One line a dialect: how many were judged and passed, how many of these with a note, failures per check."""
    lines = [f"{'dialect':22}{'judged':>8}{'passed':>8}{'%':>8}{'noted':>7}" + "".join(f"{c:>10}" for c in CHECKS)]
    for api, rows in _by_api(results):
        passed = sum(r.passed for r in rows)
        noted = sum(bool(r.note) and r.passed for r in rows)
        share = 100 * passed / len(rows)
        counts = [
            f"{sum(not r.wrong.get(c) for r in rows if c in r.wrong)}/{sum(c in r.wrong for r in rows)}" for c in CHECKS
        ]
        lines.append(f"{api:22}{len(rows):>8}{passed:>8}{share:>8.2f}{noted:>7}" + "".join(f"{c:>10}" for c in counts))
    return "\n".join(lines)


def exceptions(results: Iterable[Result]) -> str:
    """A line for each interaction that failed, or that passed with a note."""
    lines = []
    for r in sorted(results, key=lambda r: (r.api, r.id)):
        lines += [f"FAIL    {r.id}  {check}: {why}" for check, why in r.wrong.items() if why]
        if r.note and r.passed:
            lines.append(f"noted   {r.id}  {r.note}")
    return "\n".join(lines)


def meets_bar(results: Iterable[Result]) -> bool:
    """True when every dialect passes BAR and UNBROKEN; a run that judged nothing does not."""
    groups = list(_by_api(results))
    return bool(groups) and all(
        sum(r.passed for r in rows) >= BAR * len(rows)
        and sum(not r.wrong.get("broken") for r in rows) >= UNBROKEN * len(rows)
        for _, rows in groups
    )


def as_json(results: Iterable[Result]) -> bytes:
    """Every result, for a machine."""
    rows: list[dict[str, Any]] = [{**msgspec.to_builtins(r), "passed": r.passed} for r in results]
    return msgspec.json.format(msgspec.json.encode(rows))


def _by_api(results: Iterable[Result]) -> Iterator[tuple[str, list[Result]]]:
    groups: dict[str, list[Result]] = {}
    for r in results:
        groups.setdefault(r.api, []).append(r)
    yield from sorted(groups.items())
