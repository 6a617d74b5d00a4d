"""`lilliput cache`, the tables `[cache]` and `[idempotency]`, and what `serve` makes of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lilliput.cli.cache import clear, show
from lilliput.cli.serve import compose
from lilliput.config import CacheTable, Config, Home, IdempotencyTable, read
from lilliput.gateway.routes import CHAT
from lilliput.neutral import Problem
from lilliput.store.open import open_store, replays
from lilliput.store.replays import Room


def fill(place: Path) -> dict[str, str]:
    """A home with answers of two keys and a team, and an idempotency key of the first."""

    async def work() -> None:
        opened = await open_store("", Home(place).database)
        answers, claims = replays(opened, Room(99, 9999))
        for tenant, count in (("key:k1", 2), ("key:k2", 1), ("team:blue", 3)):
            for n in range(count):
                await answers.keep(tenant, bytes([n]) * 32, b"x" * 10, 60)
        await claims.claim(("k1", b"i"), b"body", "p", 60)
        await claims.finish(("k1", b"i"), "p", b"answer", 86_400)
        await opened.close()

    Home(place).data.mkdir(parents=True)
    asyncio.run(work())
    return {"LILLIPUT_HOME": str(place)}


def shown(env: dict[str, str], capsys: pytest.CaptureFixture[str], **which: str) -> list[list[str]]:
    show(env, which.get("key"), which.get("team"), False)
    return [line.split() for line in capsys.readouterr().out.splitlines()[1:]]


def test_show_and_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = fill(tmp_path)
    blue, one, two = ["team:blue", "3", "30"], ["key:k1", "2", "20"], ["key:k2", "1", "10"]
    assert shown(env, capsys) == [blue, one, two]
    assert shown(env, capsys, key="k1") == [one]
    show(env, None, "blue", True)
    assert json.loads(capsys.readouterr().out) == [{"tenant": "team:blue", "entries": 3, "bytes": 30}]
    clear(env, "k1", None, False)
    assert capsys.readouterr().out == "removed 2 answers of key:k1, and 1 of its idempotency keys\n"
    assert shown(env, capsys) == [blue, two]
    clear(env, None, "k2", True)
    assert json.loads(capsys.readouterr().out) == {"tenant": "team:k2", "entries": 0, "idempotency_keys": 0}
    clear(env, None, None, False)
    assert capsys.readouterr().out == "removed 4 answers\n"
    assert shown(env, capsys) == []
    with pytest.raises(Problem) as e:
        show(env, "a", "b", False)
    assert e.value.code == "usage"


FAULTS = [
    ("[cache]\non = true\n[cache.semantic]\non = true\nmodel = 'a/b'", "threshold"),
    ("[cache]\non = true\n[cache.semantic]\non = true\nthreshold = 0.9", "model"),
    ("[cache.semantic]\non = true\nmodel = 'a/b'\nthreshold = 0.9", "[cache] on"),
    ("[cache]\nttl = 5", "ttl_s"),
    ("[cache]\nshare = 'all'", "share"),
    ("[idempotency]\nkeep_s = 3600", "keep_s"),
]


@pytest.mark.parametrize(("text", "named"), FAULTS)
def test_a_table_that_cannot_be_is_refused_by_name(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(Problem) as e:
        read(file)
    assert named in e.value.say


WIRED: list[tuple[dict[str, Any], bool, bool]] = [
    ({}, False, True),
    ({"cache": CacheTable(on=True)}, True, True),
    ({"cache": CacheTable(on=True), "idempotency": IdempotencyTable(on=False)}, True, False),
]


@pytest.mark.parametrize(("tables", "cached", "idempotent"), WIRED)
def test_serve_does_as_it_is_told(tables: dict[str, Any], cached: bool, idempotent: bool, tmp_path: Path) -> None:
    async def work() -> None:
        async with compose(Home(tmp_path), Config(**tables), {}) as parts:
            assert parts.gate.replays is not None
            for header, is_wanted in ((None, cached), (b"key", cached or idempotent)):
                visit: Any = type("Visit", (), {"header": lambda _, name, given=header: given})()
                assert parts.gate.replays.wants(visit, CHAT) is is_wanted

    asyncio.run(work())


def test_nothing_is_made_where_both_are_off(tmp_path: Path) -> None:
    async def work() -> None:
        async with compose(Home(tmp_path), Config(idempotency=IdempotencyTable(on=False)), {}) as parts:
            assert parts.gate.replays is None

    asyncio.run(work())
