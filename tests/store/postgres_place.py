"""A schema of its own on the Postgres that tests use, and a wire to it that can be cut."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conformance.need import need

SERVER = os.environ.get("LILLIPUT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")


@contextmanager
def place() -> Iterator[str]:
    """The URL of an empty schema, which is dropped after."""
    schema = f"lilliput_test_{secrets.token_hex(6)}"
    try:
        db = psycopg.connect(SERVER, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as e:
        need(False, f"no Postgres at {SERVER} ({e}): start one, or name another in LILLIPUT_TEST_POSTGRES")
        raise
    try:
        db.execute(f"CREATE SCHEMA {schema}".encode())
        yield f"{SERVER}{'&' if '?' in SERVER else '?'}options=-csearch_path%3D{schema}"
    finally:
        db.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
        db.close()


@pytest.fixture
def url() -> Iterator[str]:
    with place() as here:
        yield here


class Wire:
    """A TCP relay to the server: `cut` ends every connection and turns new ones away until `mend`.

    While `muted` it drops all bytes; once it has passed on bytes that hold `deaf_after`, it drops all answers.
    """

    def __init__(self, url: str) -> None:
        info = conninfo_to_dict(url)
        self._to = (str(info.get("host", "127.0.0.1")), int(info.get("port") or 5432))
        self._url = url
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0
        self._is_cut = False
        self.turned_away = 0
        self.muted = False
        self.deaf_after: bytes | None = None

    @property
    def url(self) -> str:
        info = conninfo_to_dict(self._url)
        options = quote(str(info.get("options", "")), safe="")
        return f"postgresql://{info['user']}@127.0.0.1:{self._port}/{info['dbname']}?options={options}"

    async def mend(self) -> None:
        self._is_cut = False
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
            self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        self._is_cut = True
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self.cut()
        assert self._server is not None
        self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self.turned_away += 1
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(*self._to)
        self._open |= {writer, back}
        deaf = asyncio.Event()
        await asyncio.gather(self._pump(reader, back, deaf), self._pump(there, writer, deaf, answers=True))
        self._open -= {writer, back}

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deaf: asyncio.Event, answers: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not answers and self.deaf_after is not None and self.deaf_after in data:
                    deaf.set()
                if not self.muted and not (answers and deaf.is_set()):
                    writer.write(data)
                    await writer.drain()
        with suppress(ConnectionError, RuntimeError):
            writer.close()
