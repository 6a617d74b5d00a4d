"""The demonstration as a person runs it: real weights, real data, a real gateway; and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.cli.command import START, environment
from tests.local.real import weights_path

from lilliput.cli import demo

HIDDEN = "import sys; sys.modules['torch'] = None; from lilliput.cli.main import run; run()"


def home(root: Path) -> dict[str, str]:
    """A home with the default weights; temporary files inside it, so that what is left behind shows."""
    (root / "weights").symlink_to(weights_path().parent)
    (root / "tmp").mkdir()
    return environment(root, {**os.environ, "TMPDIR": str(root / "tmp"), "LILLIPUT_HOME": str(root)})


@pytest.mark.long
def test_calls_become_a_student_that_answers_calls(tmp_path: Path) -> None:
    env = home(tmp_path)
    done = subprocess.run([*START[:1], *START[3:], "demo", "loop", "--json"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["run"]["state"] == "published"
    assert 0 < found["by_student"] < found["fresh"]
    assert found["agreement"] >= 0.9
    assert found["student_ms"] < found["teacher_ms"]
    assert float(found["savings"]["saved_usd"]) > 0
    assert not list((tmp_path / "tmp").glob("lilliput-demo-*"))


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    env = home(tmp_path)
    with subprocess.Popen(
        [*START[:1], *START[3:], "demo", "loop"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith("== the studio"):
            assert running.poll() is None
        time.sleep(1)
        [place] = (tmp_path / "tmp").glob("lilliput-demo-*")
        running.send_signal(signal.SIGINT)
        running.communicate()
    assert running.returncode == 130
    assert not place.exists()
    assert str(place) not in _commands()


def test_the_calls_are_of_all_topics_and_each_is_its_own() -> None:
    head = b"Category\tText\nd\tstring\nclass\t\n\n"
    lines = [f"earn\tfirm {n} says its profit rose {'so ' * 50}" for n in range(500)] + ["ship\tports are shut"] * 9
    news = demo.items([head + "\n".join(lines).encode()])
    assert Counter(i.topic for i in news) == {"earn": demo.MOST_OF_TOPIC, "ship": 1}
    assert len({i.text for i in news}) == len(news)
    assert max(len(i.text.split()) for i in news) == demo.WORDS


def test_without_the_libraries_it_says_how_to_get_them() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", HIDDEN, "demo", "loop"]
        done = subprocess.run(command, env=environment(Path(folder)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'lilliput[studio]'" in done.stderr


def _commands() -> str:
    """What every process of this machine was started with, and its environment, as far as that may be read."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "environ").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)
