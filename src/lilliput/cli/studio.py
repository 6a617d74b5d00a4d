"""`lilliput studio`: a student made of a task's rows, stage by stage, and the runs that stand here.

The stages are in `lilliput.studio`; here they are given rows, weights and a teacher, watched, and the task moved on.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from lilliput.cli.output import json_text, one_line, show_json, show_table
from lilliput.cli.tasking import home_desk
from lilliput.config import Home
from lilliput.loop import lifecycle
from lilliput.neutral import Problem
from lilliput.studio import stages
from lilliput.studio.parts import Facts, Recipe, Work, write
from lilliput.tasks import Row, Task

RUN = "run.json"
EXTRA = ("sklearn", "torch", "transformers", "peft", "gguf", "safetensors")
STEP = 0.25
"""Share of a stage between two lines of a progress that no terminal shows."""


class Run(Struct, frozen=True, kw_only=True):
    """`run.json`: a run as it was begun, and how it stands. It keeps the task as it was then."""

    id: str
    task: Task
    recipe: Recipe
    rows: int
    made_at: float
    state: Literal["running", "stopped", "failed", "published"] = "running"
    student: str = ""
    why: str = ""


class Ask(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    task: str
    recipe: Path | None = None
    sets: tuple[str, ...] = ()
    rows: Path | None = None
    format: str | None = None
    consent: str | None = None
    fresh: bool = False
    """Begin anew, although a run of this task and recipe waits to go on."""


def run(env: Mapping[str, str], config: Path | None, asked: Ask, as_json: bool) -> int:
    """Make a student; 0 when one was published, 1 when none passes."""
    from lilliput.cli import here

    needs_extra()
    place, _ = here.settings(env, config)
    recipe = read_recipe(asked.recipe, asked.sets)
    found = asyncio.run(_begun(env, place, asked, recipe))
    work = Work(
        root=place.runs / found.id,
        task=found.task,
        recipe=recipe,
        students=place.students,
        weights=None if recipe.method == "none" else _weights(recipe.base, place),
        ask=_teacher(env, config),
    )
    place.students.mkdir(parents=True, exist_ok=True)
    now = asyncio.run(_training(env, asked.task))
    print(one_line(f"run {found.id}: {found.rows} rows of {asked.task}"), file=sys.stderr)
    end = structs.replace(found, state="stopped", why="interrupted")
    try:
        with hearing(as_json) as hear:
            outcome = stages.run(work, hear)
        state: Literal["published", "failed"] = "published" if outcome.passes else "failed"
        end = structs.replace(found, state=state, student=outcome.student, why=outcome.why)
    except (Problem, OSError) as e:
        end = structs.replace(end, why=e.say if isinstance(e, Problem) else str(e))
        raise
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise
    finally:
        _save(place, end)
        after = asyncio.run(_moved(env, end, now))
    if as_json:
        print(
            json_text({"object": "studio.run", **_plain(end), "chosen": outcome.chosen, "state_of_task": after.state})
        )
    elif outcome.passes:
        print(f"student {end.student} ({outcome.chosen}) is published: {outcome.why}")
        print(f"{asked.task} is {after.state}; see {work.of('evaluate') / 'report.md'}")
        if after.student != end.student:
            print(f"put it in place with: lilliput task promote {asked.task} {end.student}")
    else:
        print(one_line(f"nothing is published. {outcome.why}"))
        print(f"{asked.task} is {after.state}; see {work.of('evaluate') / 'report.md'}")
    return 0 if outcome.passes else 1


def listing(env: Mapping[str, str], as_json: bool) -> None:
    found = list(_runs(_home(env)))
    if as_json:
        show_json([_plain(run) for run in found], sys.stdout)
        return
    cells = [[r.id, r.task.name, r.state, str(r.rows), r.student or "-", r.why or "-"] for r in found]
    show_table(["run", "task", "state", "rows", "student", "why"], cells, sys.stdout)


def show(env: Mapping[str, str], id: str, as_json: bool) -> None:
    place = _home(env)
    found = next((run for run in _runs(place) if run.id == id), None)
    if found is None:
        raise Problem("missing", f"there is no run {id[:80]!r} here; list them with `lilliput studio list`")
    root = place.runs / found.id
    done = [m for step in stages.STEPS if (m := stages.manifest(root / step.name)) is not None]
    if as_json:
        show_json({**_plain(found), "recipe": found.recipe, "stages": done}, sys.stdout)
        return
    for name, value in (*_plain(found).items(), ("folder", root)):
        print(one_line(f"{name:<9}{value}"))
    cells = [[m.stage, f"{m.seconds:.1f}", m.content_sha256[:12], facts_in_short(m.facts)] for m in done]
    show_table(["stage", "seconds", "sha256", "facts"], cells, sys.stdout)


def needs_extra() -> None:
    """Raises Problem where the libraries that train are not installed."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        say = (
            f"students are made with libraries that are not here ({', '.join(missing)}): pip install 'lilliput[studio]'"
        )
        raise Problem("client", say, code="extra_missing")


def read_recipe(file: Path | None, sets: Sequence[str]) -> Recipe:
    """The file's, with single values set; raises Problem that names the field."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = msgspec.toml.decode(file.read_bytes())
        except msgspec.DecodeError as e:
            raise Problem("client", f"{file} is no TOML: {e}", code="usage") from None
    for each in sets:
        name, is_set, value = each.partition("=")
        if not is_set:
            raise Problem("client", f"--set {each!r} sets nothing: write NAME=VALUE, as in steps=120", code="usage")
        values[name.strip()] = [v.strip() for v in value.split(",")] if name in ("forms", "shares") else value.strip()
    try:
        return msgspec.convert(values, Recipe, strict=False)
    except msgspec.ValidationError as e:
        raise Problem("client", f"this is no recipe: {e}; it has {', '.join(Recipe.__struct_fields__)}") from None


def facts_in_short(facts: Facts) -> str:
    """The figures among a stage's facts, on a line."""
    plain = [(k, v) for k, v in facts.items() if isinstance(v, int | float | str) and "sha256" not in k and v != ""]
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plain)


# -- how far it is


@contextmanager
def hearing(as_json: bool) -> Iterator[stages.Hear]:
    """A bar with what is left on a terminal, else a line now and then; with `as_json` an object a line on stdout."""
    if as_json:
        yield _json
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[say]}", markup=False))
        title = TextColumn("{task.description:<9}", markup=False)
        with Progress(title, *columns, console=Console(file=sys.stderr)) as bars:
            yield _bars(bars)
    else:
        yield _lines()


def _json(
    stage: str,
    done: float,
    say: str,
    figures: Mapping[str, float],
    facts: Facts | None = None,
    skipped: bool = False,
) -> None:
    line = {"stage": stage, "done": round(done, 4), "say": say, **figures}
    if facts is not None:
        line |= {"facts": facts, "skipped": skipped}
    print(json_text(line), flush=True)


def _bars(bars: Any) -> stages.Hear:
    tasks: dict[str, Any] = {}

    def hear(stage: str, done: float, say: str, figures: Mapping[str, float], facts: Facts | None = None,
             skipped: bool = False) -> None:  # fmt: skip
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=1.0, say="")
        bars.update(tasks[stage], completed=done, say=one_line(_end(figures, facts, skipped) if facts else say))

    return hear


def _lines() -> stages.Hear:
    said: dict[str, float] = {}
    began: dict[str, float] = {}

    def hear(stage: str, done: float, say: str, figures: Mapping[str, float], facts: Facts | None = None,
             skipped: bool = False) -> None:  # fmt: skip
        now = time.monotonic()
        since = now - began.setdefault(stage, now)
        if facts is not None:
            print(one_line(f"{stage:<9} {_end(figures, facts, skipped)}"), file=sys.stderr, flush=True)
        elif done - said.get(stage, 0.0) >= STEP:
            said[stage] = done
            left = f", {since / done - since:.0f} s left" if since > 1 else ""
            print(one_line(f"{stage:<9} {done:.0%} {say}{left}"), file=sys.stderr, flush=True)

    return hear


def _end(figures: Mapping[str, float], facts: Facts, skipped: bool) -> str:
    how = "as before" if skipped else f"{figures.get('seconds', 0.0):.1f} s"
    return f"{how}: {facts_in_short(facts)}"[:240]


# -- rows, weights, the teacher


async def _begun(env: Mapping[str, str], place: Home, asked: Ask, recipe: Recipe) -> Run:
    """The run that waits to go on, or a new one with the rows that there are now."""
    async with home_desk(env) as desk:
        task = await desk.named(asked.task)
        lifecycle.may_train(task)
        waiting = [
            run
            for run in _runs(place)
            if run.task.name == task.name and run.recipe == recipe and run.state in ("running", "stopped")
        ]
        if waiting and not asked.fresh and asked.rows is None:
            return waiting[-1]
        rows = _imported(task, asked) if asked.rows is not None else await desk.store.rows(task.name)
        if not rows:
            say = (
                f"task {task.name!r} has no rows: capture some (`lilliput task capture {task.name}`), import a file "
                f"(`lilliput task import {task.name} FILE`), or name one with --rows"
            )
            raise Problem("client", say, code="too_little_data")
        now = desk.clock()
        stem = f"{task.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}"
        names = (stem, *(f"{stem}-{n}" for n in range(2, 100)))
        id = next(name for name in names if not (place.runs / name).exists())
        found = Run(id=id, task=task, recipe=recipe, rows=len(rows), made_at=now)
        (place.runs / id).mkdir(parents=True)
        write(place.runs / id / stages.ROWS, rows)
        _save(place, found)
        return found


def _imported(task: Task, asked: Ask) -> list[Row]:
    """The rows of a file, redacted like any other."""
    from lilliput.cli.task import _format
    from lilliput.loop.redact import Redactor
    from lilliput.studio.importing import Origin, read

    assert asked.rows is not None
    origin = Origin(task=task.name, teacher=task.teacher, consent=asked.consent or task.consent, terms=task.terms)
    rows = []
    for row in read(asked.rows, _format(asked.rows, asked.format), origin):
        redactor = Redactor()
        messages, one = redactor.redact_messages(row.messages)
        answer, two = redactor.redact(row.answer)
        rows.append(structs.replace(row, messages=messages, answer=answer, redacted=one + two))
    return rows


def _weights(name: str, place: Home) -> Path:
    from lilliput.local import weights

    found = weights.find(name, place.weights)
    if found is None:
        say = f"the weights of {name!r} are not here; fetch them with `lilliput pull {name}`"
        raise Problem("missing", say, code="weights_missing")
    return found


def _teacher(env: Mapping[str, str], config: Path | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Asks the running gateway, where answers are missing."""

    def ask(body: dict[str, Any]) -> dict[str, Any]:
        from lilliput.cli.calls import Caller
        from lilliput.cli.chat import line_to

        line = line_to(env, config, None)
        return Caller(line.address, line.key.reveal()).chat(body).body

    return ask


# -- the task's state


async def _training(env: Mapping[str, str], name: str) -> Task:
    """The task as it was, moved into training unless a student of it serves."""
    async with home_desk(env) as desk:
        task = await desk.named(name)
        if task.state not in lifecycle.SERVES:
            await desk.change(name, lambda t: lifecycle.move(t, "training"))
        return task


async def _moved(env: Mapping[str, str], run: Run, before: Task) -> Task:
    """The task after its run: a new student in shadow, else as it was; one that is live keeps its student."""
    async with home_desk(env) as desk:
        name = run.task.name
        if run.state == "published" and before.state != "live":
            return await desk.promote(name, run.student)
        return await desk.change(name, lambda t: _back(t, before))


def _back(task: Task, before: Task) -> Task:
    if task.state != "training":
        return task
    return structs.replace(task, state=before.state if before.state != "training" else "capturing", why=before.why)


# -- runs on disk


def _home(env: Mapping[str, str]) -> Home:
    from lilliput import config as configuration

    return configuration.home(env)


def _runs(place: Home) -> Iterator[Run]:
    """Oldest first."""
    found = []
    for path in place.runs.glob(f"*/{RUN}"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Run))
        except msgspec.DecodeError:
            print(f"{path} cannot be read: left out", file=sys.stderr)
    yield from sorted(found, key=lambda r: (r.made_at, r.id))


def _save(place: Home, run: Run) -> None:
    path = place.runs / run.id / RUN
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(run))
    new.replace(path)


def _plain(run: Run) -> dict[str, Any]:
    about = {"id": run.id, "task": run.task.name, "state": run.state, "rows": run.rows, "student": run.student}
    return {**about, "why": run.why}
