"""Node's test runner over a folder of tests with their own package-lock.json."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.conformance.need import need

INSTALL_S, TEST_S = 300, 300


def passed(folder: Path, file: str, told: dict[str, str]) -> int:
    """How many tests of `file` passed, each told `told` by its environment; AssertionError when one does not."""
    there = shutil.which("node") is not None and shutil.which("npm") is not None
    need(there, "Node 20 or newer with npm is not installed")
    _install(folder)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", file],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **told},
        capture_output=True,
        text=True,
        timeout=TEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert count is not None, done.stdout
    return int(count[1])


def _install(folder: Path) -> None:
    """`npm ci` once: again only after the lock file has changed."""
    lock, mark = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if mark.is_file() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, done.stdout + done.stderr
