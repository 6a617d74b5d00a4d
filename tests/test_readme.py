"""The README's commands are the product's: each make target and subcommand exists, and its curl answers as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.live import Live

from lilliput.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_make_targets_exist() -> None:
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = set(re.findall(r"\bmake (\w+)", "\n".join(SHELL)))
    assert said
    assert said <= known


def test_subcommands_exist() -> None:
    commands = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    groups = {g.name for g in app.registered_groups}
    said = set(re.findall(r"(?:^|[\s(`])lilliput (\w+)", README))
    assert {"chat", "key", "providers"} <= said
    assert said <= commands | groups


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_curl_answers() -> None:
    """The first call of the README as it stands, but for the port and the place of the command."""
    call = next(block for block in SHELL if "curl" in block)
    call = "\n".join(line for line in call.splitlines() if not line.startswith("export"))
    with Live(weights=True) as live:
        call = call.replace("http://", "").replace("localhost:1726", live.base.removeprefix("http://"))
        call = call.replace("$(lilliput key dev)", live.key)
        done = subprocess.run(
            ["sh", "-c", call],
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": os.environ["PATH"]},
            check=True,
        )
    answer = json.loads(done.stdout)
    shown = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
    assert set(shown) <= set(answer)
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["completion_tokens"] > 0
