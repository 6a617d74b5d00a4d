"""What the rest of lilliput asks of a database: one Protocol that every store fits, with no more than is used today.

SQL and files do not belong here. What only watches the request path is synchronous and answers in microseconds; all
that writes, or reads more than one row, is async. A store over a network keeps the key table in memory, fresh by its
own change signal, so that it can answer `find_key` and `epoch` without waiting.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from lilliput.neutral import Key


class KeyRow(Struct, frozen=True):
    """A key as it is stored: `digest` is the HMAC-SHA256 (32 bytes) of the token, which itself is stored nowhere."""

    key: Key
    digest: bytes


class Store(Protocol):
    """Every method raises `Problem("server", ...)` with status 503 when the database cannot answer."""

    def find_key(self, digest: bytes) -> KeyRow | None:
        """The row with this digest, revoked or expired ones too."""

    def epoch(self) -> int:
        """A number that differs after every change to the keys, by any process on any machine.

        Odd while such a change is being committed: what is read under an odd number is not to be kept. Read it before
        the row, so that a row is never kept under a number younger than itself.
        """

    async def add_key(self, row: KeyRow) -> bool:
        """Store a new key; False when its id or digest is taken."""

    async def keys(self) -> list[Key]:
        """Every key, oldest first."""

    async def revoke_key(self, key_id: str, at: float) -> bool:
        """Mark a key revoked at Unix second `at`, durable on return; False when no live key has this id."""

    async def noted(self, name: str) -> bytes | None:
        """The fact about this database kept under `name`."""

    async def note(self, name: str, value: bytes) -> bytes:
        """Keep `value` under `name` unless something is kept there; what is kept."""

    async def close(self) -> None:
        """Finish what is queued and let go of the database; calling it again does nothing."""
