"""`lilliput doctor`: each check finds what it is for, and says how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.cli.gateway import gateway, unused_port
from typer.testing import CliRunner

from lilliput.catalogue.load import load
from lilliput.catalogue.rows import ProviderPatch
from lilliput.cli import checks
from lilliput.cli.checks import Finding
from lilliput.cli.main import app
from lilliput.config import Config, Home, Server
from lilliput.store.sqlite import SqliteStore


def started(root: Path) -> Home:
    """A home after its first start."""
    done = CliRunner().invoke(app, ["key", "dev"], env={"LILLIPUT_HOME": str(root)})
    assert done.exit_code == 0
    return Home(root)


def told(found: Finding, state: str, *words: str) -> None:
    assert found.state == state
    assert all(word in found.say + found.fix for word in words), found
    assert found.fix or state == "ok"


def test_a_home_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    place = Home(tmp_path / "a" / "b")
    told(checks.home(place), "ok", "not there yet")
    assert [f.state for f in checks.keys(place)] == ["ok"]
    assert not place.root.exists()


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


HOMES: list[tuple[str, Callable[[Path], object], str]] = [
    ("a file", lambda p: p.write_text(""), "not a folder"),
    ("others may write", open_to_all, "chmod go-w"),
]


@pytest.mark.parametrize(("name", "make", "say"), HOMES, ids=[row[0] for row in HOMES])
def test_a_home_that_is_wrong(tmp_path: Path, name: str, make: Callable[[Path], object], say: str) -> None:
    make(tmp_path / "home")
    told(checks.home(Home(tmp_path / "home")), "fail", say)


def test_keys_of_a_started_home(tmp_path: Path) -> None:
    found = list(checks.keys(started(tmp_path)))
    assert [(f.check, f.state) for f in found] == [("keys", "ok"), ("local key", "ok")]
    assert found[0].say.startswith("1 not revoked")


KEYS: list[tuple[str, Callable[[Home], object], str, str]] = [
    ("pepper gone", lambda h: h.pepper_file.unlink(), "fail", "missing"),
    ("pepper exposed", lambda h: h.pepper_file.chmod(0o644), "fail", "chmod 600"),
    ("pepper of another", lambda h: h.pepper_file.write_bytes(bytes(32)), "fail", "another pepper"),
    ("pepper cut", lambda h: h.pepper_file.write_bytes(b"x"), "fail", "1 bytes"),
    ("database damaged", lambda h: h.database.write_bytes(b"no database at all" * 100), "fail", "restore"),
    ("database gone", lambda h: h.database.unlink(), "warn", "restore"),
    ("local key exposed", lambda h: h.local_key_file.chmod(0o640), "fail", "chmod 600"),
    ("local key gone", lambda h: h.local_key_file.unlink(), "warn", "lilliput key dev"),
    ("local key not one", lambda h: h.local_key_file.write_text("x"), "fail", "lilliput key dev"),
]


@pytest.mark.parametrize(("name", "spoil", "state", "say"), KEYS, ids=[row[0] for row in KEYS])
def test_keys_that_are_wrong(tmp_path: Path, name: str, spoil: Callable[[Home], object], state: str, say: str) -> None:
    place = started(tmp_path)
    spoil(place)
    worst = list(checks.keys(place))[-1]
    told(worst, state, say)


def test_checking_keys_makes_none(tmp_path: Path) -> None:
    place = started(tmp_path)
    place.pepper_file.unlink()
    place.local_key_file.unlink()
    list(checks.keys(place))
    assert list(place.keys.iterdir()) == []


def test_a_database_without_its_pepper_gets_none(tmp_path: Path) -> None:
    place = Home(tmp_path)
    asyncio.run(SqliteStore(place.database).close())
    told(next(checks.keys(place)), "fail", "pepper")
    assert not place.keys.exists()


def test_a_clock_behind_its_own_files(tmp_path: Path) -> None:
    place = started(tmp_path)
    now = time.time()
    told(checks.clock(place, now), "ok")
    os.utime(place.database, (now + 3600, now + 3600))
    told(checks.clock(place, now), "fail", "set the clock")


def test_a_free_port(tmp_path: Path) -> None:
    told(checks.port(Server(port=unused_port())), "ok", "is free")
    told(checks.port(Server(port=0)), "ok", "any free port")


def test_a_port_that_lilliput_has() -> None:
    with gateway() as script:
        told(checks.port(Server(port=int(script.base.split(":")[2].removesuffix("/v1")))), "ok", "gateway runs")


def test_a_port_that_another_program_has() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # bound, not listening: nothing answers there
        told(checks.port(Server(port=other.getsockname()[1])), "fail", "another program", "[server]")


def test_an_address_that_is_not_ours() -> None:
    told(checks.port(Server(host="192.0.2.1", port=unused_port())), "fail", "cannot listen")


def test_open_files() -> None:
    told(checks.open_files(Server(max_connections=1)), "ok")
    told(checks.open_files(Server(max_connections=1_000_000_000)), "warn", "ulimit -n")


HERE = [
    ("http://127.0.0.1:1726/v1", True),
    ("http://localhost:1726/openai/v1", True),
    ("http://[::1]:1726", True),
    ("http://0.0.0.0:1726/v1", True),
    ("http://127.8.9.1:1726/v1", True),
    ("localhost:1726/v1", True),
    ("http://127.0.0.1:11434/v1", False),
    ("http://10.1.2.3:1726/v1", False),
    ("https://api.openai.com/v1", False),
    ("http://127.0.0.1:x/v1", False),
    ("", False),
]


@pytest.mark.parametrize(("base", "here"), HERE, ids=[row[0] or "none" for row in HERE])
def test_a_base_that_leads_back(base: str, here: bool) -> None:
    assert checks.leads_to(base, Server()) is here


def circle(providers: Mapping[str, ProviderPatch], env: Mapping[str, str]) -> list[tuple[str, str]]:
    found = checks.circle(load(providers, env), Config(providers=dict(providers)), env)
    return [(f.state, f.fix) for f in found]


def test_a_circle() -> None:
    ours = "http://localhost:1726/v1"
    assert circle({}, {}) == [("ok", "")]
    (state, fix), *rest = circle({}, {"OPENAI_BASE_URL": ours})
    assert (state, rest) == ("warn", [])
    assert "unset OPENAI_BASE_URL" in fix
    by_row = {"me": ProviderPatch(base="${OPENAI_BASE_URL}", allow_private=True)}
    assert [state for state, _ in circle(by_row, {"OPENAI_BASE_URL": ours})] == ["fail", "warn"]
    assert circle(by_row, {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}) == [("ok", "")]


def test_a_key_of_ours_given_to_a_provider() -> None:
    env = {"OPENAI_API_KEY": "lil_abc", "GROQ_API_KEY": "gsk_abc"}
    found = list(checks.swapped_keys(load({}, env), env))
    assert len(found) == 1
    told(found[0], "fail", "OPENAI_API_KEY", "openai")
    assert "lil_abc" not in found[0].say + found[0].fix


def doctor(home: Path, *args: str) -> tuple[int, str]:
    env = {"LILLIPUT_HOME": str(home), "OPENAI_BASE_URL": None}
    (home / "port.toml").write_text(f"[server]\nport = {unused_port()}\n")
    file = [] if "--config" in args else ["--config", str(home / "port.toml")]
    done = CliRunner().invoke(app, ["doctor", *file, *args], env=env)
    assert done.stderr == ""
    return done.exit_code, done.stdout


def test_doctor_as_json_is_one_document(tmp_path: Path) -> None:
    started(tmp_path)
    code, out = doctor(tmp_path, "--json")
    document = json.loads(out)
    assert (code, document["ok"]) == (0, True)
    names = {f["check"] for f in document["findings"]}
    assert {"config", "home", "disk", "clock", "port", "keys", "local key", "engine", "weights"} <= names
    assert {"providers", "circle", "open files"} <= names


def test_doctor_goes_on_after_a_failure_and_exits_1(tmp_path: Path) -> None:
    place = started(tmp_path)
    place.pepper_file.chmod(0o644)
    (tmp_path / "bad.toml").write_text("[server]\nprot = 1\n")
    code, out = doctor(tmp_path, "--config", str(tmp_path / "bad.toml"))
    assert code == 1
    failed = [line.split()[1] for line in out.splitlines() if line.startswith("fail")]
    assert {"config", "keys"} <= set(failed)
    assert "chmod 600" in out
