"""The pepper's file and the local key's: who may read them, what happens when they and the database disagree."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.fake import FakeStore, finish, start

from lilliput.neutral import Problem
from lilliput.store import secretfile
from lilliput.store.keys import KeyRing, local_key, mint, open_ring, parse
from lilliput.store.port import KeyRow


def ring_at(folder: Path, store: FakeStore) -> KeyRing:
    return asyncio.run(open_ring(store, folder / "keys" / "pepper"))


def test_the_first_start_makes_a_pepper_of_its_own(tmp_path: Path) -> None:
    ring_at(tmp_path / "a", FakeStore())
    ring_at(tmp_path / "b", FakeStore())
    a, b = tmp_path / "a" / "keys" / "pepper", tmp_path / "b" / "keys" / "pepper"
    assert len(a.read_bytes()) == len(b.read_bytes()) == 32
    assert a.read_bytes() != b.read_bytes()
    assert a.stat().st_mode & 0o777 == 0o600
    assert a.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in a.parent.iterdir()] == ["pepper"]


def test_keys_made_before_a_restart_work_after_it(tmp_path: Path) -> None:
    store = FakeStore()
    _, token = asyncio.run(ring_at(tmp_path, store).create("k"))
    assert ring_at(tmp_path, store).find(token.reveal())
    assert (tmp_path / "keys" / "pepper").read_bytes() not in store.notes.values()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


BAD_PEPPERS: list[tuple[str, str, Callable[[Path], object]]] = [
    ("missing", "pepper_missing", lambda p: p.unlink()),
    ("another", "pepper_other", lambda p: p.write_bytes(bytes(32))),
    ("short", "pepper_invalid", lambda p: p.write_bytes(bytes(31))),
    ("long", "pepper_invalid", lambda p: p.write_bytes(bytes(33))),
    ("empty", "pepper_invalid", lambda p: p.write_bytes(b"")),
    ("readable by the group", "secret_exposed", lambda p: p.chmod(0o640)),
    ("readable by all", "secret_exposed", lambda p: p.chmod(0o604)),
    ("a folder", "secret_unusable", folder_instead),
    ("a pipe", "secret_unusable", pipe_instead),
]


@pytest.mark.parametrize(("name", "code", "spoil"), BAD_PEPPERS, ids=[r[0] for r in BAD_PEPPERS])
def test_a_bad_pepper_is_refused_and_left_alone(
    name: str, code: str, spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    store, pepper = FakeStore(), tmp_path / "keys" / "pepper"
    ring_at(tmp_path, store)
    spoil(pepper)
    held = pepper.read_bytes() if pepper.is_file() else None
    with pytest.raises(Problem) as e:
        ring_at(tmp_path, store)
    assert (e.value.fault, e.value.status, e.value.code) == ("server", 503, code)
    assert str(pepper) in e.value.say
    assert (pepper.read_bytes() if pepper.is_file() else None) == held
    if code == "secret_exposed":
        assert f"chmod 600 {pepper}" in e.value.say


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(Problem) as e:
        ring_at(tmp_path, FakeStore())
    assert e.value.status == 503


def test_publish_never_overwrites_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    assert secretfile.read(path) is None
    assert secretfile.publish(path, b"one")
    assert not secretfile.publish(path, b"two")
    assert secretfile.read(path) == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_the_local_key_is_made_once(tmp_path: Path) -> None:
    store, path = FakeStore(), tmp_path / "keys" / "local.key"
    ring = ring_at(tmp_path, store)
    first = asyncio.run(local_key(ring, path))
    assert first.made
    assert first.token is not None
    text = first.token.reveal()
    assert path.read_text() == text + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    key = ring.find(text)
    assert key is not None
    assert (key.name, key.local, key.models) == ("local", True, ())
    again = asyncio.run(local_key(ring_at(tmp_path, store), path))
    assert (again.made, again.token) == (False, first.token)
    assert len(store.rows) == 1


def test_a_local_key_that_was_revoked_stays_so_until_its_file_is_gone(tmp_path: Path) -> None:
    store, path = FakeStore(), tmp_path / "keys" / "local.key"
    ring = ring_at(tmp_path, store)
    first = asyncio.run(local_key(ring, path))
    key = asyncio.run(ring.revoke("local"))
    after = asyncio.run(local_key(ring, path))
    assert after.token is None
    assert key.id in after.say
    assert str(path) in after.say
    assert len(store.rows) == 1
    path.unlink()
    new = asyncio.run(local_key(ring, path))
    assert new.made
    assert new.token != first.token


OTHER_FILES = [
    ("a stranger's key", mint()[0].reveal(), "does not know"),
    ("empty", "", "does not hold a key"),
    ("noise", "\xff\xfe" * 30, "does not hold a key"),
]


@pytest.mark.parametrize(("name", "text", "says"), OTHER_FILES, ids=[r[0] for r in OTHER_FILES])
def test_a_local_key_file_that_does_not_fit_is_left_alone(name: str, text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "local.key"
    ring = ring_at(tmp_path, FakeStore())
    assert secretfile.publish(path, text.encode("latin-1"))
    held = asyncio.run(local_key(ring, path))
    assert (held.token, held.made) == (None, False)
    assert says in held.say
    assert not text or text not in held.say
    assert path.read_bytes() == text.encode("latin-1")


def test_a_local_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "local.key"
    ring = ring_at(tmp_path, FakeStore())
    asyncio.run(local_key(ring, path))
    path.chmod(0o644)
    with pytest.raises(Problem, match="chmod 600"):
        asyncio.run(local_key(ring, path))


class SecondStore(FakeStore):
    """Another process makes its local key, and the file, while we make ours."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.other: KeyRing | None = None

    async def add_key(self, row: KeyRow) -> bool:
        if (other := self.other) is not None:
            self.other = None
            await local_key(other, self.path)
        return await super().add_key(row)


def test_of_two_local_keys_made_at_once_one_lives(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "local.key"
    store = SecondStore(path)
    ring, store.other = ring_at(tmp_path, store), ring_at(tmp_path, store)
    held = asyncio.run(local_key(ring, path))
    assert not held.made
    assert held.token is not None
    assert path.read_text().strip() == held.token.reveal()
    assert len([r for r in store.rows.values() if r.key.revoked_at is None]) == 1
    assert len(store.rows) == 2


FIRST_START = """
import asyncio, sys
from pathlib import Path
from lilliput.store.keys import local_key, open_ring
from lilliput.store.sqlite import SqliteStore

async def main(home: Path) -> None:
    store = SqliteStore(home / "data" / "lilliput.db")
    ring = await open_ring(store, home / "keys" / "pepper")
    held = await local_key(ring, home / "keys" / "local.key")
    print(held.token.reveal())
    await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_processes_that_start_first_together_share_pepper_and_key(tmp_path: Path) -> None:
    running = [start(FIRST_START, tmp_path) for _ in range(4)]
    tokens = {finish(p).strip() for p in running}
    assert len(tokens) == 1
    assert parse(tokens.pop()) is not None
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["local.key", "pepper"]
