"""Which moves a task may make, and what it is made of."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from msgspec import structs
from tests.store.tasks_contract import task

from lilliput.loop import lifecycle
from lilliput.loop.declare import Declared, declared, read
from lilliput.neutral import Problem
from lilliput.tasks import Scorer, State, Task

STATES: tuple[State, ...] = get_args(State)


def ready(state: State, **more: Any) -> Task:
    """A task that lacks nothing."""
    return task(state=state, **{"keys": ("k1",), "consent": "yes", "student": "s1", **more})


def refused(run: Any, status: int = 409) -> Problem:
    with pytest.raises(Problem) as e:
        run()
    assert e.value.status == status
    return e.value


@pytest.mark.parametrize("state", STATES)
def test_a_move_is_allowed_or_names_those_that_are(state: State) -> None:
    assert set(lifecycle.MOVES) == set(STATES)
    for to in STATES:
        if to == state or to in lifecycle.MOVES[state]:
            assert lifecycle.move(ready(state), to, "because").state == to
        else:
            problem = refused(lambda to=to: lifecycle.move(ready(state), to))
            assert problem.code == "task_state"
            assert ", ".join(lifecycle.MOVES[state]) in problem.say


def test_only_a_student_that_was_in_shadow_goes_live() -> None:
    assert [s for s in STATES if "live" in lifecycle.MOVES[s]] == ["shadow", "paused"]
    for state in ("off", "capturing", "training"):
        assert lifecycle.promote(task(state=state, keys=("k",), consent="c"), "s1").state == "shadow"
        refused(lambda state=state: lifecycle.promote(task(state=state), "s1", live=True))
    assert lifecycle.promote(ready("live"), "s2", live=True).before == ("s1",)
    again = lifecycle.promote(ready("shadow", before=("s2", "s0")), "s2")
    assert (again.student, again.before) == ("s2", ("s1", "s0"))
    assert lifecycle.promote(again, "s2", live=True).before == again.before


@pytest.mark.parametrize("to", ["shadow", "live"])
def test_a_state_with_a_student_needs_one(to: State) -> None:
    assert refused(lambda: lifecycle.move(ready("paused", student=None), to)).code == "student_missing"


@pytest.mark.parametrize("lack", [{"keys": ()}, {"consent": " "}])
def test_nothing_is_captured_without_key_and_consent(lack: dict[str, Any]) -> None:
    assert refused(lambda: lifecycle.move(ready("off", **lack), "capturing")).code == "consent_missing"


def test_consent_belongs_to_whoever_gave_it() -> None:
    one = lifecycle.capture(task(), "k1", " I agree ", "allowed")
    assert (one.state, one.keys, one.consent, one.terms) == ("capturing", ("k1",), "I agree", "allowed")
    two = lifecycle.capture(structs.replace(one, state="live", student="s"), "k2")
    assert (two.state, two.keys, two.consent) == ("live", ("k1", "k2"), "I agree")
    assert refused(lambda: lifecycle.capture(two, "k3", "another")).code == "consent_differs"
    assert lifecycle.capture(one, "k1", "another").consent == "another"
    assert refused(lambda: lifecycle.capture(task(), "k1", " "), 400).param == "consent"
    assert lifecycle.capture(task(), None, override="legal says yes").state == "off"


def test_terms_that_forbid_training_are_kept_to_unless_a_person_writes_otherwise() -> None:
    forbidden = ready("capturing", terms="forbidden")
    assert refused(lambda: lifecycle.move(forbidden, "training"), 403).code == "terms_forbidden"
    allowed = lifecycle.capture(forbidden, None, override="A. Person, in writing")
    assert lifecycle.move(allowed, "training").state == "training"
    assert lifecycle.move(ready("capturing", terms="unknown"), "training").state == "training"


def test_rollback_and_resume() -> None:
    back = lifecycle.rollback(ready("live", before=("s0",)))
    assert (back.state, back.student, back.before, back.why) == ("live", "s0", (), "rolled back from s1")
    none = lifecycle.rollback(back)
    assert (none.state, none.student) == ("capturing", None)
    assert lifecycle.rollback(ready("live", keys=())).state == "paused"
    refused(lambda: lifecycle.rollback(none))
    assert lifecycle.resume(ready("paused", why="demoted")).state == "shadow"
    assert lifecycle.resume(ready("paused", student=None)).state == "capturing"
    assert lifecycle.resume(task(state="paused")).state == "off"
    refused(lambda: lifecycle.resume(ready("live")))


def test_what_learned_from_erased_rows_is_taken_away() -> None:
    bad = frozenset({"s1", "s0"})
    got = lifecycle.withdraw(ready("live", before=("s0", "sx")), "erased", key="k2", students=bad)
    assert (got.state, got.student, got.before, got.why) == ("capturing", None, ("sx",), "erased")
    got = lifecycle.withdraw(ready("shadow"), "erased", key="k1", students=bad)
    assert (got.state, got.keys) == ("paused", ())
    other = ready("live", student="s9")
    assert lifecycle.withdraw(other, "erased", key="k2", students=bad) == other
    assert lifecycle.withdraw(ready("capturing"), "erased", key="k1").state == "paused"
    assert lifecycle.withdraw(ready("paused", why="mine"), "erased", students=bad).why == "mine"


GOOD = {"name": "sort-1", "teacher": "p/m", "kind": "label", "labels": ["a", "b"]}
ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}}}
BAD = [
    ("name", {"name": "Sort"}),
    ("name", {"name": "a/b"}),
    ("name", {"name": "x" * 65}),
    ("teacher", {"teacher": ""}),
    ("teacher", {"teacher": "task/other"}),
    ("labels", {"labels": ["a"]}),
    ("labels", {"labels": ["a", "a "]}),
    ("labels", {"labels": ["a", ""]}),
    ("labels", {"labels": [str(n) for n in range(53)]}),
    ("labels", {"kind": "text"}),
    ("schema", {"schema": ADDRESS}),
    ("schema", {"kind": "extract", "labels": []}),
    ("schema", {"kind": "extract", "labels": [], "schema": {"type": "object", "properties": {}}}),
    ("alpha", {"alpha": 0.0}),
    ("delta", {"delta": 0.6}),
    ("sample", {"sample": float("1.01")}),
    ("audit_share", {"audit_share": -0.1}),
    ("retention_days", {"retention_days": 0}),
    ("scorer", {"scorer": {"by": "judge"}}),
    ("scorer", {"scorer": {"by": "pattern", "pattern": "("}}),
    ("scorer", {"scorer": {"by": "pattern"}}),
    (None, {"labelz": 1}),
    (None, {"kind": "poem"}),
]


@pytest.mark.parametrize(("field", "change"), BAD)
def test_what_is_no_task_is_refused_by_field(field: str | None, change: dict[str, Any]) -> None:
    problem = refused(lambda: declared(read(msgspec.json.encode({**GOOD, **change})), 5.0), 400)
    assert (problem.param, problem.code) == (field, "invalid_value")


def test_the_scorer_is_the_kind_s() -> None:
    made = declared(Declared(name="a", teacher="m", kind="label", labels=("x", "y")), 5.0)
    assert (made.scorer, made.state, made.made_at, made.alpha) == (Scorer(), "off", 5.0, 0.05)
    made = declared(Declared(name="a", teacher="m", kind="extract", schema=ADDRESS, alpha=0.1), 5.0)
    assert (made.scorer.by, made.alpha, bytes(made.schema or b"")[:16]) == ("fields", 0.1, b'{"type":"object"')
    assert declared(Declared(name="a", teacher="m", kind="text"), 5.0).scorer.by == "f1"
