"""What every store keeps, as stories: `CONTRACT` and `RESPONSES` are to be run over each, every story on an empty one.

A story is handed two openings of one database, as two processes or machines would have them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lilliput.neutral import Key
from lilliput.store.open import Responses
from lilliput.store.port import KeyRow, Store
from lilliput.store.responses import KEEP_S, SWEPT

Story = Callable[[Store, Store], Awaitable[None]]


def row(n: int, name: str = "") -> KeyRow:
    return KeyRow(Key(id=f"id{n:06}", name=name, created_at=float(n)), n.to_bytes(32, "big"))


async def soon(is_so: Callable[[], bool]) -> None:
    """Wait for what another process's change brings about."""
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.001)


async def keys_come_back_as_they_went(store: Store, _: Store) -> None:
    full = Key(id="a", name="o'hara; --", team="t", models=("x/*", "y/z"), expires_at=9.5, created_at=1.5, local=True)
    assert await store.add_key(KeyRow(full, b"d" * 32))
    assert await store.add_key(row(1))
    assert store.find_key(b"d" * 32) == KeyRow(full, b"d" * 32)
    assert store.find_key(row(1).digest) == row(1)
    assert store.find_key(b"e" * 32) is None
    assert store.find_key(b"") is None
    assert await store.keys() == [row(1).key, full], "oldest first"


async def a_taken_id_or_digest_is_refused(store: Store, other: Store) -> None:
    assert await store.add_key(row(1))
    assert not await store.add_key(row(1))
    assert not await other.add_key(KeyRow(row(2).key, row(1).digest))
    assert not await store.add_key(KeyRow(row(1).key, row(2).digest))
    assert await other.keys() == [row(1).key]
    assert store.find_key(row(2).digest) is None


async def a_key_is_revoked_once(store: Store, _: Store) -> None:
    await store.add_key(row(1))
    assert not await store.revoke_key("id' OR '1'='1", 5.0)
    assert await store.revoke_key("id000001", 5.0)
    assert not await store.revoke_key("id000001", 6.0)
    found = store.find_key(row(1).digest)
    assert found is not None
    assert found.key.revoked_at == 5.0


async def the_epoch_moves_with_the_keys_alone(store: Store, _: Store) -> None:
    seen = [store.epoch()]
    await store.add_key(row(1))
    seen.append(store.epoch())
    await store.revoke_key("id000001", 5.0)
    seen.append(store.epoch())
    assert len(set(seen)) == 3
    assert not any(n & 1 for n in seen)
    await store.note("a", b"b")
    await store.keys()
    assert store.epoch() == seen[-1]


async def what_another_changes_is_seen(store: Store, other: Store) -> None:
    for n in range(3):
        before = store.epoch()
        await other.add_key(row(n))
        await soon(lambda n=n: store.find_key(row(n).digest) == row(n))  # type: ignore[misc]
        assert store.epoch() != before
        before = store.epoch()
        await other.revoke_key(row(n).key.id, 5.0)
        await soon(lambda before=before: store.epoch() != before)  # type: ignore[misc]
        found = store.find_key(row(n).digest)
        assert found is not None
        assert found.key.revoked_at == 5.0


async def no_change_is_lost_among_many(store: Store, other: Store) -> None:
    await asyncio.gather(*((store, other)[n % 2].add_key(row(n)) for n in range(100)))
    revoked = [(other, store)[n % 2].revoke_key(row(n).key.id, 5.0) for n in range(0, 100, 3)]
    assert all(await asyncio.gather(*revoked))

    def state(s: Store) -> list[float | None]:
        found = [s.find_key(row(n).digest) for n in range(100)]
        return [-1.0 if f is None else f.key.revoked_at for f in found]

    wanted = [None if n % 3 else 5.0 for n in range(100)]
    await soon(lambda: state(store) == state(other) == wanted)


async def a_note_is_kept_as_first_written(store: Store, other: Store) -> None:
    assert await store.noted("a") is None
    assert await store.note("a", b"\0one") == b"\0one"
    assert await other.note("a", b"two") == b"\0one"
    assert await other.noted("a") == b"\0one"
    assert await store.noted("b") is None


async def many_at_once_all_arrive(store: Store, _: Store) -> None:
    assert all(await asyncio.gather(*(store.add_key(row(n)) for n in range(200))))
    assert [k.id for k in await store.keys()] == [f"id{n:06}" for n in range(200)]


CONTRACT: list[Story] = [
    keys_come_back_as_they_went,
    a_taken_id_or_digest_is_refused,
    a_key_is_revoked_once,
    the_epoch_moves_with_the_keys_alone,
    what_another_changes_is_seen,
    no_change_is_lost_among_many,
    a_note_is_kept_as_first_written,
    many_at_once_all_arrive,
]

# -- responses -----------------------------------------------------------------------------------------------------


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


ResponseStory = Callable[[Responses, Clock], Awaitable[None]]


async def what_is_kept_is_found_by_its_owner_alone(responses: Responses, clock: Clock) -> None:
    await responses.keep("key", "r1", b"\0one", [])
    assert await responses.find("key", "r1") == b"\0one"
    for owner, id in (("other", "r1"), ("", "r1"), ("KEY", "r1"), ("key", "r2"), ("key%", "r1")):
        assert await responses.find(owner, id) is None
        assert await responses.drop(owner, id) is False
    await responses.keep("other", "r1", b"two", [])
    assert await responses.find("key", "r1") == b"\0one"
    await responses.keep("key", "r1", b"three", [])
    assert await responses.find("key", "r1") == b"three"
    assert await responses.drop("key", "r1") is True
    assert await responses.find("key", "r1") is None
    assert await responses.drop("key", "r1") is False
    assert await responses.find("other", "r1") == b"two"


async def items_are_found_by_their_owner_and_go_with_their_response(responses: Responses, clock: Clock) -> None:
    await responses.keep("key", "r1", b"one", ["msg_1", "fc_1", "msg_1"])
    await responses.keep("other", "r1", b"two", ["msg_1"])
    assert await responses.find_item("key", "fc_1") == b"one"
    assert await responses.find_item("other", "msg_1") == b"two"
    assert await responses.find_item("other", "fc_1") is None
    await responses.drop("key", "r1")
    assert await responses.find_item("key", "msg_1") is None
    await responses.keep("key", "r1", b"again", [])
    assert await responses.find_item("key", "msg_1") is None
    assert await responses.find_item("other", "msg_1") == b"two"
    clock.now += KEEP_S
    assert await responses.find_item("other", "msg_1") is None


async def what_is_old_is_gone(responses: Responses, clock: Clock) -> None:
    await asyncio.gather(*(responses.keep("key", f"r{n}", b"x", [f"m{n}"]) for n in range(2 * SWEPT)))
    clock.now += KEEP_S
    assert await responses.find("key", "r0") is None
    assert await responses.drop("key", "r0") is False
    await responses.keep("key", "new", b"x", ["m0"])
    assert await responses.find("key", "new") == b"x"
    assert await responses.find_item("key", "m0") == b"x"


async def hostile_ids_are_not_found(responses: Responses, clock: Clock) -> None:
    for id in ("\0", "x" * 5000, "' OR 1=1 --", ""):
        assert await responses.find("key", id) is None
        assert await responses.find_item("key", id) is None
        assert await responses.drop("key", id) is False
    await responses.keep("key", "r1", b"one", ["fine", "o'k; --"])
    assert await responses.find_item("key", "o'k; --") == b"one"


RESPONSES: list[ResponseStory] = [
    what_is_kept_is_found_by_its_owner_alone,
    items_are_found_by_their_owner_and_go_with_their_response,
    what_is_old_is_gone,
    hostile_ids_are_not_found,
]
