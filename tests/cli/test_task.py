"""`lilliput task`: the life of a task in commands, and what is left of somebody who is forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import lilliput
from tests.store.tasks_contract import row, task
from tests.store.test_erasing import bundle, lines, sha
from tests.store.test_tasks import held

from lilliput.cli import task as commands
from lilliput.cli.tasking import expiring, servable
from lilliput.config import Home
from lilliput.loop.declare import Declared
from lilliput.neutral import Problem
from lilliput.store.keys import open_ring
from lilliput.store.open import open_store, replays
from lilliput.store.replays import Room


def out(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_life_of_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env, csv = {"LILLIPUT_HOME": str(tmp_path)}, tmp_path / "rows.csv"
    Home(tmp_path).data.mkdir()
    asked = Declared(name="sort", teacher="p/m", kind="label", labels=("a", "b"))
    commands.create(env, asked, True)
    made = out(capsys)
    assert (made["id"], made["state"], made["revision"]) == ("task/sort", "off", 1)
    csv.write_text("text,answer,subject\nwrite to me@example.org,a,ann\nbye,b,bob\n")
    with pytest.raises(Problem) as e:
        commands.bring(env, "sort", csv, None, None, True)
    assert e.value.param == "consent"
    for new in (2, 0):
        commands.bring(env, "sort", csv, None, "they agreed", True)
        assert out(capsys) == {"object": "task.import", "new": new, "rows": 2}
    commands.rows(env, "sort", 0, 0, True)
    first, second = out(capsys)
    assert "me@example.org" not in json.dumps(first), "redacted before it is kept"
    assert (first["redacted"], first["consent"], first["key"], first["subject"]) == (1, "they agreed", "import", "ann")
    commands.feedback(env, "sort", second["id"], None, "a", True)
    commands.feedback(env, "sort", second["id"], -1.0, None, True)
    capsys.readouterr()
    commands.rows(env, "sort", 1, 1, True)
    (judged,) = out(capsys)
    assert (judged["feedback"], judged["correction"]) == (-1.0, "a"), "a score leaves the correction"
    commands.pause(env, "sort", "lunch", True)
    assert out(capsys)["why"] == "lunch"
    commands.resume(env, "sort", True)
    assert out(capsys)["state"] == "off"
    commands.listing(env, False)
    assert capsys.readouterr().out.splitlines()[1].split() == ["sort", "label", "off", "p/m", "-", "2", "-"]
    with pytest.raises(Problem) as e:
        commands.promote(env, "sort", "../keys", False, True)
    assert (e.value.status, e.value.code) == (404, "student_not_found")
    commands.drop(env, "sort", True)
    with pytest.raises(Problem):
        commands.show(env, "sort", False)


def test_rows_expire_while_the_gateway_runs(tmp_path: Path) -> None:
    async def story() -> None:
        opened = await open_store("", tmp_path / "l.db")
        await opened.tasks.put(task(retention_days=1))
        await opened.tasks.add([row("r1", at=0.0), row("r2", at=90_000.0)])
        async with expiring(opened.tasks, lambda: 100_000.0):
            while await opened.tasks.count("t") == 2:
                await asyncio.sleep(0)
        assert [r.id for r in await opened.tasks.rows("t")] == ["r2"]
        await opened.close()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_a_command_says_what_is_wrong(tmp_path: Path) -> None:
    done = lilliput(tmp_path, "task", "capture", "none", "--terms", "forbidden")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: task 'none' is not known; list them with `lilliput task list` or GET /v1/tasks\n"
    assert lilliput(tmp_path, "task", "create", "x", "--teacher", "m", "--kind", "poem").returncode == 2


@pytest.mark.parametrize(
    ("text", "fault"), [("exact:x", "nothing after"), ("judges", "Invalid enum"), ("judge:m", ""), ("", "")], ids=str
)
def test_scorers_are_read(text: str, fault: str) -> None:
    if fault:
        with pytest.raises(Problem, match=fault):
            commands.scorer(text, None)
        return
    got = commands.scorer(text, 0.5)
    assert (got is None) == (text == "")
    assert commands.scorer("pattern:a:b", None).pattern == "a:b"  # type: ignore[union-attr]


async def fill(place: Home) -> str:
    """A home with traces of one key, of another, and of a subject; the key's id."""
    opened = await open_store("", place.database)
    ring = await open_ring(opened.store, place.pepper_file)
    mine = (await ring.create("app", team="blue"))[0].id
    await opened.tasks.put(task("sort", state="live", keys=(mine,), consent="c", student="s1", before=("s0",)))
    await opened.tasks.put(task("other", keys=("k2",)))
    await opened.tasks.add([row(f"r{n}", "CANARY", task="sort", key=mine, subject="ann") for n in range(3)])
    await opened.tasks.add([row("r9", "kept", task="sort", key="k2", subject="bob")])
    await opened.responses.keep(mine, "resp_1", b"CANARY", ["msg_1"])
    await opened.responses.keep("k2", "resp_2", b"x", [])
    answers, claims = replays(opened, Room(99, 9999))
    for tenant in (f"key:{mine}", "team:blue", "key:k2"):
        await answers.keep(tenant, b"d" * 32, b"CANARY" if tenant != "key:k2" else b"x", 60)
    await claims.claim((mine, b"i"), b"body", "p", 60)
    await claims.finish((mine, b"i"), "p", b"CANARY", 86_400)
    await opened.close()
    return mine


@pytest.mark.parametrize("of", ["key", "subject"])
def test_whoever_is_forgotten_is_gone_from_the_home(
    of: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, env = Home(tmp_path), {"LILLIPUT_HOME": str(tmp_path)}
    place.data.mkdir()
    mine = asyncio.run(fill(place))
    lines(place.runs / "one" / "rows.jsonl", {"id": "r0", "key": mine, "subject": "ann", "t": "CANARY"}, {"id": "r9"})
    bundle(place.students, "s1", keys=(mine,), subjects_sha256=(sha("ann"),))
    bundle(place.students, "s0", keys=("k2",))
    assert held(place.database, b"CANARY") > 0
    commands.forget(env, "app" if of == "key" else None, "ann" if of == "subject" else None, True)
    report = out(capsys)
    assert report["sha256"] == sha(mine if of == "key" else "ann")
    assert report["rows"] == {"sort": 3}
    assert report["rows_sha256"] == sha("r0\nr1\nr2\n")
    assert report["cached"] == 2
    assert [(f["path"], f["lines"]) for f in report["files"]] == [("one/rows.jsonl", 1)]
    assert [s["student"] for s in report["students"]] == ["s1"]
    assert mine not in json.dumps(report)
    if of == "key":
        assert (report["responses"], report["idempotent"]) == (1, 1)
        assert report["tasks"] == {"sort": "paused"}, "nobody's calls are left to capture"
        assert held(place.database, b"CANARY") == 0
    else:
        assert report["tasks"] == {"sort": "capturing"}
        assert held(place.database, b"CANARY") == 2, "a response and an idempotency key know no subject"
    assert not any(b"CANARY" in p.read_bytes() for p in place.runs.rglob("*") if p.is_file())
    with pytest.raises(Problem) as e:
        servable(place.students, "s1")
    assert (e.value.status, e.value.code) == (409, "student_blocked")
    commands.show(env, "sort", True)
    shown = out(capsys)
    assert (shown["student"], shown["before"], shown["rows"]) == (None, ["s0"], 1)
    assert "erased" in shown["why"]
    commands.forget(env, "app" if of == "key" else None, "ann" if of == "subject" else None, False)
    assert "rows  " not in capsys.readouterr().out, "the second time there is nothing left"
    with pytest.raises(Problem):
        commands.forget(env, None, None, False)
