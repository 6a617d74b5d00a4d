"""`lilliput providers test`: one call by the gateway's own way, told so that a person knows what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.gateway import Answer, gateway, unused_port
from tests.live import link_weights
from typer.testing import CliRunner, Result

from lilliput.catalogue.load import load, rows
from lilliput.cli.main import app
from lilliput.cli.probe import cheapest
from lilliput.config import home

KEYS = {row.key_env: "k-secret" for row in rows().values() if row.key_env}
BARE: dict[str, str | None] = dict.fromkeys(KEYS)


def run(home: Path, config: str, *args: str, **env: str) -> Result:
    (home / "config.toml").write_text(config)
    return CliRunner().invoke(app, ["providers", "test", *args], env={**BARE, "LILLIPUT_HOME": str(home), **env})


def row(base: str, **more: str) -> str:
    lines = {"base": base, "key_env": "MINE_KEY", **more}
    told = "\n".join(f'{name} = "{value}"' for name, value in lines.items())
    return f"""
[providers.mine]
allow_private = true
{told}
[models."mine/big"]
price = {{ input = 3, output = 30 }}
[models."mine/small"]
price = {{ input = 1, output = 2 }}
"""


def chat(status: int = 200, **fields: Any) -> Answer:
    body = {
        "id": "c1",
        "model": "small-0711",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
    }
    return Answer((json.dumps(fields or body).encode(),), status=status)


def test_the_cheapest_model_is_asked_and_what_came_back_is_told(tmp_path: Path) -> None:
    with gateway(chat()) as script:
        done = run(tmp_path, row(script.base), "mine", "--json", MINE_KEY="k-secret")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("seconds") >= 0
    assert told == {
        "provider": "mine",
        "model": "mine/small",
        "answered": "small-0711",
        "prompt_tokens": 8,
        "completion_tokens": 2,
        "cost_usd": "0.000012",
        "said": "pong",
    }
    assert script.keys == ["Bearer k-secret"]
    assert script.asked == [{"model": "small", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 16}]


@pytest.mark.parametrize("name", ["big", "mine/big"])
def test_a_model_may_be_said(tmp_path: Path, name: str) -> None:
    with gateway(chat()) as script:
        done = run(tmp_path, row(script.base), "mine", "--model", name, MINE_KEY="k-secret")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("mine/big answered in ")
    assert "as small-0711: 8 tokens in, 2 out, $0.000084" in done.stdout
    assert script.asked[0]["model"] == "big"


def test_another_dialect_is_asked_in_its_own_words(tmp_path: Path) -> None:
    body: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "pong"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 8, "output_tokens": 2},
    }
    with gateway(chat(**body)) as script:
        config = row(script.base.removesuffix("/v1"), dialect="anthropic")
        done = run(tmp_path, config, "mine", "--json", MINE_KEY="k")
    assert json.loads(done.stdout)["said"] == "pong", done.stderr
    assert script.asked[0]["max_tokens"] == 16


def test_a_provider_without_chat_is_asked_for_a_vector(tmp_path: Path) -> None:
    vectors = [{"index": 0, "embedding": [0.5]}]
    body: dict[str, Any] = {"object": "list", "data": vectors, "model": "v", "usage": {"total_tokens": 1}}
    with gateway(chat(**body)) as script:
        done = run(tmp_path, row(script.base, dialect="voyage"), "mine", "--json", MINE_KEY="k")
    told = json.loads(done.stdout)
    assert (told["prompt_tokens"], told["completion_tokens"], told["said"]) == (1, 0, "")
    assert script.asked[0]["input"] == ["ping"]


FAILURES = [
    ("a refused key", chat(401, error={"message": "bad key"}), "check the key in MINE_KEY"),
    ("an unknown model", chat(404, error={"message": "no such model"}), "another model with --model"),
    ("an error in a success", chat(error={"message": "overloaded"}), "overloaded"),
    ("no answer at all", chat(200, hello="x"), "mine/small: "),
    ("a redirect", chat(302, hello="x"), "redirects are not followed"),
]


@pytest.mark.parametrize(("name", "answer", "say"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failure_says_what_to_do(tmp_path: Path, name: str, answer: Answer, say: str) -> None:
    with gateway(answer) as script:
        done = run(tmp_path, row(script.base), "mine", MINE_KEY="k-secret")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: mine/small: ")
    assert say in done.stderr
    assert "k-secret" not in done.stderr


def test_nobody_there(tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{unused_port()}/v1"
    done = run(tmp_path, row(base), "mine", MINE_KEY="k")
    assert done.exit_code == 1
    assert f"its base {base}" in done.stderr


def test_a_private_address_needs_leave(tmp_path: Path) -> None:
    with gateway() as script:
        config = row(script.base).replace("allow_private = true", "")
        done = run(tmp_path, config, "mine", MINE_KEY="k")
    assert done.exit_code == 1
    assert "allow_private" in done.stderr


REFUSED = [
    ("unknown", ["mne"], {}, 1, "nearest: mine"),
    ("not ready", ["mine"], {}, 1, "MINE_KEY"),
    ("no model known", ["stepfun"], {"STEPFUN_API_KEY": "k"}, 2, "--model"),
    ("neither chat nor vectors", ["deepgram", "--model", "nova-3"], {"DEEPGRAM_API_KEY": "k"}, 1, "neither chat"),
]


@pytest.mark.parametrize(("name", "args", "env", "status", "say"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_before_a_call(
    tmp_path: Path, name: str, args: list[str], env: dict[str, str], status: int, say: str
) -> None:
    done = run(tmp_path, row("http://127.0.0.1:1/v1"), *args, **env)
    assert (done.exit_code, done.stdout) == (status, "")
    assert say in done.stderr


def test_the_listing_s_options_do_not_pass_in_silence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["providers", "--json", "test", "x"], env={"LILLIPUT_HOME": str(tmp_path)})
    assert done.exit_code == 2
    assert "after it" in done.stderr


def test_the_cheapest_is_one_that_chats() -> None:
    catalogue = load({}, KEYS)
    for name in ("openai", "anthropic", "gemini", "groq", "mistral", "doubleword", "cohere"):
        found = cheapest(catalogue, name)
        assert found is not None, name
        assert not any(word in found.id.lower() for word in ("embed", "whisper", "rerank", "tts")), found.id
    assert cheapest(catalogue, "stepfun") is None


@pytest.mark.slow
def test_the_model_on_this_machine_answers(tmp_path: Path) -> None:
    link_weights(home({"LILLIPUT_HOME": str(tmp_path)}).weights)
    done = run(tmp_path, "", "lilliput", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["model"], told["cost_usd"]) == ("lilliput/smollm2-135m", "0.00")
    assert told["said"]
