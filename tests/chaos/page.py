"""Writes what a run gave into one column of the tables in docs/reliability.md.

lilliput chaos --every-byte --json > ours.json
python -m tests.chaos.page 1 ours.json      # column 1 is ours, 2 and 3 the others'
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
GRADES = ("pass", "partial", "fail")
EVERY_BYTE = "every byte"
CAUSES = {
    "called finished though it was not, or ended in silence": r"false success|in silence|no end|finish '|at once",
    "bytes passed on that no client can read, or other text": r"junk|text differs",
    "an error sent as a 200": r"an error as a 200",
    "a 500 that the provider did not send": r"^500|spoils.*: 500",
    "the caller blamed for the provider's fault": r"in place of|spoils",
    "a provider's key shown": r"shows a key",
    "Retry-After lost": r"Retry-After",
    "hangs": r"^hangs",
    "the provider never told that the caller left": r"never told",
}
"""Why a cell failed, by its verdict: the first that fits."""


def column(cells: list[dict[str, Any]]) -> dict[str, str]:
    """A row's name -> what stands there for this gateway."""
    cuts = [cell for cell in cells if cell["group"] == EVERY_BYTE]
    cells = [cell for cell in cells if cell["group"] != EVERY_BYTE]
    grades = Counter(cell["grade"] for cell in cells)
    found = {"cells run": str(len(cells))} | {grade: str(grades[grade]) for grade in GRADES}
    causes = Counter(cause(cell["why"]) for cell in cells if cell["grade"] == "fail")
    found |= {f"fail: {name}": str(causes[name]) for name in CAUSES}
    if cuts:
        of = Counter(cell["grade"] for cell in cuts)
        found["the stream cut after every byte"] = f"{of['pass']} of {len(cuts)} exact, {of['fail']} fail"
    by_name: dict[str, Counter[str]] = {}
    for cell in cells:
        by_name.setdefault(cell["scenario"], Counter())[cell["grade"]] += 1
    return found | {n: ", ".join(f"{of[g]} {g}" for g in GRADES if of[g]) for n, of in by_name.items()}


def cause(why: str) -> str:
    return next((name for name, pattern in CAUSES.items() if re.search(pattern, why)), "other")


def rows(page: str) -> list[str]:
    """The names of the rows of the page's tables."""
    return [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")]


def written(page: str, number: int, new: dict[str, str]) -> str:
    """The page with column `number` (from 1) anew."""
    lines = page.splitlines()
    for at, line in enumerate(lines):
        fields = line.split("|")
        if line.startswith("|") and len(fields) == 6 and (value := new.get(fields[1].strip())) is not None:
            fields[number + 1] = f" {value} "
            lines[at] = "|".join(fields)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    new = column(json.loads(Path(sys.argv[2]).read_text()))
    PAGE.write_text(written(PAGE.read_text(), int(sys.argv[1]), new))
