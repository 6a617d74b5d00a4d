"""Runs the real command line as a process of its own, in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src"
START = [sys.executable, "-W", "error", "-m", "lilliput.cli.main"]


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A bare environment: nothing of the caller's shell, no provider keys."""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "LILLIPUT_HOME": str(home), "HOME": str(home)}
    return bare | dict(extra or {})


def lilliput(
    home: Path, *args: str, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The finished command: its exit status and what it printed."""
    return subprocess.run(
        [*START, *args], env=environment(home, env), input=stdin, capture_output=True, text=True, timeout=120
    )
