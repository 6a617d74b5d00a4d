"""`/v1/tasks` and `/v1/forget`: ordered by keys without a scope, read and judged by those that may call the task."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.gateway.rig import Answered, Rig, rig, run
from tests.gateway.test_till import shop
from tests.store.ledger_contract import cost, hold
from tests.store.tasks_contract import audited, row, task

from lilliput.catalogue.rows import Price
from lilliput.gateway.task_desk import Desk
from lilliput.gateway.task_savings import savings, wilson
from lilliput.neutral import Key, Problem, Usage
from lilliput.store.keys import allows
from lilliput.store.open import open_store
from lilliput.tasks import Frame, Student, TaskStore, Threshold

NEVER = Threshold(confidence=2, alpha=0.05, delta=0.1, items=0, coverage=0, bound=1, method="none")
SORT = {"name": "sort", "teacher": "p/m", "kind": "label", "labels": ["a", "b"]}
HI = [{"role": "user", "content": "write to me@example.org"}]


def student(id: str) -> Student:
    if id not in ("s1", "s2", "alien"):
        raise Problem("missing", f"no student {id!r}", code="student_not_found")
    name = "other" if id == "alien" else "sort"
    return Student(id=id, task=name, kind="label", form="baseline", frame=Frame(), threshold=NEVER)


@contextlib.asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[tuple[Rig, TaskStore, list[str]]]:
    """A gateway with tasks; what was changed, and who was forgotten."""
    opened = await open_store("", folder / "l.db")
    heard: list[str] = []

    async def forget(key: str | None, subject: str | None) -> dict[str, Any]:
        heard.append(f"forget {key} {subject}")
        return {"rows": {}}

    async def key(who: str) -> str:
        return {"app": "k1"}[who]

    async with rig() as r:
        r.gate.desk = Desk(
            store=opened.tasks, student=student, forget=forget, key=key, clock=lambda: 9.0, changed=heard.append
        )
        yield r, opened.tasks, heard
    await opened.close()


def as_key(r: Rig, id: str, *models: str) -> None:
    r.gate.find_key, r.gate.allows = lambda token: Key(id=id, models=models), allows


async def post(r: Rig, path: str, **body: Any) -> Answered:
    return await r.ask("POST", f"/v1/{path}", body)


def test_a_task_goes_its_way_over_http(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as (r, store, heard):
            made = (await post(r, "tasks", **SORT)).json
            assert (made["object"], made["id"], made["state"]) == ("task", "task/sort", "off")
            assert (await post(r, "tasks", **SORT)).error["code"] == "task_exists"
            bad = await post(r, "tasks/sort/state", to="live")
            assert (bad.status, bad.error["code"]) == (409, "task_state")
            assert "capturing, training, shadow, paused" in bad.error["message"]
            assert (await post(r, "tasks/sort/state", to="capturing")).error["code"] == "consent_missing"
            got = await post(r, "tasks/sort/state", to="capturing", key="app", consent="yes", terms="forbidden")
            assert (got.json["keys"], got.json["state"]) == (["k1"], "capturing")
            assert (await post(r, "tasks/sort/state", to="training")).status == 403
            await post(r, "tasks/sort/state", to="capturing", override="A. Person")
            assert (await post(r, "tasks/sort/state", to="training")).json["state"] == "training"
            for id, status in (("s9", 404), ("alien", 400)):
                assert (await post(r, "tasks/sort/student", student=id)).status == status
            assert (await post(r, "tasks/sort/student", student="s1")).json["state"] == "shadow"
            assert (await post(r, "tasks/sort/student", student="s1", live=True)).json["state"] == "live"
            assert (await post(r, "tasks/sort/student", student="s2", live=True)).json["before"] == ["s1"]
            back = (await post(r, "tasks/sort/student", rollback=True)).json
            assert (back["student"], back["state"]) == ("s1", "live")
            assert (await post(r, "tasks/sort/state", to="paused", why="lunch")).json["why"] == "lunch"
            assert (await post(r, "tasks/sort/state", to="resume")).json["state"] == "shadow"
            assert (await r.ask("GET", "/v1/tasks/task/sort")).json["student"] == "s1"
            assert set(heard) == {"sort"}
            gone = await r.ask("DELETE", "/v1/tasks/sort")
            assert gone.json == {"id": "sort", "object": "task.deleted", "deleted": True}
            assert (await r.ask("DELETE", "/v1/tasks/sort")).error["code"] == "task_not_found"
            assert await store.tasks() == []
            await post(r, "forget", subject="ann")
            assert heard[-1] == "forget None ann"

    run(main())


def test_rows_are_brought_read_by_page_and_judged(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as (r, store, _):
            await post(r, "tasks", **SORT)
            some = [{"messages": HI, "answer": "a", "group": str(n)} for n in range(3)]
            assert (await post(r, "tasks/sort/rows", rows=some, consent=" ")).error["param"] == "consent"
            for new in (3, 0):
                got = await post(r, "tasks/sort/rows", rows=some, consent="yes")
                assert got.json == {"object": "task.import", "new": new, "rows": 3}
            bad = await post(r, "tasks/sort/rows", rows=[{"messages": {"a": 1}, "answer": "a"}], consent="yes")
            assert (bad.status, bad.error["param"]) == (400, "rows.0.messages")
            page = (await r.ask("GET", "/v1/tasks/sort/rows?limit=2")).json
            assert (len(page["data"]), page["has_more"]) == (2, True)
            assert "me@example.org" not in str(page), "redacted"
            rest = (await r.ask("GET", "/v1/tasks/sort/rows?limit=2&offset=2")).json
            assert (len(rest["data"]), rest["has_more"], rest["data"][0]["consent"]) == (1, False, "yes")
            await store.add([row("req_1", task="sort")])
            said = await post(r, "tasks/sort/feedback", request_id="req_1", score=-1, correction="b")
            assert (said.json["score"], said.json["correction"]) == (-1, "b")
            wrongs: dict[str, dict[str, Any]] = {
                "score": {"row": "req_1", "score": 2},
                "correction": {"row": "req_1", "correction": "z"},
                "row": {"score": 1},
            }
            for field, body in wrongs.items():
                wrong = await post(r, "tasks/sort/feedback", **body)
                assert (wrong.status, wrong.error["param"]) == (400, field)
            assert (await post(r, "tasks/sort/feedback", row="req_2", score=1)).error["code"] == "row_not_found"
            await store.note([audited(f"a{n}", task="sort") for n in range(3)])
            audits = (await r.ask("GET", "/v1/tasks/sort/audits?limit=2")).json
            assert ([a["id"] for a in audits["data"]], audits["has_more"]) == (["a1", "a2"], True)

    run(main())


def test_a_scope_sees_its_tasks_and_judges_its_own_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as (r, store, _):
            await store.put(task("sort", keys=("k1", "k2")))
            await store.put(task("other"))
            await store.add([row("mine", task="sort"), row("theirs", task="sort", key="k2"), row("far", task="other")])
            as_key(r, "k1", "task/sort")
            assert [t["name"] for t in (await r.ask("GET", "/v1/tasks")).json["data"]] == ["sort"]
            assert (await r.ask("GET", "/v1/tasks/sort")).json["keys"] == ["k1"], "no other key's id"
            for name in ("other", "nowhere"):
                for path in ("", "/audits", "/savings"):
                    assert (await r.ask("GET", f"/v1/tasks/{name}{path}")).status == 403
                assert (await post(r, f"tasks/{name}/feedback", row="far", score=1)).status == 403
            for path in ("/audits", "/savings"):
                assert (await r.ask("GET", f"/v1/tasks/sort{path}")).status == 200
            assert (await r.ask("GET", "/v1/tasks/sort/rows")).error["code"] == "tasks_not_allowed"
            assert (await post(r, "tasks/sort/feedback", row="mine", score=1)).status == 200
            for id in ("theirs", "far", "never"):
                got = await post(r, "tasks/sort/feedback", row=id, score=1)
                assert (got.status, got.error["code"]) == (404, "row_not_found")
            for path in ("tasks", "tasks/sort/state", "tasks/sort/student", "tasks/sort/rows", "forget"):
                assert (await post(r, path)).error["code"] == "tasks_not_allowed"
            assert (await r.ask("DELETE", "/v1/tasks/sort")).status == 403

    run(main())


BAD: list[tuple[str, Any, str | None]] = [
    ("tasks", b"{", None),
    ("tasks", b"\xff", None),
    ("tasks", b"[" * 100_000, None),
    ("tasks", {**SORT, "labels": [1, 2]}, "labels[0]"),
    ("tasks", {**SORT, "name": "A"}, "name"),
    ("tasks", {**SORT, "alpha": "x"}, "alpha"),
    ("tasks/sort/state", {"to": "nowhere"}, "to"),
    ("tasks/sort/student", {}, "student"),
    ("tasks/sort/student", {"student": "s1", "rollback": True}, "student"),
    ("tasks/sort/feedback", {"row": "a", "request_id": "b", "score": 1}, "row"),
    ("forget", {"who": "a"}, None),
]


@pytest.mark.parametrize(("path", "body", "param"), BAD, ids=range(len(BAD)))
def test_what_is_no_order_is_refused_by_field(path: str, body: Any, param: str | None, tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as (r, store, _):
            await store.put(task("sort"))
            got = await r.ask("POST", f"/v1/{path}", body)
            assert (got.status, got.error["code"], got.error["param"]) == (400, "invalid_value", param)
            for query in ("limit=0", "limit=x", "offset=-1"):
                assert (await r.ask("GET", f"/v1/tasks/sort/rows?{query}")).status == 400

    run(main())


def test_savings_are_from_the_ledger_and_the_audits(tmp_path: Path) -> None:
    live = task("sort", student="s1", state="live")
    price = Price(input=1_000_000_000, output=2_000_000_000, per_request=5)
    audits = [audited(f"a{n}", agrees=n > 1, student_ms=10.0, teacher_ms=100.0 + n) for n in range(10)]
    shadow = audited("sh", mode="shadow", served=False, agrees=False)
    old = audited("old", student="s0", agrees=False)

    async def main() -> None:
        async with shop(tmp_path) as (_, ledger):
            served = {
                "r1": ("task/sort", "p/m"),
                "r2": ("task/sort", "lilliput/sort@s1"),
                "r3": ("task/sort", "lilliput/sort@s0"),
            }
            served["r4"] = ("task/sortx", "lilliput/sortx@s1")
            for id, (model, by) in served.items():
                await ledger.hold(hold(id, 10**9, account="k1", model=model))
                paid = 7_000 if by == "p/m" else 0
                await ledger.settle(id, cost(paid, served=by, usage=Usage(input=3, output=4)))
            await ledger.hold(hold("r5", 10**9, account="task/sort", model="p/m"))
            await ledger.settle("r5", cost(10, served="p/m"))
            got = await savings(live, ledger, [*audits, shadow, old], price, 0.0)
            assert (got.requests, got.local, got.prompt_tokens, got.completion_tokens) == (3, 2, 6, 8)
            assert (got.spent_usd, got.saved_usd, got.all_teacher_usd) == ("0.00000701", "0.000022", "0.00002901")
            assert (got.agreement.items, got.agreement.share) == (10, 0.8)
            assert (round(got.agreement.low, 4), round(got.agreement.high, 4)) == (0.4902, 0.9433)
            assert (got.shadow.items, got.shadow.share) == (1, 0.0)
            assert (got.student_ms, got.teacher_ms, got.saved_ms, got.notes) == (10.0, 104.5, 94.5, ())
            bare = await savings(structs.replace(live, student="s2"), None, audits, None, 0.0)
            assert (bare.requests, bare.saved_usd, bare.agreement.share, len(bare.notes)) == (None, None, None, 3)
            nothing = wilson(0, 0)
            assert (nothing.low, nothing.high) == (0.0, 1.0)

    run(main())
