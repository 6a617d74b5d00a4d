"""A task while its teacher answers: who may call it, what is told of it, and what of its answers becomes a row."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.gateway.replaying import replaying
from tests.gateway.rig import (
    CHAT,
    KEY,
    STREAM,
    STREAM_HEAD,
    answering,
    chunk,
    framed,
    json_answer,
    run,
    whole,
)
from tests.gateway.school import DOORS, HI, NAME, TASK, knock, route, school, text_of
from tests.gateway.test_till import COST, shop

from lilliput.money import UsageQuery
from lilliput.neutral import Key

BY_DOOR = pytest.mark.parametrize("door", DOORS, ids=[f"{d[0]}{' stream' if d[1] else ''}" for d in DOORS])


@BY_DOOR
def test_from_the_first_call_the_name_is_its_teacher(tmp_path: Path, door: Any) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            got = await knock(s.r, door)
            assert (got.status, text_of(door[0], got)) == (200, "hello")
            assert route(got) == f"task/{NAME}; by=teacher; why=off; served=p/m; tries=1; policy=named"
            assert json.loads(s.r.provider.bodies[0])["model"] == "m"
            await s.rows(0)

    run(main())


@BY_DOOR
def test_answers_to_the_tasks_keys_become_rows(tmp_path: Path, door: Any) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.put(state="capturing")
            got = await knock(s.r, door)
            (row,) = await s.rows(1)
            assert (row.id, row.task, row.key, row.teacher) == (got.headers["x-request-id"], NAME, "k1", "p/m")
            assert (json.loads(bytes(row.messages)), row.answer) == ([{"role": "user", "content": "hi"}], "hello")
            assert (row.consent, row.terms, row.source) == ("we agreed", "allowed", "capture")

    run(main())


def test_what_is_somebodys_is_hidden_before_it_is_stored(tmp_path: Path) -> None:
    said = json_answer(whole("write to ann@example.org, not to bob@example.org"))

    async def main() -> None:
        async with school(tmp_path, answering(said)) as s:
            await s.put(state="capturing")
            got = await s.ask("who is ann@example.org?", user="u1")
            assert b"ann@example.org" in got.body, "the caller's answer is as it was"
            (row,) = await s.rows(1)
            assert "who is <EMAIL_1>?" in bytes(row.messages).decode()
            assert row.answer == "write to <EMAIL_1>, not to <EMAIL_2>", "one value has one name in both"
            assert (row.redacted, row.subject) == (3, "u1")

    run(main())


CUT = [*STREAM[:3]]
UNKEPT: dict[str, Any] = {
    "a stream that broke": (STREAM_HEAD + framed(*CUT), {"stream": True}),
    "an answer cut short": (STREAM_HEAD + framed(*STREAM[:3], chunk({}, "length"), STREAM[-1]), {"stream": True}),
    "an error": (json_answer(b'{"error":{"message":"no"}}', 400), {}),
    "two answers": (
        json_answer(
            whole(choices=[{"index": i, "message": {"content": "x"}, "finish_reason": "stop"} for i in (0, 1)])
        ),
        {"n": 2},
    ),
}


@pytest.mark.parametrize("case", UNKEPT)
def test_what_is_no_whole_answer_becomes_no_row(tmp_path: Path, case: str) -> None:
    data, fields = UNKEPT[case]

    async def main() -> None:
        async with school(tmp_path, answering(data)) as s:
            await s.put(state="capturing")
            await s.ask(**fields)
            await s.rows(0)

    run(main())


@pytest.mark.parametrize(
    "fields",
    [{"keys": ("k2",)}, {"state": "off"}, {"state": "paused"}, {"consent": " "}, {"sample": 0.4}],
    ids=lambda f: str(next(iter(f))),
)
def test_nothing_is_captured_that_was_not_agreed_to(tmp_path: Path, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            s.dice = 0.5
            await s.put(**{"state": "capturing", **fields})
            assert (await s.ask()).status == 200
            await s.rows(0)

    run(main())


def test_a_key_that_is_forgotten_meanwhile_is_not_kept_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.put(state="capturing")
            s.tasks._learning._value = 0  # nobody gets on with it yet
            await s.ask()
            await s.put(keys=())
            s.tasks._learning.release()
            await s.rows(0)

    run(main())


def test_rows_that_nobody_gets_on_with_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lilliput.gateway.tasks.MOST_JOBS", 1)

    async def main() -> None:
        async with school(tmp_path) as s:
            await s.put(state="capturing")
            s.tasks._learning._value = 0
            for _ in range(3):
                assert (await s.ask()).status == 200
            s.tasks._learning.release()
            await s.rows(1)
            assert s.r.counted("lilliput_task_events_total", task=NAME, event="dropped") == 2
            assert s.r.counted("lilliput_task_events_total", task=NAME, event="row") == 1
            assert s.r.counted("lilliput_task_answers_total", task=NAME, by="teacher", why="capturing") == 3

    run(main())


SCOPES: list[tuple[tuple[str, ...], str, int]] = [
    ((), f"task/{NAME}", 200),
    ((f"task/{NAME}",), f"task/{NAME}", 200),
    (("p/m",), f"task/{NAME}", 403),
    ((f"task/{NAME}",), "p/m", 403),
    (("hello",), "hello", 200),
    ((f"task/{NAME}",), "hello", 200),
    (("task/other",), "hello", 403),
]


@pytest.mark.parametrize(("models", "asked", "status"), SCOPES)
def test_who_may_call_the_task_may_have_its_teachers_answer(
    tmp_path: Path, models: tuple[str, ...], asked: str, status: int
) -> None:
    async def main() -> None:
        async with school(tmp_path, aliases={"hello": f"task/{NAME}", "other": "p/m"}) as s:
            key = Key(id="k1", models=models)
            s.r.gate.find_key = lambda token: key if token == KEY else None
            got = await s.r.chat(model=asked)
            assert got.status == status
            if status == 403:
                assert got.error["code"] == "model_not_allowed"
            ids = {m["id"] for m in (await s.r.ask("GET", "/v1/models")).json["data"]}
            assert (f"task/{NAME}" in ids) == (not models or f"task/{NAME}" in models)
            one = await s.r.ask("GET", f"/v1/models/task/{NAME}")
            assert one.status == (200 if not models or f"task/{NAME}" in models else 403)

    run(main())


def test_a_task_that_there_is_not_is_told_with_the_nearest(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            got = await s.r.chat(model="task/great")
            assert (got.status, got.error["code"]) == (404, "model_not_found")
            assert f"task/{NAME}" in got.error["message"]
            got = await s.r.ask("POST", "/v1/embeddings", {"model": f"task/{NAME}", "input": "hi"})
            assert (got.status, got.error["code"]) == (400, "task_operation")
            await s.store.put(structs.replace(TASK, name="new"))
            s.tasks._read_at -= 1.0
            assert (await s.r.chat(model="task/new")).status == 200, "another process made it"

    run(main())


def test_a_task_without_a_teacher_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.put(teacher="q/none")
            got = await s.ask()
            assert (got.status, got.error["code"]) == (404, "model_not_found")

    run(main())


def test_a_change_is_seen_by_the_next_request_though_a_read_is_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            read, may_end = s.store.tasks, asyncio.Event()

            async def slow() -> Any:
                found = await read()
                await may_end.wait()
                return found

            s.store.tasks = slow  # type: ignore[method-assign]
            s.tasks.changed(NAME)
            asking = asyncio.create_task(s.ask())
            await asyncio.sleep(0.05)
            await s.put(state="paused")
            may_end.set()
            assert "why=paused" in route(await asking)

    run(main())


def test_the_store_may_go_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.put(state="capturing")
            await s.ask()
            await s.rows(1)
            (tmp_path / "tasks.db").rename(tmp_path / "away.db")
            (tmp_path / "tasks.db").mkdir()
            s.tasks.changed(NAME)
            assert (await s.ask()).status == 200
            (tmp_path / "tasks.db").rmdir()
            (tmp_path / "away.db").rename(tmp_path / "tasks.db")

    run(main())


def test_the_ledger_has_the_task_as_model_and_the_teacher_as_who_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger), school(tmp_path, r=r) as s:
            assert (await s.ask()).status == 200
            (row,) = await ledger.usage(UsageQuery(by=("account", "model", "served", "operation")))
            assert row.group == ("k1", f"task/{NAME}", "p/m", "chat")
            assert row.cost_nusd == COST

    run(main())


def test_a_task_is_in_no_cache(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, _), school(tmp_path, r=r) as s:
            await s.put(state="capturing")
            await s.ask()
            await s.ask()
            assert len(s.r.provider.bodies) == 2
            await s.rows(2)
            body = {"model": f"task/{NAME}", "messages": HI}
            for _ in range(2):
                assert (await r.ask("POST", CHAT, body, {"Idempotency-Key": "one"})).status == 200
            await s.rows(3)

    run(main())
