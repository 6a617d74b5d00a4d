"""Stands in for the worker at the supervisor's port: takes the order, then does as GGML_FAKE_DOES says.

A line is added to GGML_FAKE_STARTS at every start. What it does: ready, refuse, die, hang, garble, deaf, noisy, ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading


def main() -> int:
    order = json.loads(sys.stdin.buffer.readline())
    does = os.environ.get("GGML_FAKE_DOES", "ready")
    with open(os.environ["GGML_FAKE_STARTS"], "a") as starts:
        starts.write(json.dumps({"order": order, "env": dict(os.environ), "argv": sys.argv}) + "\n")
    if does == "refuse":
        print(json.dumps({"error": "no such luck"}), flush=True)
        return 1
    if does == "die":
        sys.stderr.write("0.00.1 I fine so far\n0.00.2 E srv load: the cat /weights.gguf ate it\nat last\n")
        return 3
    if does == "hang":
        threading.Event().wait(120)
    if does == "garble":
        print("not json", flush=True)
        return 0
    if does == "noisy":
        sys.stderr.write("x" * 1_000_000 + "\nlast line\n")
        sys.stderr.flush()
    print(json.dumps({"address": f"http://127.0.0.1:{os.getpid()}"}), flush=True)
    if does == "ends":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "deaf":
        threading.Event().wait(120)
    sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
