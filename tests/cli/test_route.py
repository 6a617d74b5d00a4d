"""`lilliput route explain`, and LiteLLM's configuration as ours."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from lilliput.cli.importing import from_litellm
from lilliput.cli.route import explain
from lilliput.neutral import Problem
from lilliput.router.routes import Route, check

ENV = {"OPENAI_API_KEY": "x", "GROQ_API_KEY": "y"}
BODY = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 100}

YAML = """
model_list:
  - model_name: fast
    litellm_params: {model: groq/llama-3.3-70b-versatile, api_key: os.environ/GROQ_API_KEY, weight: 2, tpm: 5}
  - model_name: fast
    litellm_params: {model: together_ai/meta/llama, api_key: sk-canary-123456789}
  - model_name: big
    litellm_params: {model: gpt-4o, api_base: "https://eu.example.org/v1", api_key: os.environ/EU_KEY}
  - {model_name: "x/*", litellm_params: {model: "openai/*"}}
router_settings:
  routing_strategy: latency-based-routing
  fallbacks: [{fast: [big]}]
  model_group_alias: {gpt-4: big}
  num_retries: 2
litellm_settings: {drop_params: true}
"""


def run(tmp_path: Path, body: dict[str, object]) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(body))
    explain({**ENV, "LILLIPUT_HOME": str(tmp_path)}, None, str(file), True)


def test_explain_shows_the_plan_and_its_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, BODY)
    told = json.loads(capsys.readouterr().out)
    assert [p["deployment"] for p in told["plan"]] == ["openai/gpt-4o-mini"]
    assert float(told["plan"][0]["cost_usd"]) > 0
    assert 0 < told["difficulty"] < 1


def test_explain_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="zdr"):
        run(tmp_path, {**BODY, "provider": {"zdr": True}})
    with pytest.raises(Problem, match="no key 'sot'"):
        run(tmp_path, {**BODY, "provider": {"sot": "price"}})
    with pytest.raises(Problem, match="chat request"):
        run(tmp_path, {"messages": []})


def test_litellm_is_imported_without_its_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(YAML)
    from_litellm(file)
    out, err = capsys.readouterr()
    assert "canary" not in out + err
    table = tomllib.loads(out)
    routes = msgspec.convert(table["routes"], dict[str, Route])
    check(routes, table["aliases"])
    assert [(d.model, d.priority) for d in routes["fast"].deployments] == [
        ("groq/llama-3.3-70b-versatile", 0),
        ("together/meta/llama", 0),
        ("openai-1/gpt-4o", 1),
    ]
    assert (routes["fast"].policy, routes["big"].policy) == ("priority", "fastest")
    assert table["providers"]["openai-1"] == {"base": "https://eu.example.org/v1", "key_env": "EU_KEY"}
    for word in ("tpm", "api_key", "x/*", "num_retries", "litellm_settings"):
        assert word in out


@pytest.mark.parametrize("text", ["[]", "a: b", "model_list: [1]", "{", "model_list: !!python/object:os.system {}"])
def test_what_is_no_configuration_is_said(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(Problem):
        from_litellm(file)
