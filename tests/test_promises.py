"""docs/promises.md names tests: each of them is there, and no promise stands without one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
LEAST = 14
"""Promises that may become more, never fewer."""


@cache
def defined_in(path: str) -> set[str]:
    file = ROOT / path
    if not file.exists():
        return set()
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    assert [f"{path}::{name}" for path, name in NAMED if name not in defined_in(path)] == []
    assert PAGE.count("::") == len(NAMED), "a test is named in another form"


def test_every_promise_names_its_tests() -> None:
    promises = re.findall(r"^## (\d+)\. (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE)
    assert [int(number) for number, _, _ in promises] == list(range(1, len(promises) + 1))
    assert len(promises) >= LEAST
    assert [title for _, title, text in promises if "::test_" not in text] == []


def test_what_is_not_promised_is_said() -> None:
    assert "## Not promised" in PAGE
