"""Threads of responses over a store that is a dict: whose they are, what is found, what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw

from lilliput.gateway import threads
from lilliput.neutral import Problem
from lilliput.wire.responses.state import MOST_BYTES, MOST_TURNS


class Kept:
    """`threads.Threads` in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.items: dict[tuple[str, str], str] = {}

    async def find(self, owner: str, id: str) -> bytes | None:
        return self.rows.get((owner, id))

    async def find_item(self, owner: str, id: str) -> bytes | None:
        return self.rows.get((owner, self.items.get((owner, id), "")))

    async def keep(self, owner: str, id: str, turn: bytes, items: Sequence[str]) -> None:
        self.rows[owner, id] = turn
        self.items |= {(owner, item): id for item in items}

    async def drop(self, owner: str, id: str) -> bool:
        return self.rows.pop((owner, id), None) is not None


def raws(**fields: Any) -> dict[str, Raw]:
    return {name: Raw(json.dumps(value).encode()) for name, value in fields.items()}


def answer(id: str, text: str = "ok") -> bytes:
    item = {
        "id": f"msg_{id}",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }
    return json.dumps({"id": id, "status": "completed", "output": [item]}).encode()


def ask(store: Kept, owner: str, id: str, fields: dict[str, Raw], text: str = "ok") -> dict[str, Raw]:
    """One request and its answer; the fields that were sent."""

    async def turn() -> dict[str, Raw]:
        sent = await threads.expand(store, owner, fields)
        await threads.remember(store, owner, fields, answer(id, text))
        return sent

    return asyncio.run(turn())


def items(fields: dict[str, Raw]) -> list[str]:
    """The texts in the input, in their order."""
    out = []
    for item in json.loads(bytes(fields["input"])):
        content = item["content"]
        out.append(content if isinstance(content, str) else content[0]["text"])
    return out


def test_a_thread_carries_all_that_went_before() -> None:
    store = Kept()
    first = raws(input="one", instructions="be brief")
    assert ask(store, "key", "r1", first, "1") is first
    second = ask(store, "key", "r2", raws(input="two", previous_response_id="r1"), "2")
    assert items(second) == ["one", "1", "two"]
    third = ask(store, "key", "r3", raws(input="three", previous_response_id="r2", model="other"), "3")
    assert items(third) == ["one", "1", "two", "2", "three"]
    assert set(third) == {"input", "model"}
    branch = ask(store, "key", "r4", raws(input="else", previous_response_id="r1"), "4")
    assert items(branch) == ["one", "1", "else"]


def test_each_turn_is_kept_once() -> None:
    store = Kept()
    ask(store, "key", "r1", raws(input="x" * 10_000))
    ask(store, "key", "r2", raws(input="y", previous_response_id="r1"))
    assert len(store.rows["key", "r2"]) < 1000


def test_a_reference_is_replaced_by_the_item() -> None:
    store = Kept()
    ask(store, "key", "r1", raws(input="one"), "1")
    named = {"type": "item_reference", "id": "msg_r1"}
    fields = raws(input=[{"role": "user", "content": "one"}, named, {"role": "user", "content": "two"}])
    sent = ask(store, "key", "r2", fields, "2")
    assert items(sent) == ["one", "1", "two"]
    assert "id" not in json.loads(bytes(sent["input"]))[1]
    # what was kept still names the item: it is found again when the thread goes on
    assert items(ask(store, "key", "r3", raws(input="three", previous_response_id="r2"))) == [
        *items(sent),
        "2",
        "three",
    ]
    store.items["key", "msg_gone"] = "r1"  # the turn was kept again, with other items
    for owner, id in (("other", "msg_r1"), ("key", "msg_r9"), ("key", "msg_gone")):
        with pytest.raises(Problem, match=f"Item with id '{id}' not found"):
            asyncio.run(threads.expand(store, owner, raws(input=[{**named, "id": id}])))


def refused(store: Kept, owner: str, id: str) -> Problem:
    with pytest.raises(Problem) as problem:
        asyncio.run(threads.expand(store, owner, raws(input="x", previous_response_id=id)))
    return problem.value


def test_no_other_key_sees_a_response() -> None:
    store = Kept()
    ask(store, "key", "r1", raws(input="secret"))
    for owner, id in (("other", "r1"), ("", "r1"), ("key", "r2")):
        p = refused(store, owner, id)
        assert p.say == f"Previous response with id '{id}' not found."
        assert (p.fault, p.code, p.param) == ("missing", "previous_response_not_found", "previous_response_id")
        for look in (threads.response(store, owner, id), threads.forget(store, owner, id)):
            with pytest.raises(Problem) as missing:
                asyncio.run(look)
            assert missing.value.status == 404
    assert asyncio.run(threads.response(store, "key", "r1")) == answer("r1")


def test_store_false_keeps_nothing() -> None:
    store = Kept()
    ask(store, "key", "r1", raws(input="x", store=False))
    assert store.rows == {}


def test_a_forgotten_turn_ends_every_thread_through_it() -> None:
    store = Kept()
    ask(store, "key", "r1", raws(input="x"))
    ask(store, "key", "r2", raws(input="y", previous_response_id="r1"))
    asyncio.run(threads.forget(store, "key", "r1"))
    assert "'r1' not found" in refused(store, "key", "r2").say


def test_a_thread_has_its_limits() -> None:
    store = Kept()
    ask(store, "key", "r0", raws(input="x"))
    for n in range(1, MOST_TURNS + 1):
        asyncio.run(threads.remember(store, "key", raws(input="x", previous_response_id=f"r{n - 1}"), answer(f"r{n}")))
    assert len(items(ask(store, "key", "z", raws(input="x", previous_response_id=f"r{MOST_TURNS - 1}")))) == 1025
    p = refused(store, "key", f"r{MOST_TURNS}")
    assert (p.status, p.code) == (400, "context_length_exceeded")
    ask(store, "key", "big", raws(input="x" * MOST_BYTES))
    assert refused(store, "key", "big").code == "context_length_exceeded"


def test_a_thread_that_bites_its_tail_ends() -> None:
    store = Kept()
    asyncio.run(threads.remember(store, "key", raws(input="x", previous_response_id="r1"), answer("r1")))
    assert refused(store, "key", "r1").status == 400
