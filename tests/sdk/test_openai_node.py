"""OpenAI's own Node SDK against the gateway: `node --test` over `tests/sdk/node`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.conformance.need import need
from tests.sdk.world import MINI, World

INSTALL_S, TEST_S = 300, 300


@pytest.mark.slow
def test_the_node_sdk(world: World, node_folder: Path) -> None:
    need(
        shutil.which("node") is not None and shutil.which("npm") is not None,
        "Node 20 or newer with npm is not installed",
    )
    _install(node_folder)
    told = {
        "LILLIPUT_BASE": world.base,
        "LILLIPUT_KEY": world.key,
        "LILLIPUT_MODEL": MINI,
        "LILLIPUT_OWN_PORT": str(world.own_port),
        "LILLIPUT_SAID": json.dumps(world.said),
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "openai.test.mjs"],
        cwd=node_folder,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **told},
        capture_output=True,
        text=True,
        timeout=TEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 10, done.stdout


def _install(folder: Path) -> None:
    """`npm ci` once: again only after the lock file has changed."""
    lock, mark = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if mark.is_file() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, done.stdout + done.stderr
