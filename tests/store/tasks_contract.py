"""What every store of tasks keeps, as stories: `CONTRACT` is to be run over each store, each story on an empty one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest
from msgspec import Raw, structs

from lilliput.neutral import Problem
from lilliput.tasks import Audited, Row, Task, TaskStore

Make = Callable[[], AbstractAsyncContextManager[TaskStore]]
"""Opens an empty store."""
Story = Callable[[TaskStore], Awaitable[None]]
DAY_S = 86_400.0


def keeps(make: Make, story: Story) -> None:
    async def whole() -> None:
        async with make() as store:
            await story(store)

    asyncio.run(whole())


def task(name: str = "t", **more: object) -> Task:
    values: dict[str, object] = {"teacher": "p/m", "kind": "label", "labels": ("a", "b"), **more}
    return Task(name=name, **values)  # type: ignore[arg-type]


def messages(*texts: str, system: str = "Sort it.") -> Raw:
    said = [{"role": "system", "content": system}, *({"role": "user", "content": t} for t in texts)]
    return Raw(msgspec.json.encode(said))


def row(id: str, text: str = "hello", **more: object) -> Row:
    values: dict[str, object] = {"task": "t", "at": 1000.0, "key": "k1", "answer": "a", "teacher": "p/m", **more}
    return Row(id=id, messages=messages(text), **values)  # type: ignore[arg-type]


def audited(id: str, **more: object) -> Audited:
    values: dict[str, object] = {"task": "t", "student": "s1", "at": 1.0, "mode": "audit", "confidence": 0.9}
    return Audited(id=id, **{**values, "agrees": True, "served": True, **more})  # type: ignore[arg-type]


async def a_task_is_changed_at_its_revision_alone(store: TaskStore) -> None:
    made = await store.put(task(schema=Raw(b'{"type":"object"}'), keys=("k1",)))
    assert made.revision == 1
    assert await store.task("t") == made
    with pytest.raises(Problem) as again:
        await store.put(task())
    assert (again.value.status, again.value.code) == (409, "task_exists")
    tries = [store.put(structs.replace(made, why=str(n))) for n in range(5)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(d.code or "" for d in done if isinstance(d, Problem)) == ["task_changed"] * 4
    now = await store.task("t")
    assert now is not None
    assert now.revision == 2
    assert now in done
    with pytest.raises(Problem):
        await store.put(structs.replace(task("never"), revision=3))
    await store.put(task("a"))
    assert [t.name for t in await store.tasks()] == ["a", "t"]
    assert await store.task("T") is None


async def rows_come_oldest_first_as_they_went_in(store: TaskStore) -> None:
    scored = Raw(b'{"content":[]}')
    full = row("r9", "caf\u00e9", at=5.5, group="g", subject="s", terms="allowed", logprobs=scored, redacted=2)
    assert await store.add([row("r1", at=9.0), full, row("r2", at=7.0), row("r3", at=7.0, task="other")]) == 4
    assert await store.add([row("r1", "another text"), row("r4", at=9.0)]) == 1, "an id is taken once"
    found = await store.rows("t")
    assert [r.id for r in found] == ["r9", "r2", "r1", "r4"]
    assert found[0] == full
    assert found[2].messages == messages("hello")
    assert [r.id for r in await store.rows("t", since=7.0, limit=2, offset=1)] == ["r1", "r4"]
    assert [r.id for r in await store.rows("t", limit=1)] == ["r9"]
    assert (await store.count("t"), await store.count("other"), await store.count("none")) == (4, 1, 0)
    assert await store.row("r9") == full
    assert await store.row("r99") is None
    assert await store.add([]) == 0
    with pytest.raises(Problem) as e:
        await store.add([structs.replace(full, id="x", messages=Raw(b'{"role":"user"}'))])
    assert e.value.status == 400
    assert await store.row("x") is None


async def a_row_is_judged_later(store: TaskStore) -> None:
    await store.add([row("r1"), row("r2")])
    assert await store.judge("r1", -0.5, "b")
    assert not await store.judge("r3", 1.0, None)
    found = [(r.feedback, r.correction) for r in await store.rows("t")]
    assert found == [(-0.5, "b"), (None, None)]
    assert await store.judge("r1", 1.0, None)
    (judged, _) = await store.rows("t")
    assert (judged.feedback, judged.correction) == (1.0, None)


async def what_is_erased_is_gone_from_every_task(store: TaskStore) -> None:
    await store.put(task())
    mine = [row("r1"), row("r2", "bye", subject="ann"), row("r3", "bye", task="other")]
    await store.add([*mine, row("r4", "bye", key="k2", subject="ann"), row("r5", "see", key="k2")])
    assert await store.erase(subject="ann") == {"t": 2}
    assert await store.erase(key="k1") == {"t": 1, "other": 1}
    assert await store.erase(key="k1") == {}
    (left,) = await store.rows("t")
    assert left == row("r5", "see", key="k2"), "what it shares with erased rows stays"
    for bad in ({}, {"key": "a", "subject": "b"}, {"subject": ""}):
        with pytest.raises(Problem):
            await store.erase(**bad)
    assert await store.count("t") == 1


async def rows_expire_with_their_task_s_retention(store: TaskStore) -> None:
    await store.put(task(retention_days=2))
    await store.put(task("long", retention_days=30))
    await store.add([row("r1", at=0.0), row("r2", at=DAY_S), row("r3", at=0.0, task="long")])
    await store.add([row("r4", at=0.0, source="import")])
    assert await store.expire(2.5 * DAY_S) == 1
    assert [r.id for r in await store.rows("t")] == ["r4", "r2"], "what was imported stays"
    assert await store.count("long") == 1
    assert await store.expire(2.5 * DAY_S) == 0


async def audits_are_the_newest_in_their_order(store: TaskStore) -> None:
    await store.note([audited("a1"), audited("a2", student="s2"), audited("a3", task="other"), audited("a4")])
    await store.note([audited("a5", agrees=False, mode="shadow")])
    assert [a.id for a in await store.audits("t")] == ["a1", "a2", "a4", "a5"]
    assert [a.id for a in await store.audits("t", "s1", limit=2)] == ["a4", "a5"]
    assert (await store.audits("t", limit=1))[0] == audited("a5", agrees=False, mode="shadow")
    assert await store.audits("t", "s3") == []


async def a_task_is_dropped_with_all_it_has(store: TaskStore) -> None:
    await store.put(task())
    await store.put(task("other"))
    await store.add([row("r1"), row("r2", task="other")])
    await store.note([audited("a1"), audited("a2", task="other")])
    assert await store.drop("t")
    assert not await store.drop("t")
    assert await store.task("t") is None
    assert await store.rows("t") == []
    assert await store.audits("t") == []
    assert await store.rows("other") == [row("r2", task="other")]
    assert len(await store.audits("other")) == 1
    assert (await store.put(task())).revision == 1


async def adding_and_erasing_at_once_loses_no_message(store: TaskStore) -> None:
    """Rows of two keys share every message: erasing one key takes none from the other."""
    await store.put(task())

    async def add(n: int) -> None:
        await store.add([row(f"{k}-{n}-{i}", f"m{i}", key=k) for i in range(5) for k in ("k1", "k2")])

    async def erase() -> None:
        await store.erase(key="k1")

    await asyncio.gather(*(job for n in range(6) for job in (add(n), erase())))
    await store.erase(key="k1")
    found = await store.rows("t")
    assert len(found) == 30
    assert all(r == row(r.id, f"m{r.id[-1]}", key="k2") for r in found)


CONTRACT: list[Story] = [
    a_task_is_changed_at_its_revision_alone,
    rows_come_oldest_first_as_they_went_in,
    a_row_is_judged_later,
    what_is_erased_is_gone_from_every_task,
    rows_expire_with_their_task_s_retention,
    audits_are_the_newest_in_their_order,
    a_task_is_dropped_with_all_it_has,
    adding_and_erasing_at_once_loses_no_message,
]
