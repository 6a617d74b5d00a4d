"""The clients that people use, each in a process of its own: Python's from the environments in `.venv-clients`, which
`make test-clients` fills, Node's from `node/`. What each is asked stands in `python/` and `node/`, a file a client."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.conformance.need import need
from tests.sdk import npm

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-clients"
TEST_S = 180
PYTHON = {
    "anthropic_sdk": ("latest", 56),
    "google_genai": ("latest", 65),
    "instructor_client": ("openai2", 16),
    "langchain_client": ("latest", 198),
    "litellm_client": ("openai2", 39),
    "llama_index_client": ("openai2", 24),
    "llm_client": ("latest", 10),
    "openai_sdk": ("latest", 103),
    "pydantic_ai_client": ("latest", 92),
}
"""File of a client -> the environment it lives in, and how many tests pass there at the least; none may fail."""
NODE = {"anthropic": 29, "google": 34, "openai": 41, "vercel": 146}
"""File of a client -> how many tests pass there at the least."""


@pytest.mark.parametrize("client", PYTHON)
def test_a_python_client(client: str, told: dict[str, str], tmp_path: Path) -> None:
    environment, least = PYTHON[client]
    python = ENVIRONMENTS / environment / "bin" / "python"
    need(python.is_file(), "`make test-clients` installs the clients")
    folder = HERE / "python"
    options = ["-c", str(folder / "pytest.ini"), "-p", "no:cacheprovider", str(folder / f"{client}.py")]
    done = subprocess.run(
        [str(python), "-m", "pytest", *options],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **told},
        capture_output=True,
        text=True,
        timeout=TEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= least, done.stdout


@pytest.mark.parametrize("client", NODE)
def test_a_node_client(client: str, told: dict[str, str]) -> None:
    assert npm.passed(HERE / "node", f"{client}.test.mjs", told) >= NODE[client]
