"""A task with a student: in shadow, live and deferring, offline, taken over from, and killed."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs
from tests.gateway.replaying import replaying
from tests.gateway.rig import CHAT, KEY, answering, json_answer, rig, run, until, whole
from tests.gateway.school import DOORS, NAME, TASK, Pupil, knock, route, saying, school, text_of
from tests.gateway.test_tasks import BY_DOOR
from tests.gateway.test_till import COST, PRICE, shop
from tests.local.bundles import BASELINE, bundle

from lilliput.cli.students import tasked
from lilliput.config import Config, Home, TasksTable
from lilliput.gateway.tasks import Tasks
from lilliput.loop.drift import fit
from lilliput.money import UsageQuery
from lilliput.neutral import Key, Problem
from lilliput.store.open import open_store
from lilliput.tasks import Guess, Scorer

LIVE = f"task/{NAME}; by=student; student=01234567; confidence=0.973; why=sure"
SERVED = f"lilliput/{NAME}@01234567"
DOWN = answering(json_answer(b'{"error":{"message":"down"}}', 503))


def by_teacher(why: str) -> str:
    return f"task/{NAME}; by=teacher; why={why}; served=p/m; tries=1; policy=named"


@BY_DOOR
def test_a_sure_student_answers_in_the_callers_dialect(tmp_path: Path, door: Any) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            pupil = await s.hire(saying("good day"), audit_share=0.0)
            got = await knock(s.r, door)
            assert (got.status, text_of(door[0], got), route(got)) == (200, "good day", LIVE)
            assert got.is_whole
            assert (pupil.heard, s.r.provider.bodies) == (["hi"], [])
            ends = ("[DONE]", "message_stop", "response.completed", "STOP")
            assert not door[1] or any(end in got.body.decode() for end in ends)
            await s.rows(0)
            assert s.r.counted("lilliput_task_answers_total", task=NAME, by="student", why="sure") == 1

    run(main())


@BY_DOOR
def test_of_an_unsure_one_the_teacher_is_asked(tmp_path: Path, door: Any) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            pupil = await s.hire(saying("good day", 0.89))
            got = await knock(s.r, door)
            assert (got.status, text_of(door[0], got), route(got)) == (200, "hello", by_teacher("unsure"))
            assert pupil.heard == ["hi"]
            (one,) = await s.audits(1)
            assert (one.mode, one.served, one.agrees, one.student) == ("deferred", False, False, "0123456789abcdef")
            assert (one.confidence, one.student_ms) == (0.89, 1.5)
            await s.rows(1)

    run(main())


def test_in_shadow_nothing_is_served_and_everything_is_measured(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            pupil = await s.hire(saying("hello", 0.2), state="shadow", keys=())
            got = await s.ask()
            assert (got.json["choices"][0]["message"]["content"], route(got)) == ("hello", by_teacher("shadow"))
            (one,) = await s.audits(1)
            assert (one.mode, one.served, one.agrees, one.confidence) == ("shadow", False, True, 0.2)
            assert one.teacher_ms > 0
            assert pupil.heard == ["hi"]
            await s.rows(0)

    run(main())


ASKS: list[tuple[str, dict[str, Any]]] = [
    ("form", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}),
    ("form", {"n": 2}),
    ("form", {"logprobs": True}),
    ("form", {"stop": ["x"]}),
    ("form", {"response_format": {"type": "json_object"}}),
    ("form", {"max_tokens": 1}),
    ("frame", {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]}),
    ("frame", {"messages": [{"role": r, "content": "hi"} for r in ("user", "assistant", "user")]}),
    ("form", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}]}),
    ("long", {"user": "u" * (1 << 16)}),
]


@pytest.mark.parametrize(("why", "fields"), ASKS, ids=lambda v: "" if isinstance(v, dict) else v)
def test_what_a_student_cannot_give_is_its_teachers(tmp_path: Path, why: str, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.hire(saying("a longer answer"))
            got = await s.ask(**fields)
            assert (got.status, route(got)) == (200, by_teacher(why))
            assert await s.audits(0) == []

    run(main())


def test_a_student_reads_what_it_was_trained_on_and_its_caller_what_was_meant(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            pupil = await s.hire(saying("write to <EMAIL_1>"), audit_share=0.0)
            got = await s.ask("and ann@example.org?")
            assert pupil.heard == ["and <EMAIL_1>?"]
            assert got.json["choices"][0]["message"]["content"] == "write to ann@example.org"

    run(main())


def test_a_student_that_is_late_is_not_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path, deadline_s=0.02) as s:
            pupil = await s.hire(saying(wait_s=60.0))
            got = await s.ask()
            assert (got.status, route(got)) == (200, by_teacher("late"))
            assert pupil.busy == 0, "its guess was given up"

    run(main())


def test_a_student_that_died_leaves_its_teacher(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:

            async def dead(text: str) -> Guess:
                raise Problem("server", "the engine is starting again", code="engine_unavailable")

            await s.hire(dead)
            got = await s.ask()
            assert (got.status, route(got)) == (200, by_teacher("down"))

    run(main())


def test_a_students_answer_costs_nothing_and_is_on_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger), school(tmp_path, r=r) as s:
            r.gate.till._price = {"p/m": PRICE}.get  # type: ignore[union-attr]
            await s.hire(saying(), audit_share=0.0)
            for stream in (False, True):
                got = await s.ask(stream=stream)
                assert route(got) == LIVE
            rows = await ledger.usage(UsageQuery(by=("account", "model", "served")))
            assert [(r.group, r.requests, r.cost_nusd, r.unpriced) for r in rows] == [
                (("k1", f"task/{NAME}", SERVED), 2, 0, 0)
            ]
            assert (rows[0].prompt_tokens, rows[0].completion_tokens) == (8, 2)
            assert (await ledger.account("k1")).held_nusd == 0  # type: ignore[union-attr]

    run(main())


def test_an_audit_asks_the_teacher_on_the_tasks_own_account(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger), school(tmp_path, r=r) as s:
            await s.hire(saying("hello"), audit_share=0.5)
            s.dice = 0.5
            await s.ask()
            await s.audits(0)
            s.dice = 0.49
            got = await knock(s.r, DOORS[5])
            (one,) = await s.audits(1)
            assert (one.mode, one.served, one.agrees, one.id) == ("audit", True, True, got.headers["x-request-id"])
            (asked,) = r.provider.bodies
            assert json.loads(asked)["messages"] == [{"role": "user", "content": "hi"}]
            rows = await ledger.usage(UsageQuery(by=("account", "served", "operation"), account=f"task/{NAME}"))
            assert [(r.group, r.cost_nusd) for r in rows] == [((f"task/{NAME}", "p/m", "audit"), COST)]

    run(main())


def test_a_student_that_breaks_its_bound_steps_down_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.hire(saying("nonsense"), audit_share=1.0)
            served = 0
            while route(await s.ask()) == LIVE:
                served += 1
                await s.quiet()
                assert served < 10
            assert served >= 2, "one answer proves nothing"
            task = await s.store.task(NAME)
            assert task is not None
            assert task.state == "shadow"
            assert task.why == f"demoted: {served} of {served} audited answers differ, where 0.05 of them may"
            assert s.r.counted("lilliput_task_events_total", task=NAME, event="demotion") == 1
            assert route(await s.ask()) == by_teacher("shadow")

    run(main())


def test_while_the_store_takes_no_change_it_steps_down_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.hire(saying("nonsense"), audit_share=1.0)
            put, s.store.put = s.store.put, _no_store  # type: ignore[method-assign,assignment]
            while route(await s.ask()) == LIVE:
                await s.quiet()
            s.tasks.changed(NAME)
            assert route(await s.ask()) == by_teacher("shadow")
            s.store.put = put  # type: ignore[method-assign]
            s.tasks.changed(NAME)
            await s.ask()
            await until(lambda: s.r.counted("lilliput_task_events_total", event="demotion"))
            task = await s.store.task(NAME)
            assert task is not None
            assert task.state == "shadow"

    run(main())


def test_a_response_of_a_students_can_be_gone_on_from(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.hire(saying("good day"), audit_share=0.0)
            for stream in (False, True):
                got = await knock(s.r, DOORS[2 + stream])
                (id,) = re.findall(r'"id": ?"(resp_[^"]+)"', got.body.decode())[:1]
                kept = await s.r.ask("GET", f"/v1/responses/{id}")
                assert (kept.status, text_of("responses", kept)) == (200, "good day")

    run(main())


def test_what_was_audited_counts_after_a_restart_and_in_every_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            pupil = await s.hire(saying("nonsense"), audit_share=1.0)
            await s.ask()
            await s.audits(1)
            for n in range(2, 6):  # another process's, and what is no audit
                old = (await s.store.audits(NAME))[0]
                await s.store.note([structs.replace(old, id=f"other{n}", mode="shadow", served=False)])
            async with school(tmp_path, r=s.r, pupils={pupil.student.id: Pupil(saying(), pupil.student.id)}) as again:
                await until(lambda: (NAME, pupil.student.id) in again.tasks.students.running())
                assert route(await again.ask()) == LIVE, "shadows are no audits"
                await again.quiet()
                for n in range(6, 10):
                    await again.store.note([structs.replace(old, id=f"other{n}")])
                again.tasks.changed(NAME)
                await until(lambda: again.tasks._known[NAME].state == "shadow")
                task = await again.store.task(NAME)
                assert task is not None
                assert "5 of 6" in task.why

    run(main())


def test_while_the_store_is_away_audits_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            await s.hire(saying("hello"), audit_share=1.0)
            note, s.store.note = s.store.note, _no_store  # type: ignore[method-assign,assignment]
            for _ in range(2):
                assert route(await s.ask()) == LIVE
            await s.quiet()
            s.store.note = note  # type: ignore[method-assign]
            await s.ask()
            await s.audits(3)

    run(main())


async def _no_store(_: Any) -> None:
    raise Problem("server", "the database does not answer")


@pytest.mark.parametrize(
    ("offline", "confidence", "status"),
    [("refuse", 0.1, 503), ("degraded", 0.1, 200), ("refuse", 0.95, 200)],
    ids=["refused", "degraded", "sure"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_while_its_teacher_is_out_of_reach(
    tmp_path: Path, offline: Any, confidence: float, status: int, stream: bool
) -> None:
    async def main() -> None:
        async with shop(tmp_path, DOWN) as (r, ledger), school(tmp_path, r=r) as s:
            await s.hire(saying("good day", confidence), offline=offline, audit_share=0.0)
            got = await s.ask(stream=stream)
            assert got.status == status
            if status != 200:
                return
            assert text_of("chat", got) == "good day"
            is_degraded = confidence < 0.9
            assert got.headers.get("x-lilliput-degraded") == ("true" if is_degraded else None)
            assert route(got).endswith("why=offline" if is_degraded else "why=sure")
            (row,) = await ledger.usage(UsageQuery(by=("served",)))
            assert (row.group, row.requests) == ((SERVED,), 1)

    run(main())


def test_a_sure_student_answers_where_there_is_no_way_to_its_teacher(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as (r, ledger), school(tmp_path, r=r) as s:
            await s.hire(saying("good day"), audit_share=0.0)

            def gone(name: str) -> Any:
                raise Problem("server", "every breaker is open")

            r.gate.target, r.gate.till._price = gone, {"p/m": PRICE}.get  # type: ignore[union-attr]
            got = await s.ask()
            assert (got.status, route(got)) == (200, LIVE)
            (row,) = await ledger.usage(UsageQuery(by=("served",)))
            assert (row.group, row.cost_nusd) == ((SERVED,), 0)

    run(main())


def test_a_mistake_of_the_callers_is_no_reason_to_serve_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path, answering(json_answer(b'{"error":{"message":"no"}}', 422))) as s:
            await s.hire(saying("good day", 0.1), offline="degraded")
            assert (await s.ask()).status == 422

    run(main())


def test_a_new_student_takes_over_without_a_failed_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            old = await s.hire(saying("old", wait_s=0.01), audit_share=0.0)
            seen: list[tuple[int, str]] = []
            is_over = False

            async def caller() -> None:
                while not is_over:
                    got = await s.ask()
                    seen.append((got.status, got.json["choices"][0]["message"]["content"]))

            callers = [asyncio.create_task(caller()) for _ in range(8)]
            await until(lambda: len(seen) > 10)
            new = await s.hire(saying("new", wait_s=0.01), "fedcba9876543210")
            await until(lambda: sum(text == "new" for _, text in seen) > 10)
            is_over = True
            await asyncio.gather(*callers)
            assert {status for status, _ in seen} == {200}
            assert {text for _, text in seen} <= {"old", "new", "hello"}
            await until(lambda: old.is_stopped)
            assert not new.is_stopped
        assert new.is_stopped

    run(main())


def test_a_blocked_student_serves_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            pupil = await s.hire(saying(), audit_share=0.0)
            s.blocked.add(pupil.student.id)
            s.tasks.changed(NAME)
            got = await s.ask()
            assert route(got) == by_teacher("starting")
            await until(lambda: pupil.is_stopped)
            await s.put(student=None, state="capturing")
            assert route(await s.ask()) == by_teacher("capturing")

    run(main())


def test_a_bundle_that_is_another_students_is_not_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            other = s.pupils["a" * 16] = Pupil(saying(), "b" * 16)
            await s.put(student="a" * 16, state="live")
            await until(lambda: other.is_stopped)
            assert not list(s.tasks.students.running())
            assert route(await s.ask()) == by_teacher("starting")

    run(main())


def test_only_so_many_models_are_held_in_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path, most=1) as s:
            now = 0.0
            s.tasks.students._clock = lambda: now
            first = s.pupils["a" * 16] = Pupil(saying(), "a" * 16, "model")
            second = s.pupils["b" * 16] = Pupil(saying(), "b" * 16, "model")
            second.student = structs.replace(second.student, task="other")
            await s.put(student="a" * 16, state="live", audit_share=0.0)
            await until(lambda: first.is_started)
            await s.ask()
            task = await s.store.task(NAME)
            assert task is not None
            await s.store.put(structs.replace(task, name="other", student="b" * 16, revision=0))
            s.tasks.changed("other")
            assert (await s.r.chat(model="task/other")).headers["x-lilliput-route"].endswith("policy=named")
            assert not second.is_started, "the first was asked just now"
            now = 100.0
            s.tasks.changed("other")
            await s.ask()
            now = 200.0
            assert not first.is_stopped, "nobody asks for the other"
            await s.r.chat(model="task/other")
            await until(lambda: first.is_stopped and second.is_started)

    run(main())


def test_a_scope_that_has_no_teacher_may_have_its_student(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            key = Key(id="k1", models=(f"task/{NAME}",))
            s.r.gate.find_key = lambda token: key if token == KEY else None
            await s.hire(saying(), audit_share=1.0)
            assert route(await s.ask()) == LIVE
            await s.audits(1)

    run(main())


def test_drift_raises_the_share_that_is_audited(tmp_path: Path) -> None:
    async def main() -> None:
        async with school(tmp_path) as s:
            texts = ["good day to you"] * 100
            s.references["0123456789abcdef"] = fit(texts, texts, [True] * 100)
            await s.hire(saying(), audit_share=0.1)
            s.dice = 0.3
            for _ in range(5):
                await s.ask("good day to you")
            await s.audits(0)
            for _ in range(10):
                await s.ask("wholly unknown words")
            await s.quiet()
            assert len(await s.store.audits(NAME)) > 0

    run(main())


async def _scoring(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
    """A model that says, judges and embeds: texts with a "g" point one way, others another."""
    asked = json.loads(body)
    if "input" in asked:
        vector = [1.0, 0.2] if "g" in asked["input"] else [0.0, 1.0]
        writer.write(json_answer(json.dumps({"data": [{"embedding": vector}]}).encode()))
    else:
        text = asked["messages"][0]["content"]
        judged = "Yes." if "good day" in text and "great day" in text else "No."
        writer.write(json_answer(whole(judged if asked["model"] == "judge" else "great day")))


SCORED: list[tuple[Scorer, str, bool | None]] = [
    (Scorer(), "great  day", True),
    (Scorer(), "good day", False),
    (Scorer(by="judge", model="p/judge"), "good day", True),
    (Scorer(by="judge", model="p/judge"), "no day", False),
    (Scorer(by="embedding", model="p/embed", least=0.9), "good day", True),
    (Scorer(by="embedding", model="p/embed", least=0.9), "no", False),
    (Scorer(by="judge", model="q/none"), "good day", None),
]


@pytest.mark.parametrize(("scorer", "answer", "agrees"), SCORED, ids=lambda v: v.by if isinstance(v, Scorer) else "")
def test_answers_are_compared_by_the_tasks_scorer(
    tmp_path: Path, scorer: Scorer, answer: str, agrees: bool | None
) -> None:
    async def main() -> None:
        async with school(tmp_path, _scoring) as s:
            await s.hire(saying(answer), scorer=scorer, audit_share=1.0)
            assert route(await s.ask()) == LIVE
            found = await s.audits(0 if agrees is None else 1)
            assert [a.agrees for a in found] == ([] if agrees is None else [agrees])

    run(main())


def test_a_request_sent_again_gets_the_students_answer_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, _), school(tmp_path, r=r) as s:
            pupil = await s.hire(saying("good day"), audit_share=1.0)
            body = {"model": f"task/{NAME}", "messages": [{"role": "user", "content": "hi"}]}
            for again in (False, True):
                got = await r.ask("POST", CHAT, body, {"Idempotency-Key": "one"})
                assert got.json["choices"][0]["message"]["content"] == "good day"
                assert ("idempotent-replayed" in got.headers) == again
            assert pupil.heard == ["hi"]
            await s.audits(1)

    run(main())


def test_a_student_of_this_home_is_served_as_it_is_configured(tmp_path: Path) -> None:
    async def main() -> None:
        place = Home(tmp_path)
        folder = bundle(place.students / "made", {"baseline.bin": BASELINE})
        id = json.loads((folder / "student.json").read_bytes())["id"]
        folder.rename(place.students / id)
        opened = await open_store("", tmp_path / "l.db")
        try:
            async with rig() as r, tasked(place, Config(aliases={"mail": "task/sections"}), opened, r.gate):
                await opened.tasks.put(
                    structs.replace(TASK, name="sections", kind="label", state="live", student=id, audit_share=0.0)
                )
                tasks = cast(Tasks, r.gate.tasks)
                tasks.changed("sections")
                await until(lambda: list(tasks.students.running()))
                got = await r.chat(model="mail", messages=[{"role": "user", "content": "chess chess chess"}])
                assert got.json["choices"][0]["message"]["content"] == "games"
                assert "by=student" in route(got)
                (place.students / id / "blocked.json").write_text("{}")
                tasks.changed("sections")
                got = await r.chat(model="mail", messages=[{"role": "user", "content": "chess chess chess"}])
                assert "by=teacher; why=starting" in route(got)
        finally:
            await opened.close()
        async with rig() as r, tasked(place, Config(tasks=TasksTable(on=False)), opened, r.gate):
            assert r.gate.tasks is None

    run(main())
