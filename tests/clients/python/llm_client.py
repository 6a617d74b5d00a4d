# mypy: ignore-errors
"""Simon Willison's llm, the program and the library, through its extra-openai-models.yaml."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from llm.cli import cli
from stage import ECHO, HELLO, KEY, OUTPUT, PLAYED, PNG, PROMPT, SEEN, V1


def rows():
    names = [f"{row}/{name}" for row in PLAYED for name in ("m", "busy")] + ["nothing-like-it"]
    return "".join(
        f"- model_id: {name}\n  model_name: {name}\n  api_base: {V1}\n  api_key_name: lilliput\n"
        "  supports_tools: true\n  supports_schema: true\n  vision: true\n"
        for name in names
    )


@pytest.fixture
def llm(tmp_path, monkeypatch):
    """Runs the program in a folder of its own; what it printed."""
    (tmp_path / "extra-openai-models.yaml").write_text(rows())
    (tmp_path / "tools.py").write_text(
        'def weather(city: str, days: int) -> str:\n    "Forecast"\n    return city * days\n'
    )
    (tmp_path / "image.png").write_bytes(PNG)
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, key=KEY, status=0):
        (tmp_path / "keys.json").write_text(json.dumps({"lilliput": key}))
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == status, done.output
        return done.output.strip()

    return run


@pytest.mark.parametrize("row", PLAYED)
def test_prompt(llm, row):
    assert llm("-m", f"{row}/m", HELLO) == ECHO
    logged = json.loads(llm("logs", "-n", "1", "--json"))[0]
    assert (logged["input_tokens"], logged["output_tokens"]) == (PROMPT, OUTPUT)


@pytest.mark.parametrize("row", PLAYED)
def test_tools(llm, row):
    said = llm("-m", f"{row}/m", "--functions", "tools.py", "Call weather for 'ha' and 3 days.")
    assert said.endswith("The tool said: hahaha")


def test_the_rest(llm):
    assert llm("-m", "chat/m", "--no-stream", HELLO) == ECHO
    assert json.loads(llm("-m", "gemini/m", "--schema", "city, people int", "'Oslo' 7")) == {
        "city": "Oslo",
        "people": 7,
    }
    assert llm("-m", "claude/m", "-a", "image.png", "What is it?") == SEEN


def test_errors(llm):
    assert "401" in llm("-m", "chat/m", HELLO, key="sk-no", status=1)
    assert "404" in llm("-m", "nothing-like-it", HELLO, status=1)
    assert "429" in llm("-m", "chat/busy", HELLO, status=1)
