"""usaddress's own model on the same addresses, in a virtual environment of its own; None where it cannot be had.

It was trained on the whole of `labeled.xml`, so it has seen the items that it is asked for here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.loop.data import FIELD, FOLDER, USADDRESS, written

PARSE = "import json, sys, usaddress; print(json.dumps([usaddress.parse(t) for t in json.load(sys.stdin)]))"


def answers(texts: Sequence[str]) -> list[str] | None:
    """The JSON of each address."""
    place = FOLDER.parent / "crf"
    python = place / "bin" / "python"
    try:
        if not (place / "ready").is_file():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, capture_output=True)
            install = (str(python), "-m", "pip", "install", "--quiet", f"usaddress=={USADDRESS}")
            subprocess.run(install, check=True, capture_output=True)
            (place / "ready").touch()
        done = subprocess.run(
            [str(python), "-c", PARSE], input=json.dumps(list(texts)), check=True, capture_output=True, text=True
        )
    except (subprocess.CalledProcessError, OSError):
        return None
    return [_json(parts) for parts in json.loads(done.stdout)]


def _json(parts: Sequence[tuple[str, str]]) -> str:
    found: dict[str, list[str]] = defaultdict(list)
    for token, tag in parts:
        if tag in FIELD:
            found[FIELD[tag]].append(token)
    return written({field: " ".join(tokens) for field, tokens in found.items()})
