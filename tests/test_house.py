"""The house rules: which part may import which, how long a file may be, where `except Exception` may stand."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "lilliput"

# part -> the parts that it may import. A part may always import itself and the package's version.
MAY_IMPORT: dict[str, set[str]] = {
    "neutral": set(),
    "money": {"neutral"},
    "limits_config": {"neutral"},
    "tasks": {"neutral"},
    "chaos": set(),
    "wire": {"neutral"},
    "catalogue": {"neutral"},
    "store": {"neutral", "money", "limits_config", "tasks"},
    "router": {"neutral", "catalogue"},
    "loop": {"neutral", "tasks"},
    "gateway": {"neutral", "money", "limits_config", "tasks", "loop", "wire", "catalogue", "router"},
    "local": {"neutral", "tasks", "loop", "wire"},
    "studio": {"neutral", "tasks", "loop", "local"},
    "config": {"neutral", "catalogue", "router", "limits_config"},
    "cli": {
        *("neutral", "money", "limits_config", "chaos", "wire", "catalogue", "router", "gateway", "store", "local"),
        *("tasks", "loop", "studio", "config", "cli"),
    },
    "asgi": {"cli"},
}
MAX_LINES = 400
LONGER: dict[str, str] = {"neutral.py": "the vocabulary of every part, read as one page"}
"""Files that may be longer, each with its reason."""
BROAD_EXCEPTS = {"gateway/connection.py": 1}
"""The server's outermost frame. (The observer loop gets the second one, when there is a loop.)"""

FILES = sorted(SRC.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= (
                {f"{node.module}.{a.name}" for a in node.names} if node.module == "lilliput" else {node.module or ""}
            )
    return {name for name in found if name.split(".")[0] == "lilliput"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_one_way(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == SRC:
        return
    part = part_of(path)
    allowed = MAY_IMPORT[part] | {part, "__version__"}
    parts = {name.split(".")[1] for name in imports(ast.parse(path.read_text())) if "." in name}
    assert parts <= allowed, f"{part} may not import {sorted(parts - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_files_stay_short(path: Path) -> None:
    name = str(path.relative_to(SRC))
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES or name in LONGER, f"{name} has {lines} lines: it wants to be two files"


def test_except_exception_is_counted() -> None:
    found: dict[str, int] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
            ):
                name = str(path.relative_to(SRC))
                found[name] = found.get(name, 0) + 1
    assert found == BROAD_EXCEPTS


def test_every_part_is_in_the_table() -> None:
    parts = {part_of(p) for p in FILES} - {"__init__"}
    assert parts <= set(MAY_IMPORT), f"add to MAY_IMPORT: {sorted(parts - set(MAY_IMPORT))}"


def test_nothing_unsafe_is_imported() -> None:
    """No pickle, no template engine, no code made at run time, anywhere in the product."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {getattr(node, "module", "") or ""}
                assert not names & {"pickle", "marshal", "shelve", "jinja2", "joblib"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path


def test_docs_tree_is_the_tree_on_disk() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for folder in sorted(p.name for p in SRC.iterdir() if p.is_dir() and not p.name.startswith("__")):
        assert f"  {folder}/" in text, f"docs/architecture.md does not show {folder}/"


def test_python_is_new_enough() -> None:
    assert sys.version_info >= (3, 11)
