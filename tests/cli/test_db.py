"""`lilliput db` on both stores: what it says, what it leaves, how it exits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.store.postgres_place import place

from lilliput.cli import db
from lilliput.neutral import Problem
from lilliput.store.postgres_migrate import SCHEMA as POSTGRES_SCHEMA
from lilliput.store.sqlite import SCHEMA


@pytest.fixture(params=["sqlite", "postgres"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {"LILLIPUT_HOME": str(tmp_path)}
    else:
        with place() as url:
            yield {"LILLIPUT_HOME": str(tmp_path), "LILLIPUT_STORE_URL": url}


def names(env: dict[str, str]) -> list[str]:
    return sorted(p.name for p in (POSTGRES_SCHEMA if "LILLIPUT_STORE_URL" in env else SCHEMA).glob("*.sql"))


def change(env: dict[str, str], statement: str) -> None:
    if "LILLIPUT_STORE_URL" in env:
        with psycopg.connect(env["LILLIPUT_STORE_URL"], autocommit=True) as there:
            there.execute(statement.encode())
    else:
        with closing(sqlite3.connect(Path(env["LILLIPUT_HOME"]) / "data" / "lilliput.db")) as here, here:
            here.execute(statement)


def checked(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    capsys.readouterr()
    status = db.check(env, True)
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (status == 0)
    return status, {f["check"]: (f["state"], f["say"]) for f in document["findings"]}


def test_upgrade_applies_each_file_once(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    db.upgrade(env, True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"applied": names(env)}
    assert err.splitlines() == [f"applied {name}" for name in names(env)]
    db.upgrade(env, False)
    assert capsys.readouterr() == ("the database is at the newest version\n", "")


def test_check_changes_nothing_and_names_what_is_wrong(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(env, capsys)[0] == 1, "there is nothing yet"
    assert checked(env, capsys)[0] == 1, "and still nothing"
    db.upgrade(env, True)
    status, found = checked(env, capsys)
    assert status == 0, found
    assert found["ledger"] == ("ok", "every sum is right")
    change(
        env,
        "INSERT INTO account (id, kind, name, period, spent_nusd, held_nusd, past_nusd, unpaid_nusd, period_began) "
        "VALUES ('k', 'key', '', 'total', 5, 0, 0, 0, 0)",
    )
    status, found = checked(env, capsys)
    assert (status, found["ledger"][0]) == (1, "fail")
    assert "'k'" in found["ledger"][1]
    change(env, "UPDATE schema_version SET checksum = 'another' WHERE version = 1")
    status, found = checked(env, capsys)
    assert (status, found["database"][0]) == (1, "fail")
    assert "migration 1" in found["database"][1]
    db.check(env, False)
    assert capsys.readouterr().out.startswith("fail  database")


def test_a_missing_migration_is_named(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    db.upgrade(env, True)
    change(env, "DELETE FROM schema_version WHERE version > 1")
    status, found = checked(env, capsys)
    assert (status, found["migrations"]) == (1, ("fail", f"not applied: {', '.join(names(env)[1:])}"))


def test_backup_is_the_database_and_its_owners_alone(
    env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db.upgrade(env, True)
    change(env, "INSERT INTO note (name, value) VALUES ('canary', 'x')")
    file = tmp_path / "copy"
    capsys.readouterr()
    db.backup(env, file, True)
    told = json.loads(capsys.readouterr().out)
    assert told == {"file": str(file), "bytes": file.stat().st_size, "pepper": str(tmp_path / "keys" / "pepper")}
    assert file.stat().st_mode & 0o777 == 0o600
    if "LILLIPUT_STORE_URL" in env:
        assert file.read_bytes().startswith(b"PGDMP")
        assert b"canary" in file.read_bytes() or file.stat().st_size > 5000, "its data may be compressed"
    else:
        with closing(sqlite3.connect(file)) as copy:
            assert copy.execute("SELECT name FROM note").fetchall() == [("canary",)]
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert sorted(p.name for p in tmp_path.glob("copy*")) == ["copy"]
    before = file.read_bytes()
    with pytest.raises(Problem, match="is there already"):
        db.backup(env, file, False)
    assert file.read_bytes() == before


def test_a_backup_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Problem, match="no database"):
        db.backup({"LILLIPUT_HOME": str(tmp_path)}, tmp_path / "copy", False)
    with place() as url:
        env = {"LILLIPUT_HOME": str(tmp_path), "LILLIPUT_STORE_URL": url.replace("@", ":canary@", 1)}
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Problem, match="pg_dump --format=custom") as e:
            db.backup(env, tmp_path / "copy", False)
        assert "canary" not in e.value.say
    env["LILLIPUT_STORE_URL"] = "postgresql://127.0.0.1:1/none"
    with pytest.raises(Problem) as e:
        db.backup(env, tmp_path / "copy", False)
    assert e.value.code == "store_unreachable"
    assert not (tmp_path / "copy").exists()


def test_a_database_that_is_down_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"LILLIPUT_HOME": str(tmp_path), "LILLIPUT_STORE_URL": "postgresql://127.0.0.1:1/none"}
    status, found = checked(env, capsys)
    assert (status, found["database"][0]) == (1, "fail")
