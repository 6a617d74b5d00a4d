"""`python -m tests.conformance [FOLDER] [--only API] [--door NAME] [--ids ID ...] [--strict] [--json FILE]`.

Exits 1 below the bar (`report.meets_bar`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.conformance import harness, report
from tests.conformance.cases import WAYS
from tests.conformance.doors import DOORS
from tests.conformance.kit import default_folder
from tests.conformance.operations import OPERATIONS


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    ask.add_argument("folder", nargs="?", type=Path, default=default_folder(), help="folder of recordings")
    ask.add_argument("--only", choices=sorted((*WAYS, *OPERATIONS)), help="only this provider dialect or operation")
    ask.add_argument("--door", choices=sorted(DOORS), help="only this client dialect")
    ask.add_argument("--ids", nargs="+", default=(), metavar="ID", help="only these interactions")
    ask.add_argument("--strict", action="store_true", help="judge by the recordings' parser alone")
    ask.add_argument("--json", type=Path, metavar="FILE", help="write every result here")
    asked = ask.parse_args()
    began = time.monotonic()
    try:
        results = harness.run(
            asked.folder,
            api=asked.only,
            ids=asked.ids,
            doors=(asked.door,) if asked.door else harness.ALL_DOORS,
            is_strict=asked.strict,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except FileNotFoundError as e:
        ask.error(str(e))
    if asked.json:
        asked.json.write_bytes(report.as_json(results))
    print(report.exceptions(results))
    print(report.table(results), report.pairs(results), "Compared otherwise:", report.legend(), sep="\n\n")
    print(f"{len(results)} judged in {time.monotonic() - began:.0f} s")
    return 0 if report.meets_bar(results) else 1


if __name__ == "__main__":
    sys.exit(main())
