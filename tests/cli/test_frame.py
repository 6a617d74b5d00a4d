"""The outermost frame: how every command ends."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from tests.cli.command import START, environment, lilliput

import lilliput as package


def test_version(tmp_path: Path) -> None:
    assert lilliput(tmp_path, "--version").stdout == f"lilliput {package.__version__}\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = lilliput(tmp_path, "--help").stdout
    commands = {"serve", "chat", "models", "providers", "key", "pull", "doctor", "config"}
    assert commands <= set(re.findall(r"^  (\w+)  ", shown, re.MULTILINE))
    assert "--install-completion" in shown


def test_completion_is_typers_own(tmp_path: Path) -> None:
    env = {"_LILLIPUT_COMPLETE": "complete_bash", "COMP_WORDS": "lilliput key re", "COMP_CWORD": "2"}
    assert lilliput(tmp_path, env=env).stdout.split() == ["revoke"]


USAGE = [
    ("no such command", ["modles"]),
    ("no such option", ["models", "--jsn"]),
    ("not a number", ["serve", "--port", "x"]),
    ("out of range", ["serve", "--port", "70000"]),
    ("no argument", ["key", "revoke"]),
]


@pytest.mark.parametrize(("name", "args"), USAGE, ids=[row[0] for row in USAGE])
def test_wrong_usage_exits_2(tmp_path: Path, name: str, args: list[str]) -> None:
    done = lilliput(tmp_path, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_problem_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[server]\nprot = 1\n")
    done = lilliput(tmp_path, "config", "show")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*config\.toml.*'prot'.*port.*\n", done.stderr)


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = lilliput(tmp_path / "file" / "home", "key", "dev")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*\n", done.stderr)


@pytest.mark.parametrize("args", [["config", "show"], ["--help"], ["key", "dev"]], ids=" ".join)
def test_a_closed_pipe_is_quiet(tmp_path: Path, args: list[str]) -> None:
    with subprocess.Popen(
        [*START, *args], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 1


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*START, "config", "show"], env=environment(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode != 0
    assert done.stderr.startswith("error: No space left")
    assert "Traceback" not in done.stderr


def test_letters_that_the_terminal_lacks_do_not_end_a_command(tmp_path: Path) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    assert lilliput(tmp_path, "key", "create", "--name", "é", env=env).returncode == 0
    assert " ?  " in lilliput(tmp_path, "key", "list", env=env).stdout


def test_config_show_is_the_file_that_was_read(tmp_path: Path) -> None:
    written = """
    server.port = 99
    [providers.mine]
    base = "https://a.example/v1"
    headers = { "x-secret" = "hidden", "x-ref" = "${MINE}" }
    drop = ["logprobs"]
    [local.models]
    "a.b" = "/x.gguf"
    """
    (tmp_path / "other.toml").write_text(written)
    shown = lilliput(tmp_path, "config", "show", "--config", str(tmp_path / "other.toml")).stdout
    assert "hidden" not in shown
    table = tomllib.loads(shown)
    assert table["server"]["port"] == 99
    assert table["local"]["models"] == {"a.b": "/x.gguf"}
    assert table["providers"]["mine"]["headers"]["x-ref"] == "${MINE}"
    as_json = json.loads(
        lilliput(tmp_path, "config", "show", "--config", str(tmp_path / "other.toml"), "--json").stdout
    )
    assert filled(as_json) == table


def filled(table: dict[str, object]) -> dict[str, object]:
    """The table without empty tables, which dotted keys cannot show."""
    deep = {k: filled(v) if isinstance(v, dict) else v for k, v in table.items()}
    return {k: v for k, v in deep.items() if v != {}}


def test_config_path_is_in_the_home(tmp_path: Path) -> None:
    assert lilliput(tmp_path, "config", "path").stdout == f"{tmp_path}/config.toml\n"
