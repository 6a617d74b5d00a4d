"""What takes too long for every day: 50 random kills of a metering process for each store (`make soak`).

    python scripts/soak.py [--kills N] [--seed N] [STORE=WHERE ...]

WHERE is what the store opens, and is best empty; without any, SQLite in a new folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.store.ledger_kill import kill_often


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; else the time, which is printed")
    parser.add_argument("stores", nargs="*", metavar="STORE=WHERE")
    asked = parser.parse_args()
    seed = int(time.time()) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory() as folder:
        for store, _, where in (s.partition("=") for s in asked.stores or [f"sqlite={folder}/lilliput.db"]):
            calls, dangling = kill_often(store, where, asked.kills, seed)
            print(
                f"{store}: {asked.kills} kills (seed {seed}), {calls} upstream calls: 0 without a row, 0 metered "
                f"twice, 0 answered and not metered; {dangling} holds dangled, 0 after the sweep; every sum exact",
                flush=True,
            )


if __name__ == "__main__":
    main()
