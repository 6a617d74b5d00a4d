"""Stages in order: a run that was killed, interrupted or out of disk goes on, and comes to the same student."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.studio.rows import LABELS, tickets, work

from lilliput.local.student import opened
from lilliput.neutral import Problem
from lilliput.studio import stages
from lilliput.studio.parts import Facts, Work, write

ONLY = tuple(s for s in stages.STEPS if s.name in ("collect", "label", "baseline", "evaluate", "publish"))
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.studio.test_stages import Heard, ONLY, stages, tickets, work

class Fatal(Heard):
    def __call__(self, stage, done, say, figures, facts=None, skipped=False):
        if (stage, facts) == ("baseline", None) and done > 0.3:
            os.kill(os.getpid(), signal.SIGKILL)

stages.run(work(Path(sys.argv[1]), tickets(600)), Fatal(), ONLY)
"""


class Heard:
    """Which stages ran, and which had been done before; `stop` is raised as soon as `at` begins."""

    def __init__(self, at: str = "", stop: BaseException | None = None) -> None:
        self.ran: list[str] = []
        self.skipped: list[str] = []
        self._at, self._stop = at, stop

    def __call__(
        self,
        stage: str,
        done: float,
        say: str,
        figures: Mapping[str, float],
        facts: Facts | None = None,
        skipped: bool = False,
    ) -> None:
        if stage == self._at and self._stop is not None:
            raise self._stop
        if facts is not None:
            (self.skipped if skipped else self.ran).append(stage)


def run(made: Work, heard: Heard | None = None) -> tuple[stages.Outcome, Heard]:
    heard = heard or Heard()
    return stages.run(made, heard, ONLY), heard


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, stages.Outcome]:
    """A run that nothing disturbed."""
    made = work(tmp_path_factory.mktemp("whole") / "run", tickets(600))
    return made, run(made)[0]


def hashes(outcome: stages.Outcome) -> dict[str, str]:
    return {name: m.content_sha256 for name, m in outcome.manifests.items()}


@pytest.mark.slow
def test_a_run_ends_with_a_student_and_a_second_one_does_nothing(whole: tuple[Work, stages.Outcome]) -> None:
    made, outcome = whole
    assert outcome.passes, outcome.why
    assert outcome.chosen == "baseline"
    assert opened(made.students / outcome.student).id == outcome.student
    again, heard = run(made)
    assert (heard.ran, heard.skipped) == ([], [s.name for s in ONLY])
    assert again.student == outcome.student
    assert not list(made.root.glob("*.part"))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_comes_to_the_same_hashes(tmp_path: Path, whole: tuple[Work, stages.Outcome]) -> None:
    root = tmp_path / "run"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(("src", "."))}
    died = subprocess.run([sys.executable, "-c", KILLED, str(root)], env=env, check=False)
    assert died.returncode == -signal.SIGKILL
    assert (root / "baseline.part").is_dir()
    outcome, heard = run(Work(root=root, task=whole[0].task, recipe=whole[0].recipe, students=root / "students"))
    assert heard.skipped == ["collect", "label"]
    assert hashes(outcome) == hashes(whole[1])
    assert outcome.student == whole[1].student


@pytest.mark.slow
def test_ctrl_c_and_a_full_disk_leave_what_was_done(tmp_path: Path, whole: tuple[Work, stages.Outcome]) -> None:
    made = work(tmp_path / "run", tickets(600))
    with pytest.raises(KeyboardInterrupt):
        run(made, Heard("label", KeyboardInterrupt()))
    with least_room(20_000), pytest.raises(Problem, match="the disk is full at the stage label") as caught:
        run(made)
    assert caught.value.code == "disk_full"
    outcome, heard = run(made)
    assert heard.skipped == ["collect"]
    assert hashes(outcome) == hashes(whole[1])


@pytest.mark.slow
def test_what_changed_is_made_anew_and_what_hangs_on_it(tmp_path: Path) -> None:
    made = work(tmp_path / "run", tickets(300))
    run(made)
    (made.of("baseline") / "baseline.bin").write_bytes(b"something else")
    assert run(made)[1].ran == ["baseline"]
    predicted = made.of("predict") / "baseline.test.jsonl"
    predicted.unlink()
    assert run(made)[1].ran == ["baseline"]
    stricter = structs.replace(made, task=structs.replace(made.task, alpha=0.2))
    assert run(stricter)[1].ran == ["evaluate", "publish"]
    write(made.root / "rows.jsonl", tickets(330))
    assert run(stricter)[1].ran == [s.name for s in ONLY]


def test_a_failed_gate_stops_before_publishing_and_says_what_would_pass(tmp_path: Path) -> None:
    dice = random.Random(0)
    rows = [structs.replace(r, answer=dice.choice(LABELS)) for r in tickets(300)]
    made = work(tmp_path / "run", rows)
    outcome, heard = run(made)
    assert not outcome.passes
    assert "would pass" in outcome.why
    assert "publish" not in heard.ran
    assert not list(made.students.glob("*")) if made.students.is_dir() else True


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    made = work(tmp_path / "run", tickets(300))

    class Second(Heard):
        def __call__(self, *told: Any, **more: Any) -> None:
            with pytest.raises(Problem, match="under way in another process"):
                run(made)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(made, Second())


@contextmanager
def least_room(size: int) -> Iterator[None]:
    """No file may be longer, as if the disk were full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
