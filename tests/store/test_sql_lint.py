"""No text that was put together reaches a database: SQL is a literal, or a constant that is one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "lilliput"
METHODS = {"execute", "executemany", "executescript"}
ALLOWED = {("store/migrate.py", "statement"), ("store/postgres_migrate.py", "statement")}
"""A variable that may be run: the statements of our own numbered files."""


def faults(source: str, where: str) -> list[str]:
    """Each use of an execute method whose SQL is not constant, as `where:line`."""
    tree = ast.parse(source)
    constants = _constants(tree)
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    bad = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and id(node) not in called:
            bad.append(f"{where}:{node.lineno}")  # taken by another name, it would be called unseen
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            continue
        if not (node.args and _constant(node.args[0], constants, where)):
            bad.append(f"{where}:{node.lineno}")
    return bad


def _constants(tree: ast.Module) -> set[str]:
    """Names in capitals that the module gives a string literal, once."""
    given: dict[str, list[bool]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            given.setdefault(node.id, []).append(False)
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str())):
                given[name] = [True] * (len(given[name]) == 1)
    return {name for name, literal in given.items() if literal == [True] and name.isupper()}


def _constant(sql: ast.expr, constants: set[str], where: str) -> bool:
    if isinstance(sql, ast.Constant):
        return isinstance(sql.value, str)
    return isinstance(sql, ast.Name) and (sql.id in constants or (where, sql.id) in ALLOWED)


def test_every_statement_in_the_package_is_constant() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert PACKAGE / "store" / "sqlite.py" in files
    assert [f for path in files for f in faults(path.read_text(), path.relative_to(PACKAGE).as_posix())] == []


SAMPLES = [
    ("a literal", "db.execute('SELECT 1')", True),
    ("joined literals", "db.execute('SELECT 1 ' 'FROM t')", True),
    ("a constant", "Q = 'SELECT ?'\ndb.execute(Q, (x,))", True),
    ("an f-string", "db.execute(f'SELECT {x}')", False),
    ("an f-string without a hole", "db.execute(f'SELECT')", False),
    ("a sum", "db.execute('SELECT ' + x)", False),
    ("percent", "db.execute('SELECT %s' % x)", False),
    ("format", "db.execute('SELECT {}'.format(x))", False),
    ("join", "db.execute(' '.join(x))", False),
    ("a variable", "def f(q): db.execute(q)", False),
    ("a constant made of parts", "Q = 'SELECT ' + x\ndb.execute(Q)", False),
    ("a constant given twice", "Q = 'SELECT 1'\nQ = f'{x}'\ndb.execute(Q)", False),
    ("a constant shadowed", "Q = 'SELECT 1'\ndef f():\n  Q = x\n  db.execute(Q)", False),
    ("a constant added to", "Q = 'SELECT 1'\nQ += x\ndb.execute(Q)", False),
    ("by keyword", "db.execute(sql=x)", False),
    ("unpacked", "db.execute(*x)", False),
    ("many", "db.executemany(f'INSERT {x}', rows)", False),
    ("a script", "db.executescript(x)", False),
    ("another name", "run = db.execute\nrun(x)", False),
]


@pytest.mark.parametrize(("name", "source", "fine"), SAMPLES, ids=[s[0] for s in SAMPLES])
def test_the_lint_sees(name: str, source: str, fine: bool) -> None:
    assert (faults(source, "sample.py") == []) is fine
