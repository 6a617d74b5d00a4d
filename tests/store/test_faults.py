from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lilliput.store import faults

PATH = Path("/data/lilliput.db")
CODES = [
    (sqlite3.SQLITE_FULL, "store_full", True),
    (sqlite3.SQLITE_BUSY, "store_locked", True),
    (sqlite3.SQLITE_BUSY_SNAPSHOT, "store_locked", True),
    (sqlite3.SQLITE_CORRUPT, "store_corrupt", False),
    (sqlite3.SQLITE_CORRUPT_INDEX, "store_corrupt", False),
    (sqlite3.SQLITE_NOTADB, "store_corrupt", False),
    (sqlite3.SQLITE_READONLY_DBMOVED, "store_unwritable", False),
    (sqlite3.SQLITE_CANTOPEN_ISDIR, "store_unwritable", False),
    (sqlite3.SQLITE_IOERR_WRITE, "store_io", False),
    (sqlite3.SQLITE_ERROR, "store_failed", False),
]


@pytest.mark.parametrize(("number", "code", "passing"), CODES)
def test_each_result_code_has_its_problem(number: int, code: str, passing: bool) -> None:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = number
    p = faults.problem(error, PATH)
    assert (p.fault, p.status, p.code, p.retry_after_s is not None) == ("server", 503, code, passing)
    assert str(PATH) in p.say
    assert "as SQLite says it" in p.say


def test_an_error_without_a_code_is_a_problem_too() -> None:
    assert faults.problem(sqlite3.ProgrammingError("closed"), PATH).code == "store_failed"
    assert faults.problem(OverflowError("too large"), PATH).code == "store_failed"
    assert faults.no_access(PermissionError(13, "Permission denied"), PATH).code == "store_unwritable"
