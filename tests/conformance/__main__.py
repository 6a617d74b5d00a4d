"""`python -m tests.conformance [FOLDER] [--api NAME] [--only ID ...] [--json FILE]`: exit 1 below the bar."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.conformance import harness, report
from tests.conformance.cases import WAYS
from tests.conformance.kit import default_folder


def main() -> int:
    ask = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    ask.add_argument("folder", nargs="?", type=Path, default=default_folder(), help="folder of recordings")
    ask.add_argument("--api", choices=sorted(WAYS), help="only this dialect")
    ask.add_argument("--only", nargs="+", default=(), metavar="ID", help="only these interactions")
    ask.add_argument("--json", type=Path, metavar="FILE", help="write every result here")
    asked = ask.parse_args()
    began = time.monotonic()
    try:
        results = harness.run(asked.folder, api=asked.api, only=asked.only)
    except FileNotFoundError as e:
        ask.error(str(e))
    if asked.json:
        asked.json.write_bytes(report.as_json(results))
    print(report.exceptions(results))
    print(report.table(results))
    print(f"{len(results)} interactions in {time.monotonic() - began:.0f} s")
    return 0 if report.meets_bar(results) else 1


if __name__ == "__main__":
    sys.exit(main())
