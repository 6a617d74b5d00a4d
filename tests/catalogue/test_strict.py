"""Errors that name the file, the table, the key and the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from lilliput.catalogue.rows import ModelPatch, ProviderPatch
from lilliput.catalogue.strict import fit, nearest, read_toml
from lilliput.config import Config
from lilliput.neutral import Problem

WRONG = [
    ("a table", "[servr]\nport = 1", "f.toml: the top level has no key 'servr'; did you mean 'server'?"),
    ("a key", "[server]\nprot = 1", "f.toml: [server] has no key 'prot'; did you mean 'port'?"),
    ("a key of a row", '[providers.x]\nbse = "u"', "f.toml: [providers.x] has no key 'bse'; did you mean 'base'?"),
    ("a row in quotes", '[models."a/b"]\ncontext = 1', "f.toml: [models.\"a/b\"] has no key 'context'"),
    ("nothing near", "[local]\nzzz = 1", "it takes context_tokens, memory_bytes, models, parallel, threads, warm"),
    ("a type", "[providers.x]\nbase = 1", "f.toml: [providers.x] base = 1: Expected `str | null`, got `int`"),
    ("a type at the top", "providers = 1", "f.toml: providers = 1: Expected `object`, got `int`"),
    ("a type in a table", "[providers.x.headers]\na = 1", "f.toml: [providers.x.headers] a = 1: Expected `str`"),
    ("a range", "[server]\nport = 70000", "f.toml: [server] port = 70000: Expected `int` <= 65535"),
    (
        "a word",
        '[providers.x]\ndialect = "openai"',
        "'openai'; it is one of openai_chat, azure, mistral, openai_responses",
    ),
    ("a word in a list", '[models."a/b"]\ninput = ["txt"]', "`[0]`; it is one of text, image, audio"),
    ("a price", '[models."a/b".price]\ninput = -1', 'f.toml: [models."a/b".price] input = -1: Expected `float` >= 0.0'),
    ("a price that is no number", '[models."a/b".price]\ninput = nan', "input = nan"),
    ("a price without end", '[models."a/b".price]\ninput = inf', "input = inf"),
    ("a pair", "[providers.x.clamp]\nn = [1]", "[providers.x.clamp] n = [1]: Expected `array` of length 2"),
    ("not TOML", "[server", "f.toml is not valid TOML"),
    ("twice", "[server]\nport = 1\nport = 2", "f.toml is not valid TOML"),
]


@pytest.mark.parametrize(("name", "text", "say"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong(name: str, text: str, say: str, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(text)
    with pytest.raises(Problem) as e:
        read_toml(file, Config)
    assert say in e.value.say
    assert str(file) in e.value.say
    assert len(e.value.say) < 500


UNREADABLE = [
    ("not text", b"\xff\xfe[server]", "not valid TOML"),
    ("too deep", b"x = " + b"[" * 100_000, "not valid TOML"),
    ("too large", b"#" * (5 << 20), "larger than 4 MiB"),
]


@pytest.mark.parametrize(("name", "content", "say"), UNREADABLE, ids=[u[0] for u in UNREADABLE])
def test_unreadable(name: str, content: bytes, say: str, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_bytes(content)
    with pytest.raises(Problem, match=say):
        read_toml(file, Config)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(Problem, match="cannot be read"):
            read_toml(path, Config)


def test_what_fits() -> None:
    table = {"providers": {"x": {"clamp": {"t": [0, 1]}, "force": {"a": {"b": 1}}}}, "models": {"x/y": {"title": "Y"}}}
    config = fit(table, Config, "f")
    assert config.providers == {"x": ProviderPatch(clamp={"t": (0.0, 1.0)}, force={"a": {"b": 1}})}
    assert config.models == {"x/y": ModelPatch(title="Y")}


def test_nearest_ignores_case_and_keeps_spelling() -> None:
    assert nearest("GPT-4O", ["gpt-4o", "gpt-4", "claude"]) == ["gpt-4o", "gpt-4"]
    assert nearest("x", ["gpt-4o"]) == []
