"""Hostile requests by the million over every route of a running gateway (`make soak` runs it too).

    python scripts/hostile.py [--count N] [--seed N] [--only NUMBER]

Prints the rate, the answers by status, and each fault with the seed and number that make it again; ends with 1 when
there was one, or when the gateway grew by 50 MiB.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.security.hostile import case, siege

MOST_GROWTH_BYTES = 50 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="else the time, which is printed")
    parser.add_argument("--only", type=int, default=None, help="the one request with this number, which is shown")
    asked = parser.parse_args()
    seed = int(time.time()) if asked.seed is None else asked.seed
    numbers = range(asked.count) if asked.only is None else range(asked.only, asked.only + 1)
    if asked.only is not None:
        print(repr(case(seed, asked.only, "KEY").data[:4000]))
    began = time.monotonic()

    def tell(number: int) -> None:
        if number and number % 50_000 == 0:
            print(f"{number} after {time.monotonic() - began:.0f} s", flush=True)

    seen = siege(seed, numbers, tell)
    print(
        f"{seen.answered} hostile requests (seed {seed}), {seen.answered / seen.took_s:.0f}/s: "
        f"{dict(sorted(seen.statuses.items()))}; {len(seen.faults)} faults; "
        f"the gateway grew by {seen.grew_bytes / 2**20:.1f} MiB",
        flush=True,
    )
    for number, what in seen.faults:
        print(f"--seed {seed} --only {number}: {what}")
    return 1 if seen.faults or seen.grew_bytes > MOST_GROWTH_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
