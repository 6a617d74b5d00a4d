# mypy: ignore-errors
"""LiteLLM as a client, by its prefixes `openai/` and `anthropic/`."""

from __future__ import annotations

import base64
import json
import os

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched
import litellm
from stage import ASK_BOTH, BASE, CACHED, CALLED, ECHO, HELLO, KEY, OUTPUT, PLAYED, PNG, PROMPT, SEEN, V1, WEATHER

litellm.telemetry = False
WAYS = {"openai": V1, "anthropic": BASE}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Forecast", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}},
]
played = pytest.mark.parametrize("row", PLAYED)
ways = pytest.mark.parametrize("way", WAYS)


def ask(way, model, text=HELLO, key=KEY, **more):
    return litellm.completion(
        model=f"{way}/{model}",
        api_base=WAYS[way],
        api_key=key,
        messages=[{"role": "user", "content": text}],
        num_retries=0,
        max_retries=0,
        max_tokens=256,
        **more,
    )


@ways
@played
def test_chat(way, row):
    answer = ask(way, f"{row}/m")
    assert answer.choices[0].message.content == ECHO
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT, OUTPUT)
    assert answer.usage.prompt_tokens_details.cached_tokens == CACHED


@ways
@played
def test_stream(way, row):
    chunks = list(ask(way, f"{row}/m", stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ECHO
    usage = next(c.usage for c in reversed(chunks) if getattr(c, "usage", None))
    assert (usage.prompt_tokens, usage.completion_tokens) == (PROMPT, OUTPUT)


@ways
@played
def test_tools(way, row):
    answer = ask(way, f"{row}/m", ASK_BOTH, tools=TOOLS)
    calls = answer.choices[0].message.tool_calls
    said = [(c.function.name, json.loads(c.function.arguments)) for c in calls]
    assert said == [("weather", CALLED), ("lookup", {})]
    assert answer.choices[0].finish_reason == "tool_calls"


@ways
@played
def test_an_image(way, row):
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    assert ask(way, f"{row}/m", parts).choices[0].message.content == SEEN


def test_embeddings():
    answer = litellm.embedding(model="openai/chat/m", input=["a cat", "a dog"], api_base=V1, api_key=KEY)
    assert [len(d["embedding"]) for d in answer.data] == [8, 8]


@ways
@pytest.mark.parametrize(
    ("model", "key", "error"),
    [
        ("chat/m", "sk-no", litellm.AuthenticationError),
        ("nothing-like-it", KEY, litellm.NotFoundError),
        ("chat/busy", KEY, litellm.RateLimitError),
    ],
)
def test_errors(way, model, key, error):
    with pytest.raises(error):
        ask(way, model, key=key)
