"""From which state a task may go to which, and what each asks for. Pure: whoever calls stores what comes out.

off -> capturing -> training -> shadow -> live -> paused is the way; the table below is all of them.
"""

from __future__ import annotations

from msgspec import structs

from lilliput.neutral import Problem
from lilliput.tasks import State, Task, Terms

MOVES: dict[State, tuple[State, ...]] = {
    "off": ("capturing", "training", "shadow", "paused"),
    "capturing": ("off", "training", "shadow", "paused"),
    "training": ("capturing", "shadow", "paused"),
    "shadow": ("capturing", "training", "live", "paused"),
    "live": ("capturing", "training", "shadow", "paused"),
    "paused": ("off", "capturing", "training", "shadow", "live"),
}
"""A student is measured in shadow before it goes live; imported rows can be trained on without capturing."""
CAPTURES: frozenset[State] = frozenset(("capturing", "training", "shadow", "live"))
"""States in which the answers to the task's keys become rows."""
SERVES: frozenset[State] = frozenset(("shadow", "live"))
"""States that have a student."""


def move(task: Task, to: State, why: str = "") -> Task:
    """The task in its next state; raises Problem: 409 for a move that there is not (naming those that there are) or a
    state that lacks something, 403 for training that the teacher's terms forbid."""
    if to != task.state and to not in MOVES[task.state]:
        ways = ", ".join(MOVES[task.state])
        say = f"task {task.name!r} is {task.state}, from where it cannot go to {to}; it can go to {ways}"
        raise Problem("client", say, 409, code="task_state", param="to")
    if to == "capturing" and not may_capture(task):
        say = (
            f"task {task.name!r} may capture nothing yet: say whose calls, and by which consent "
            f'(`lilliput task capture {task.name} --key KEY --consent "..."`)'
        )
        raise Problem("client", say, 409, code="consent_missing")
    if to == "training":
        may_train(task)
    if to in SERVES and task.student is None:
        say = f"task {task.name!r} has no student to go {to} with: `lilliput task promote {task.name} STUDENT`"
        raise Problem("client", say, 409, code="student_missing")
    return structs.replace(task, state=to, why=why)


def may_capture(task: Task) -> bool:
    return bool(task.keys and task.consent.strip())


def may_train(task: Task) -> None:
    """Raises Problem (403) where the teacher's terms forbid it and nobody has answered for it in writing."""
    if task.terms == "forbidden" and not task.override.strip():
        say = (
            f"the terms of {task.teacher!r} forbid training from its answers: name another teacher, or answer for it "
            f'in writing (`lilliput task capture {task.name} --override "who allows it, and why"`)'
        )
        raise Problem("permission", say, code="terms_forbidden", param="override")


def capture(
    task: Task,
    key: str | None,
    consent: str | None = None,
    terms: Terms | None = None,
    override: str | None = None,
) -> Task:
    """The task with this key's calls captured too, by this consent; without a key only terms and override change.

    A row carries the consent that its task has, so a text that replaces another's is refused (409).
    """
    text = (consent or "").strip()
    if text and task.consent and text != task.consent and set(task.keys) - {key}:
        say = (
            f"task {task.name!r} captures {', '.join(task.keys)} by another consent ({task.consent[:80]!r}): give the "
            "same text, or make a task of its own for this key"
        )
        raise Problem("client", say, 409, code="consent_differs", param="consent")
    task = structs.replace(
        task,
        keys=tuple(dict.fromkeys((*task.keys, key))) if key else task.keys,
        consent=text or task.consent,
        terms=terms or task.terms,
        override=task.override if override is None else override.strip(),
    )
    if not key:
        return task
    if not task.consent:
        say = "nothing is captured without consent: add --consent with the text that the people concerned agreed to"
        raise Problem("client", say, code="consent_missing", param="consent")
    return move(task, task.state if task.state in CAPTURES else "capturing")


def promote(task: Task, student: str, *, live: bool = False) -> Task:
    """The task with this student in place: in shadow, or live at once where it had been in shadow before."""
    before = task.before if task.student in (None, student) else (str(task.student), *task.before)
    task = structs.replace(task, student=student, before=tuple(id for id in before if id != student))
    return move(task, "live" if live else "shadow")


def rollback(task: Task) -> Task:
    """The task with the student before this one, in the same state; with none, back to its teacher."""
    if task.student is None:
        raise Problem("client", f"task {task.name!r} has no student to take back", 409, code="student_missing")
    why = f"rolled back from {task.student}"
    first, rest = (task.before[0], task.before[1:]) if task.before else (None, ())
    task = structs.replace(task, student=first, before=rest)
    if first is None and task.state in SERVES:
        return rest_state(task, why)
    return structs.replace(task, why=why)


def resume(task: Task) -> Task:
    """A paused task as it may go on: its student is measured in shadow first; without one it captures, or is off."""
    if task.state != "paused":
        raise Problem("client", f"task {task.name!r} is {task.state}, not paused", 409, code="task_state")
    return move(task, "shadow") if task.student is not None else rest_state(task, "")


def withdraw(task: Task, why: str, *, key: str | None = None, students: frozenset[str] = frozenset()) -> Task:
    """The task without a key whose rows were erased, and without the students that had learned from what was erased."""
    lost = task.student in students
    task = structs.replace(
        task,
        keys=tuple(k for k in task.keys if k != key),
        student=None if lost else task.student,
        before=tuple(id for id in task.before if id not in students),
    )
    if lost and task.state in SERVES:
        return rest_state(task, why)
    if task.state in ("capturing", "training") and not may_capture(task):
        return structs.replace(task, state="paused", why=why)
    return task


def rest_state(task: Task, why: str) -> Task:
    """Where a task without a student is: it captures when it may, else it is paused for a reason or off."""
    state: State = "capturing" if may_capture(task) else "paused" if why else "off"
    return structs.replace(task, state=state, why=why)
