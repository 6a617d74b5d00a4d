"""`lilliput models` and `lilliput providers`: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lilliput.catalogue.load import rows
from lilliput.cli.main import _provider_names, app
from lilliput.cli.models import dollars

MINE = """
[providers.mine]
base = "https://${MINE_HOST}/v1"
key_env = "MINE_KEY"
[models."mine/big"]
context_tokens = 1000
input = ["text", "image"]
tools = false
reasoning = true
price = { input = 0.15, output = 12.5 }
[models."mine/blank"]
"""
READY = {"MINE_HOST": "a.example", "MINE_KEY": "k-secret"}


def run(home: Path, *args: str, env: Mapping[str, str] | None = None) -> Result:
    """Run in a home with a provider of its own; keys of the caller's shell are out of the way."""
    (home / "config.toml").write_text(MINE)
    bare: dict[str, str | None] = {row.key_env: None for row in rows().values() if row.key_env}
    return CliRunner().invoke(app, list(args), env={**bare, "LILLIPUT_HOME": str(home), **(env or {})})


def test_models_are_those_of_ready_providers(tmp_path: Path) -> None:
    assert "mine/big" not in run(tmp_path, "models").stdout
    lines = run(tmp_path, "models", env=READY).stdout.splitlines()
    assert lines[0].split() == ["model", "context", "in", "$/M", "out", "$/M", "reads", "retires"]
    assert ["mine/big", "1000", "0.15", "12.50", "text,image", "-"] in [line.split() for line in lines]
    assert any(line.startswith("lilliput/smollm2-135m ") for line in lines)


def test_models_as_json_have_the_form_of_the_endpoint(tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "models", "-p", "mine", "--json", env=READY).stdout)
    assert [m["id"] for m in document] == ["mine/big", "mine/blank"]
    assert document[0]["object"] == "model"
    assert document[0]["context_window"] == 1000


def test_all_lists_models_of_providers_that_are_not_ready(tmp_path: Path) -> None:
    names = [m["id"] for m in json.loads(run(tmp_path, "models", "--all", "--json").stdout)]
    assert "openai/gpt-4o" in names
    assert "lilliput/smollm2-135m" in names
    assert names == sorted(set(names))


NONE = [
    ("misspelt", "opnai", "nearest: openai"),
    ("not ready", "mine", "MINE_KEY"),
    ("active characters", "a\x1b[2J", "lilliput providers"),
]


@pytest.mark.parametrize(("name", "provider", "say"), NONE, ids=[row[0] for row in NONE])
def test_no_models_of_a_provider_says_why(tmp_path: Path, name: str, provider: str, say: str) -> None:
    done = run(tmp_path, "models", "--provider", provider)
    assert (done.exit_code, done.stdout) == (1, "")
    assert say in done.stderr
    assert "\x1b" not in done.stderr


FILTERS = [
    ("modality", ["--modality", "audio"], lambda m: "audio" in m["input_modalities"]),
    ("price", ["--max-price", "0.1"], lambda m: float(m["pricing"]["input"]) <= 0.1),
    ("context", ["--context", "1000000"], lambda m: m["context_window"] >= 1_000_000),
    ("provider", ["--provider", "gemini"], lambda m: m["id"].startswith("gemini/")),
]


@pytest.mark.parametrize(("name", "args", "fits"), FILTERS, ids=[row[0] for row in FILTERS])
def test_a_filter_keeps_what_is_known_to_fit(
    tmp_path: Path, name: str, args: list[str], fits: Callable[[dict[str, Any]], bool]
) -> None:
    every = json.loads(run(tmp_path, "models", "--all", "--json").stdout)
    kept = json.loads(run(tmp_path, "models", "--all", "--json", *args).stdout)
    assert 0 < len(kept) < len(every)
    assert all(fits(m) for m in kept)


def test_filters_combine(tmp_path: Path) -> None:
    args = [arg for _, args, _ in FILTERS for arg in args]
    kept = json.loads(run(tmp_path, "models", "--all", "--json", *args).stdout)
    assert kept
    assert all(fits(m) for m in kept for _, _, fits in FILTERS)


def test_a_price_at_the_limit_passes_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    lines = run(tmp_path, "models", "--max-price", "0.15", env=READY).stdout
    assert "mine/big" in lines
    assert "mine/big" not in run(tmp_path, "models", "--max-price", "0.149", env=READY).stdout
    assert "mine/blank" not in lines
    assert "mine/blank" in run(tmp_path, "models", env=READY).stdout


def test_nothing_fits(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "-p", "mine", "--modality", "video", "--max-price", "1", env=READY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "none of 2 models is known to fit --modality video --max-price 1.0" in done.stderr


def test_what_a_model_can_do_is_told_where_it_is_known(tmp_path: Path) -> None:
    known = {m["id"]: m for m in json.loads(run(tmp_path, "models", "--json", env=READY).stdout)}
    assert known["mine/big"]["supports"] == {"tools": False, "reasoning": True}
    assert "supports" not in known["mine/blank"]


def test_a_modality_that_there_is_not(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "--modality", "smell")
    assert done.exit_code == 2
    assert "smell" in done.stderr


def test_provider_names_are_completed() -> None:
    assert _provider_names("op") == ["openai", "openrouter"]


def test_providers_name_what_is_missing(tmp_path: Path) -> None:
    found = {p["name"]: p for p in json.loads(run(tmp_path, "providers", "--json").stdout)}
    assert set(rows()) < set(found)
    assert (found["mine"]["ready"], found["mine"]["missing"]) == (False, ["MINE_KEY", "MINE_HOST"])
    assert (found["lilliput"]["ready"], found["lilliput"]["missing"]) == (True, [])
    found = {p["name"]: p for p in json.loads(run(tmp_path, "providers", "--json", env=READY).stdout)}
    assert (found["mine"]["ready"], found["mine"]["missing"]) == (True, [])


def test_the_table_puts_ready_providers_first_and_shows_no_key(tmp_path: Path) -> None:
    out = run(tmp_path, "providers", env=READY).stdout
    head, *lines = out.splitlines()
    marks = [line[head.index("ready") :].split()[0] for line in lines]
    assert marks == ["yes"] * 2 + ["no"] * (len(marks) - 2)
    assert "k-secret" not in out


@pytest.mark.parametrize("command", ["models", "providers"])
def test_a_wrong_configuration_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "other.toml").write_text("[providers.new]\n")
    done = run(tmp_path, command, "--config", str(tmp_path / "other.toml"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: [providers.new]")


DOLLARS = [(0, "0.00"), (150_000_000, "0.15"), (12_500_000_000, "12.50"), (1, "0.000000001"), (10**12, "1000.00")]


@pytest.mark.parametrize(("nusd", "shown"), DOLLARS)
def test_dollars_are_exact(nusd: int, shown: str) -> None:
    assert dollars(nusd) == shown
