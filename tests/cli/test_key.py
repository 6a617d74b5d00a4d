"""`lilliput key`: the whole life of a key, and what must not be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command import lilliput
from typer.testing import CliRunner, Result

from lilliput.cli.main import app
from lilliput.gateway.usage_table import lifetime_s
from lilliput.neutral import Problem
from lilliput.store.keys import parse


def key(home: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["key", *args], env={"LILLIPUT_HOME": str(home)})


def listed(home: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(key(home, "list", "--json").stdout)}


def test_dev_prints_the_local_key_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    first = lilliput(home, "key", "dev")
    assert (first.returncode, first.stderr) == (0, "")
    token = first.stdout.removesuffix("\n")
    assert parse(token) is not None
    assert (home / "keys" / "local.key").stat().st_mode & 0o777 == 0o600
    assert key(home, "dev").stdout == first.stdout


def test_a_life(tmp_path: Path) -> None:
    made = key(tmp_path, "create", "--name", "ci", "--models", "openai/*, lilliput/smollm2-135m", "--expires", "30d")
    assert made.exit_code == 0
    assert parse(made.stdout.strip()) is not None
    assert "shown this once" in made.stderr
    row = listed(tmp_path)["ci"]
    assert row["state"] == "live"
    assert row["models"] == ["openai/*", "lilliput/smollm2-135m"]
    assert row["expires_at"] is not None
    table = key(tmp_path, "list").stdout
    assert made.stdout.strip() not in table
    assert "openai/*, lilliput/smollm2-135m" in table
    assert key(tmp_path, "revoke", "ci").stdout == f"key {row['id']} (ci) is revoked\n"
    assert listed(tmp_path)["ci"]["state"] == "revoked"


def test_create_as_json_tells_all_there_is(tmp_path: Path) -> None:
    made = key(tmp_path, "create", "--name", "a", "--json")
    document = json.loads(made.stdout)
    token = document.pop("key")
    assert parse(token) == document["id"]
    assert document == listed(tmp_path)["a"]
    assert made.stderr == ""


def test_revoke_as_json_is_the_row(tmp_path: Path) -> None:
    key(tmp_path, "create", "--name", "a")
    assert json.loads(key(tmp_path, "revoke", "a", "--json").stdout) == listed(tmp_path)["a"]


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    assert json.loads(key(tmp_path, "list", "--json").stdout) == []


def test_a_revoked_local_key_is_not_printed(tmp_path: Path) -> None:
    key(tmp_path, "dev")
    key(tmp_path, "revoke", "local")
    done = key(tmp_path, "dev")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "revoked" in done.stderr


FAULTS = [
    ("lifetime", ["create", "--expires", "30x"], 2, "'30x'"),
    ("name", ["create", "--name", "a\x1b[2J"], 1, "printable"),
    ("model", ["create", "--models", "*"], 1, "provider/model"),
    ("unknown key", ["revoke", "cii"], 1, "nearest: ci"),
    ("a whole secret", ["revoke", "lil_abcdefgh_secretsecretsecret"], 1, "no key has"),
]


@pytest.mark.parametrize(("name", "args", "code", "say"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_is_one_line(tmp_path: Path, name: str, args: list[str], code: int, say: str) -> None:
    key(tmp_path, "create", "--name", "ci")
    done = key(tmp_path, *args)
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert say in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert "secretsecret" not in done.stderr


LIFETIMES = [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), (" 5S ", 5)]


@pytest.mark.parametrize(("text", "seconds"), LIFETIMES)
def test_lifetimes(text: str, seconds: int) -> None:
    assert lifetime_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0d", "-1d", "1.5d", "30", "d", "1y", "1d1h", "٣d", "999999999w", "1" * 400 + "s"]
)
def test_no_lifetimes(text: str) -> None:
    with pytest.raises(Problem):
        lifetime_s(text)
