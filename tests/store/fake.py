"""A store in memory that counts how often it is asked, and a process of its own for what only two can show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from msgspec import structs

from lilliput.neutral import Key, Problem
from lilliput.store.port import KeyRow

SRC = Path(__file__).parents[2] / "src"
ENV = {**os.environ, "PYTHONPATH": str(SRC)}


class FakeStore:
    """`down` makes every look-up a Problem; `impostor` is the row given for any digest."""

    def __init__(self) -> None:
        self.rows: dict[bytes, KeyRow] = {}
        self.notes: dict[str, bytes] = {}
        self.number = 0
        self.lookups = 0
        self.down = False
        self.full = False
        self.impostor: KeyRow | None = None

    def find_key(self, digest: bytes) -> KeyRow | None:
        self.lookups += 1
        if self.down:
            raise Problem("server", "down")
        return self.impostor or self.rows.get(digest)

    def epoch(self) -> int:
        return self.number

    async def add_key(self, row: KeyRow) -> bool:
        if self.full:
            return False
        self.rows[row.digest] = row
        self.number += 2
        return True

    async def keys(self) -> list[Key]:
        return [row.key for row in self.rows.values()]

    async def revoke_key(self, key_id: str, at: float) -> bool:
        for digest, row in self.rows.items():
            if row.key.id == key_id and row.key.revoked_at is None:
                self.rows[digest] = KeyRow(structs.replace(row.key, revoked_at=at), digest)
                self.number += 2
                return True
        return False

    async def noted(self, name: str) -> bytes | None:
        return self.notes.get(name)

    async def note(self, name: str, value: bytes) -> bytes:
        return self.notes.setdefault(name, value)

    async def close(self) -> None:
        pass


def start(code: str, *args: str | Path) -> subprocess.Popen[str]:
    """A Python of its own that runs `code` with `args` as sys.argv[1:]."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=ENV, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed; fails unless it ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out
