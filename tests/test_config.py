"""The configuration file and the directories beside it. Errors of form are in tests/catalogue/test_strict.py."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lilliput.config import Config, Home, Local, Server, home, read, shown
from lilliput.neutral import Problem

FULL = """
[server]
port = 0
drain_s = 1.5
[local]
threads = 2
models = { tiny = "/tmp/tiny.gguf" }
[providers.mine]
dialect = "openai_chat"
base = "http://127.0.0.1:9400/v1"
key_env = "MINE"
allow_private = true
headers = { x-team = "canary", authorization = "Bearer ${TOKEN}" }
rename = { a = "b" }
drop = ["n"]
clamp = { temperature = [0, 1] }
force = { store = false }
[models."mine/x"]
context_tokens = 100
price = { input = 0.15, output = 0.6 }
retires_on = 2027-01-14
"""


def config(text: str, tmp_path: Path) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return read(file)


def test_no_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(None) == Config() == config("", tmp_path)
    assert (Server().host, Server().port, Server().body_limit_bytes) == ("127.0.0.1", 1726, 10 << 20)
    assert Local().context_tokens == 4096


def test_full(tmp_path: Path) -> None:
    c = config(FULL, tmp_path)
    assert (c.server.port, c.server.drain_s, c.server.workers) == (0, 1.5, 1)
    assert c.local.models == {"tiny": "/tmp/tiny.gguf"}
    assert c.providers["mine"].clamp == {"temperature": (0.0, 1.0)}
    assert c.models["mine/x"].price is not None


RANGES = [
    ("[server]\nport = -1", "port"),
    ("[server]\nport = 65536", "port"),
    ("[server]\nworkers = 0", "workers"),
    ("[server]\nbody_limit_bytes = 0", "body_limit_bytes"),
    ("[server]\nstall_timeout_s = -1", "stall_timeout_s"),
    ("[server]\nstall_timeout_s = inf", "stall_timeout_s"),
    ("[server]\nhost = 1", "host"),
    ("[local]\nthreads = -1", "threads"),
    ("[local]\ncontext_tokens = 1", "context_tokens"),
    ("[local]\nparallel = 0", "parallel"),
    ("[local]\nwarm = 1", "warm"),
    ('[local.models]\n"a/b" = "x"', "a/b"),
    ('[local.models]\n"" = "x"', "cannot be a model's name"),
]


@pytest.mark.parametrize(("text", "say"), RANGES)
def test_out_of_range(text: str, say: str, tmp_path: Path) -> None:
    with pytest.raises(Problem) as e:
        config(text, tmp_path)
    assert say in e.value.say
    assert str(tmp_path / "config.toml") in e.value.say


def test_shown_hides_header_values_and_what_is_not_set(tmp_path: Path) -> None:
    plain = shown(config(FULL, tmp_path))
    text = msgspec.json.encode(plain).decode()
    assert "canary" not in text
    assert '"x-team":"***"' in text
    assert '"authorization":"Bearer ${TOKEN}"' in text
    assert "null" not in text
    assert '"retires_on":"2027-01-14"' in text


def test_home_of_the_environment() -> None:
    h = home({"LILLIPUT_HOME": "/x/y"})
    assert h == Home(Path("/x/y"))
    places = (h.config_file, h.database, h.pepper_file, h.local_key_file, h.weights)
    told = ["config.toml", "data/lilliput.db", "keys/pepper", "keys/local.key", "weights"]
    assert [str(p.relative_to("/x/y")) for p in places] == told


def test_home_is_absolute_and_knows_the_tilde() -> None:
    assert home({"LILLIPUT_HOME": "here"}).root == Path.cwd() / "here"
    assert home({"LILLIPUT_HOME": "~/there"}).root == Path.home() / "there"


@pytest.mark.parametrize("env", [{}, {"LILLIPUT_HOME": ""}, {"LILLIPUT_HOME": " "}])
def test_home_of_the_platform(env: dict[str, str]) -> None:
    h = home(env)
    assert h.root.is_absolute()
    assert "lilliput" in h.root.parts
    assert h.config_file.name == "config.toml"
    assert h.config_file.is_absolute()


def test_every_field_has_a_sentence() -> None:
    """A field's sentence stands under it; `config.py` and `rows.py` are read as a user's reference."""
    import_root = Path(__file__).parent.parent / "src" / "lilliput"
    for file, shape in ((import_root / "config.py", Server), (import_root / "config.py", Local)):
        source = file.read_text()
        body = source[source.index(f"class {shape.__name__}(") :].split("\nclass ")[0]
        assert body.count('    """') - 1 == len(shape.__struct_fields__)
