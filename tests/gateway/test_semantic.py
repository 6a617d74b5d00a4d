"""Requests that mean the same: only the last words differ, within one tenant, from the operator's threshold on."""

from __future__ import annotations

import asyncio
import json
import math
from array import array
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from tests.gateway.replaying import MATE, MINE, NARROW, OTHER, replaying
from tests.gateway.rig import ASK, CHAT, STREAM, STREAM_HEAD, Rig, framed, json_answer, run, whole

from lilliput.gateway import semantic
from lilliput.gateway.routes import CHAT as CHAT_OP
from lilliput.gateway.routes import RESPONSES
from lilliput.gateway.semantic import Semantic, embed, nearest, turns

ANGLES = {"capital of France?": 0.0, "France's capital?": 0.1, "capital of Spain?": 0.9, "": 0.0}
"""The meaning of a text in radians: a cosine of 0.995 and of 0.62 to the first."""


async def provider(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
    """Answers chats, and embeds texts as `ANGLES` say."""
    asked = json.loads(body)
    if "input" in asked:
        angle = ANGLES[asked["input"]]
        data = [{"object": "embedding", "index": 0, "embedding": [3 * math.cos(angle), 3 * math.sin(angle)]}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        writer.write(json_answer(json.dumps({"object": "list", "data": data, "model": "e", "usage": usage}).encode()))
    elif asked.get("stream"):
        writer.write(STREAM_HEAD + framed(*STREAM))
    else:
        writer.write(json_answer(whole()))


class Late:
    """`embed` over a gate that comes into being after it."""

    def __init__(self) -> None:
        self.call: Any = None

    async def __call__(self, *args: Any) -> Any:
        return await self.call(*args)


def shop(place: Path, late: Late, threshold: float = 0.99, **more: Any) -> Any:
    return replaying(place, provider, semantic=Semantic(late, model="p/e", threshold=threshold, most=8), **more)


async def ask(r: Rig, text: Any, who: Any = MINE, **fields: Any) -> str:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
    got = await r.ask("POST", CHAT, {**ASK, "messages": messages, **fields}, who)
    assert got.status == 200, got.body
    return got.headers["x-lilliput-cache"]


FRANCE, ALIKE, SPAIN = list(ANGLES)[:3]


@pytest.mark.parametrize("stream", [False, True])
def test_what_means_the_same_is_answered_alike_to_its_tenant_alone(stream: bool, tmp_path: Path) -> None:
    async def main() -> None:
        late = Late()
        async with shop(tmp_path, late) as (r, _):
            late.call = partial(embed, r.gate)
            assert await ask(r, FRANCE, stream=stream) == "miss"
            assert await ask(r, FRANCE, stream=stream) == "hit"
            assert await ask(r, ALIKE, stream=stream) == "semantic; score=0.9950"
            assert await ask(r, SPAIN, stream=stream) == "miss"
            for who in (OTHER, MATE, NARROW):
                assert await ask(r, ALIKE, who, stream=stream) == "miss"

    run(main())


def test_all_else_has_to_be_equal(tmp_path: Path) -> None:
    async def main() -> None:
        late = Late()
        async with shop(tmp_path, late, share="team") as (r, _):
            late.call = partial(embed, r.gate)
            assert await ask(r, FRANCE) == "miss"
            others: list[dict[str, Any]] = [
                {"temperature": 0},
                {"user": "u"},
                {"stream": True},
                {"model": "p/other"},
                {"messages": [{"role": "user", "content": ALIKE}]},
                {"messages": [{"role": "system", "content": "be long"}, {"role": "user", "content": ALIKE}]},
                {"tools": [{"type": "function", "function": {"name": "f"}}]},
            ]
            for fields in others:
                assert await ask(r, ALIKE, **fields) == "miss", fields
            assert await ask(r, ALIKE, NARROW) == "miss", "its key may call other models"
            assert await ask(r, [{"type": "text", "text": ALIKE}]) == "miss"
            assert (await ask(r, ALIKE, MATE)).startswith("semantic")

    run(main())


def test_the_key_that_asks_pays_for_the_vector(tmp_path: Path) -> None:
    async def main() -> None:
        late = Late()
        async with shop(tmp_path, late) as (r, _):
            late.call = partial(embed, r.gate)
            notes: list[Any] = []
            r.gate.meter.note = notes.append
            await ask(r, FRANCE, NARROW)  # which may not call p/e itself
            vector = notes[0]
            assert (vector.key_id, vector.served_by, vector.usage.prompt_tokens) == ("k4", "p/e", 3)

    run(main())


def test_without_a_vector_it_is_a_plain_miss_and_none_is_asked_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        late, calls = Late(), []

        async def dead(*_: Any) -> list[float] | None:
            calls.append(1)
            await asyncio.sleep(9)
            return None

        late.call = dead
        monkeypatch.setattr(semantic, "WAIT_S", 0.02)
        async with shop(tmp_path, late) as (r, _):
            assert [await ask(r, text) for text in (FRANCE, ALIKE, FRANCE)] == ["miss", "miss", "hit"]
            assert len(calls) == 1

    run(main())


@pytest.mark.parametrize("numbers", [None, [], [0.0, 0.0], [math.inf, 1.0], [math.nan]])
def test_a_vector_that_is_none(numbers: list[float] | None) -> None:
    async def give(*_: Any) -> list[float] | None:
        return numbers

    one = Semantic(give, model="m", threshold=0.9, most=1)
    assert asyncio.run(one.vector(None, "x")) is None  # type: ignore[arg-type]


def test_vectors_of_other_lengths_are_not_compared() -> None:
    kept = [(b"a", array("f", [1.0]).tobytes()), (b"b", array("f", [0.6, 0.8]).tobytes())]
    found = nearest(array("f", [1.0, 0.0]), kept)
    assert found is not None
    assert found[0] == b"b"
    assert nearest(array("f", [1.0, 0.0]), kept[:1]) is None


NO_TURNS: list[Any] = [
    [],
    [{"role": "assistant", "content": "x"}],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
    [{"role": "user", "content": [{"type": "image_url"}]}, {"role": "user", "content": "x"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}],
    [{"role": "assistant", "content": "x", "tool_calls": []}, {"role": "user", "content": "x"}],
    [{"role": "assistant"}, {"role": "user", "content": "x"}],
]


def raws(messages: Any, **more: Any) -> dict[str, Raw]:
    return {n: Raw(json.dumps(v).encode()) for n, v in {"messages": messages, **more}.items()}


@pytest.mark.parametrize("messages", NO_TURNS, ids=range(len(NO_TURNS)))
def test_what_is_more_than_words_is_not_compared(messages: Any) -> None:
    assert turns(CHAT_OP, raws(messages)) is None


def test_what_is_compared_is_the_last_text() -> None:
    said = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]
    found = turns(CHAT_OP, raws(said))
    assert found is not None
    assert found[1] == "two"
    assert found[0] != turns(CHAT_OP, raws(said[:1]))
    assert turns(RESPONSES, raws(said)) is None
    for name in ("tools", "functions", "tool_choice"):
        assert turns(CHAT_OP, raws(said, **{name: []})) is None
