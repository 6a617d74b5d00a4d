"""What takes too long for every day: 50 random kills of a metering process for each store (`make soak`).

    python scripts/soak.py [--kills N] [--seed N] [STORE ...]

STORE is sqlite or postgres (the server of LILLIPUT_TEST_POSTGRES); without any, all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.store.ledger_kill import OPEN, empty, kill_often


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; else the time, which is printed")
    parser.add_argument("stores", nargs="*", metavar="STORE", default=list(OPEN))
    asked = parser.parse_args()
    seed = int(time.time()) if asked.seed is None else asked.seed
    for store in asked.stores:
        with empty(store) as where:
            calls, dangling = kill_often(store, where, asked.kills, seed)
        print(
            f"{store}: {asked.kills} kills (seed {seed}), {calls} upstream calls: 0 without a row, 0 metered twice, "
            f"0 answered and not metered; {dangling} holds dangled, 0 after the sweep; every sum exact",
            flush=True,
        )


if __name__ == "__main__":
    main()
