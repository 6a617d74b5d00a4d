"""What the command line loads before it knows what to do: nothing that costs time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import environment

HEAVY = {
    "asyncio",
    "cryptography",
    "http.client",
    "httptools",
    "msgspec",
    "platformdirs",
    "rich",
    "sqlite3",
    "ssl",
    "starlette",
    "uvicorn",
    "uvloop",
    "xllamacpp",
}

LIGHT = [
    ("the package", "import lilliput", HEAVY | {"typer"}),
    ("--help", "run('--help')", HEAVY),
    ("--version", "run('--version')", HEAVY),
    # From here on a command has been chosen, so its errors must be caught: msgspec comes with Problem.
    ("key --help", "run('key', '--help')", HEAVY - {"msgspec"}),
    ("serve --help", "run('serve', '--help')", HEAVY - {"msgspec"}),
    ("chat --help", "run('chat', '--help')", HEAVY - {"msgspec"}),
]

PROGRAM = """
import json, sys

def run(*args):
    from lilliput.cli.main import app
    try:
        app(args, prog_name="lilliput")
    except SystemExit as end:
        assert end.code == 0, end.code

{code}
print("\\n" + json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(("name", "code", "absent"), LIGHT, ids=[row[0] for row in LIGHT])
def test_nothing_heavy_is_loaded(name: str, code: str, absent: set[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert absent & set(json.loads(done.stdout.splitlines()[-1])) == set()
