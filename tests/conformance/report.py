"""What a run says: a table per provider dialect and door, the exceptions by id with their reason, the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from tests.conformance.corrections import KNOWN, RULES
from tests.conformance.doors import ALLOWED
from tests.conformance.harness import CHECKS, Result

BAR = 0.99
"""Least part of a dialect's interactions that must pass every check."""
UNBROKEN = 1.0
"""Least part that must tell an unfinished answer from a whole one."""
SHOWN = 400
"""Longest reason, in characters."""


def table(results: Iterable[Result]) -> str:
    """One line for each provider dialect at each door: how many were judged and passed, how many of these with a note,
    and of each check how many passed of how many it applied to."""
    head = f"{'provider dialect':20}{'door':>10}{'judged':>8}{'passed':>8}{'%':>8}{'noted':>7}"
    lines = [head + "".join(f"{c:>12}" for c in CHECKS)]
    for (api, door), rows in _groups(results):
        passed = sum(r.passed for r in rows)
        noted = sum(bool(r.note) and r.passed for r in rows)
        counts = [
            f"{sum(not r.wrong.get(c) for r in rows if c in r.wrong)}/{sum(c in r.wrong for r in rows)}" for c in CHECKS
        ]
        told = f"{api:20}{door:>10}{len(rows):>8}{passed:>8}{100 * passed / len(rows):>8.2f}{noted:>7}"
        lines.append(told + "".join(f"{c:>12}" for c in counts))
    return "\n".join(lines)


def pairs(results: Iterable[Result]) -> str:
    """Client dialect x provider dialect: passed of judged."""
    groups = dict(_groups(results))
    doors = sorted({door for _, door in groups}, key=lambda d: (d == "-", d))
    lines = [f"{'passed/judged':20}" + "".join(f"{d:>14}" for d in doors)]
    for api in sorted({api for api, _ in groups}):
        cells = [groups.get((api, d), []) for d in doors]
        told = [f"{sum(r.passed for r in rows)}/{len(rows)}" if rows else "" for rows in cells]
        lines.append(f"{api:20}" + "".join(f"{t:>14}" for t in told))
    return "\n".join(lines)


def legend() -> str:
    """What a door cannot tell of an answer, and how it is compared instead."""
    return "\n".join(f"  {name:18}{why}" for name, why in (ALLOWED | RULES).items())


def exceptions(results: Iterable[Result]) -> str:
    """A line for each check that an interaction failed, and for each interaction that passed with a note."""
    lines = []
    noted: dict[str, str] = {}
    for r in sorted(results, key=lambda r: (r.api, r.door, r.id)):
        lines += [
            f"{'known ' if r.id in KNOWN else 'FAIL  '}  {r.api} via {r.door}  {r.id}  {check}: {why[:SHOWN]}"
            for check, why in r.wrong.items()
            if why
        ]
        if r.note and r.passed:
            noted[r.id] = r.note
        if r.id in KNOWN:
            noted[r.id] = KNOWN[r.id]
    return "\n".join([*lines, *(f"noted   {id}  {note}" for id, note in noted.items())])


def meets_bar(results: Iterable[Result]) -> bool:
    """True when every dialect passes BAR and UNBROKEN at every door; a run that judged nothing does not.

    The KNOWN are left aside, unless they make an unfinished answer look whole.
    """
    groups = list(_groups(r for r in results if r.id not in KNOWN or r.wrong.get("broken")))
    return bool(groups) and all(
        sum(r.passed for r in rows) >= BAR * len(rows)
        and sum(not r.wrong.get("broken") for r in rows) >= UNBROKEN * len(rows)
        for _, rows in groups
    )


def as_json(results: Iterable[Result]) -> bytes:
    """Every result, for a machine."""
    rows: list[dict[str, Any]] = [{**msgspec.to_builtins(r), "passed": r.passed} for r in results]
    return msgspec.json.format(msgspec.json.encode(rows))


def _groups(results: Iterable[Result]) -> Iterator[tuple[tuple[str, str], list[Result]]]:
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.api, r.door), []).append(r)
    yield from sorted(groups.items())
