from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from tests.store.fake import start

from lilliput.neutral import Problem
from lilliput.store.migrate import statements, steps, upgrade
from lilliput.store.sqlite import SCHEMA, SqliteStore

ONE = "CREATE TABLE a (x);\n"
TWO = "-- more; of it\nCREATE TABLE b (\n  x TEXT -- a name; or so\n);\nINSERT INTO b VALUES ('a;\nb');\n"


def folder(where: Path, **files: str) -> Path:
    where.mkdir()
    for name, text in files.items():
        (where / f"{name.removeprefix('n')}.sql").write_text(text)
    return where


def bring(path: Path, schema: Path) -> int:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return upgrade(db, path, schema, 7.0)
    finally:
        db.close()


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(question).fetchall()
    finally:
        db.close()


def tables(path: Path) -> list[str]:
    return sorted(str(n) for (n,) in ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'"))


def test_each_file_is_applied_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    assert bring(path, folder(tmp_path / "1", n0001_a=ONE)) == 1
    assert tables(path) == ["a", "schema_version"]
    both = folder(tmp_path / "2", n0001_a=ONE, n0002_b=TWO)
    assert bring(path, both) == 2
    assert bring(path, both) == 2
    assert tables(path) == ["a", "b", "schema_version"]
    assert ask(path, "SELECT x FROM b") == [("a;\nb",)]
    records = ask(path, "SELECT version, name, checksum, applied_at FROM schema_version")
    assert records == [(s.version, s.name, s.checksum, 7.0) for s in steps(both)]


def test_line_ends_do_not_change_a_checksum(tmp_path: Path) -> None:
    unix, dos = folder(tmp_path / "1", n0001_a=TWO), folder(tmp_path / "2")
    (dos / "0001_a.sql").write_bytes(TWO.replace("\n", "\r\n").encode())
    assert steps(unix) == steps(dos)


REFUSED: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("a changed file", {"n0001_a": ONE}, {"n0001_a": ONE + "-- edited\n"}, "store_changed"),
    ("another first file", {"n0001_a": ONE, "n0002_b": TWO}, {"n0001_z": TWO, "n0002_b": TWO}, "store_changed"),
    ("a newer database", {"n0001_a": ONE, "n0002_b": TWO}, {"n0001_a": ONE}, "store_newer"),
]


@pytest.mark.parametrize(("name", "then", "now", "code"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_database_made_otherwise_is_refused(
    name: str, then: dict[str, str], now: dict[str, str], code: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    bring(path, folder(tmp_path / "then", **then))
    before = path.read_bytes()
    with pytest.raises(Problem) as e:
        bring(path, folder(tmp_path / "now", **now))
    assert (e.value.fault, e.value.status, e.value.code) == ("server", 503, code)
    assert str(path) in e.value.say
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE photos (x)")
    db.close()
    with pytest.raises(Problem) as e:
        SqliteStore(path)
    assert e.value.code == "store_foreign"
    assert tables(path) == ["photos"]


def test_a_failing_migration_leaves_the_version_before_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    for n, bad in enumerate(["CREATE TABLE c (x);\nCREATE TABEL d;\n", "CREATE TABLE c (x);\nCREATE TABLE d (x)\n"]):
        with pytest.raises(Problem, match=r"0002_c.sql did not go through and left version 1"):
            bring(path, folder(tmp_path / str(n), n0001_a=ONE, n0002_c=bad))
        assert tables(path) == ["a", "schema_version"]
    assert bring(path, folder(tmp_path / "good", n0001_a=ONE, n0002_b=TWO)) == 2


BAD_FOLDERS: list[dict[str, str]] = [
    {},
    {"n0002_b": ONE},
    {"n0001_a": ONE, "n0003_c": TWO},
    {"n0001_a": ONE, "n0001_b": TWO},
    {"keys": ONE},
    {"n0001keys": ONE},
]


@pytest.mark.parametrize("files", BAD_FOLDERS)
def test_a_folder_with_a_gap_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Problem, match="0001_x"):
        steps(folder(tmp_path / "s", **files))


DIE = """
import os, sqlite3, sys
from pathlib import Path
from lilliput.store.migrate import upgrade

path, schema = Path(sys.argv[1]), Path(sys.argv[2])
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.create_function("die", 0, lambda: os._exit(9))
upgrade(db, path, schema, 7.0)
"""


def test_a_crash_in_mid_migration_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    bring(path, folder(tmp_path / "1", n0001_a=ONE))
    fatal = "INSERT INTO a VALUES ('half');\nCREATE TABLE c (x);\nSELECT die();\nCREATE TABLE d (x);\n"
    process = start(DIE, path, folder(tmp_path / "2", n0001_a=ONE, n0002_c=fatal))
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert tables(path) == ["a", "schema_version"]
    assert ask(path, "SELECT * FROM a") == []
    assert bring(path, folder(tmp_path / "3", n0001_a=ONE, n0002_b=TWO)) == 2


def test_our_own_migrations_are_numbered_and_split(tmp_path: Path) -> None:
    assert [s.version for s in steps(SCHEMA)] == list(range(1, len(steps(SCHEMA)) + 1))
    for step in steps(SCHEMA):
        begun = re.findall("^(?:CREATE|ALTER|DROP|INSERT|UPDATE) ", step.text, re.M)
        assert len(list(statements(step.text))) == len(begun)
