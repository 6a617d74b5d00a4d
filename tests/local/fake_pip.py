"""Stands in for pip at its port, so that what comes down is the test's choice: FAKE_WHEEL is copied to --dest.

FAKE_CALLS gets a line a call; FAKE_SAYS is printed and fails the call; FAKE_SLOW stops half-way until killed.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path


def main() -> int:
    with open(os.environ["FAKE_CALLS"], "a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    if says := os.environ.get("FAKE_SAYS"):
        print(says)
        return 1
    wheel = Path(os.environ["FAKE_WHEEL"])
    done = Path(sys.argv[sys.argv.index("--dest") + 1])
    done.mkdir()
    raw = wheel.read_bytes()
    with (done / wheel.name).open("wb") as out:
        out.write(raw[: len(raw) // 2])
        out.flush()
        if os.environ.get("FAKE_SLOW"):
            threading.Event().wait(30)
        out.write(raw[len(raw) // 2 :])
    return 0


if __name__ == "__main__":
    sys.exit(main())
