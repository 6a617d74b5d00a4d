"""`lilliput pull` as a person or a script sees it; how bytes travel is tested beside `local`."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lilliput.cli import checks
from lilliput.cli.main import app
from lilliput.cli.pull import MIB, progress
from lilliput.config import Config, Home, Local


def pull(home: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["pull", *args], env={"LILLIPUT_HOME": str(home)})


def smallest(path: Path) -> Path:
    """A sound GGUF file with a header and nothing else."""
    key, value = b"general.architecture", b"llama"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    path.write_bytes(head + struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value)
    return path


def test_a_file_is_used_where_it_lies(tmp_path: Path) -> None:
    file = smallest(tmp_path / "own.gguf")
    done = pull(tmp_path, str(file))
    assert (done.exit_code, done.stderr) == (0, "")
    assert str(file) in done.stdout


def test_json_is_one_document(tmp_path: Path) -> None:
    file = smallest(tmp_path / "own.gguf")
    done = pull(tmp_path, str(file), "--json")
    document = {"name": str(file), "path": str(file), "size_bytes": file.stat().st_size, "sha256": None}
    assert json.loads(done.stdout) == document
    assert done.stderr == ""


FAULTS = [
    ("misspelt", "smollm2-135n", "nearest: smollm2-135m"),
    ("as the catalogue calls it, misspelt", "lilliput/smollm2-135n", "no weights are called 'smollm2-135n'"),
    ("no file", "./none.gguf", "no file"),
    ("no hub id", "hf:owner", "hf:owner/repo/file.gguf"),
    ("active characters", "a\x1b[2J", "no weights"),
]


@pytest.mark.parametrize(("name", "weights", "say"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_is_one_line(tmp_path: Path, name: str, weights: str, say: str) -> None:
    done = pull(tmp_path, weights)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert say in done.stderr
    assert "\x1b" not in done.stderr


def test_progress_without_a_terminal_is_a_line_every_tenth() -> None:
    err = io.StringIO()
    with progress("m\x1b", err) as tell:
        for done in range(0, 100 * MIB + 1, MIB // 2):
            tell(done, 100 * MIB)
    lines = err.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0] == "m: 0 of 100 MiB (0 %)"
    assert lines[-1] == "m: 100 of 100 MiB (100 %)"


def test_progress_of_an_unknown_length_does_not_divide_by_it() -> None:
    err = io.StringIO()
    with progress("m", err) as tell:
        tell(MIB, 0)
        tell(2 * MIB, 0)
    assert err.getvalue().count("\n") == 1


def test_progress_on_a_terminal_is_a_bar_and_takes_no_markup_from_a_name() -> None:
    err = io.StringIO()
    with progress("[red]m", err, terminal=True) as tell:
        tell(MIB, 2 * MIB)
        tell(2 * MIB, 2 * MIB)
    assert "[red]m" in err.getvalue()
    assert "2.0/2.0 MiB" in err.getvalue()


def test_quiet_progress_says_nothing() -> None:
    err = io.StringIO()
    with progress("m", err, quiet=True) as tell:
        tell(1, 1)
    assert err.getvalue() == ""


def found(home: Path, *names: str) -> list[tuple[str, str]]:
    config = Config(local=Local(models={f"m{i}": name for i, name in enumerate(names)}))
    return [(f.state, f.fix) for f in checks.weights(Home(home), config)]


def test_doctor_looks_at_every_model_that_runs_here(tmp_path: Path) -> None:
    own = smallest(tmp_path / "own.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    rows = found(tmp_path, str(own), str(broken), "smollm2-135n", "smollm2-135m")
    assert [state for state, _ in rows] == ["warn", "ok", "fail", "fail"]
    assert rows[0][1] == "`lilliput pull smollm2-135m`"


def test_doctor_hashes_what_a_hub_sent(tmp_path: Path) -> None:
    name, place = "hf:owner/repo/file.gguf", Home(tmp_path)
    place.weights.mkdir()
    file = smallest(place.weights / "owner--repo--file.gguf")
    pin = file.with_name(f"{file.name}.sha256")
    pin.write_text("0" * 64)
    assert found(tmp_path, name)[1][0] == "fail"
    pin.write_text(hashlib.sha256(file.read_bytes()).hexdigest())
    assert found(tmp_path, name)[1] == ("ok", "")
