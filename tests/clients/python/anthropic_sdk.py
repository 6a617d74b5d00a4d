# mypy: ignore-errors
"""Anthropic's Python SDK at /v1/messages, over providers of every dialect."""

from __future__ import annotations

import asyncio
import base64

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from stage import (
    ASK_BOTH,
    ASK_WEATHER,
    BASE,
    CACHED,
    CALLED,
    ECHO,
    HELLO,
    KEY,
    MINI,
    OUTPUT,
    PLAYED,
    PNG,
    PROMPT,
    RECORDED,
    SEEN,
    WEATHER,
    actor,
    calls_said,
    wait_until_left,
)

TOOLS = [
    {"name": "weather", "description": "Forecast", "input_schema": WEATHER},
    {"name": "lookup", "input_schema": {"type": "object", "properties": {}}},
]
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()},
}
played = pytest.mark.parametrize("row", PLAYED)
recorded = pytest.mark.parametrize("row", RECORDED)


@pytest.fixture(scope="module")
def client():
    with Anthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=60) as made:
        yield made


def ask(row, content=HELLO, **more):
    return {
        "model": f"{row}/m",
        "max_tokens": 256,
        "messages": [{"role": "user", "content": content}],
        **more,
    }


def check_usage(usage):
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (PROMPT - CACHED, CACHED)
    assert usage.output_tokens == OUTPUT


@played
def test_message(client, row):
    answer = client.messages.create(**ask(row))
    assert [(b.type, b.text) for b in answer.content] == [("text", ECHO)]
    assert (answer.role, answer.stop_reason) == ("assistant", "end_turn")
    check_usage(answer.usage)


@played
def test_stream(client, row):
    with client.messages.stream(**ask(row, system="be brief")) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
    assert text == answer.content[0].text == ECHO
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == OUTPUT


@played
def test_raw_events(client, row):
    events = [e.type for e in client.messages.create(**ask(row), stream=True) if e.type != "ping"]
    assert events[:2] == ["message_start", "content_block_start"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@played
def test_length_and_stop(client, row):
    assert client.messages.create(**ask(row, max_tokens=2)).stop_reason == "max_tokens"
    stopped = client.messages.create(**ask(row, stop_sequences=["two"])).content[0].text.strip()
    assert stopped == (ECHO if row == "responder" else "You said: one"), "OpenAI's Responses API has no stop words"


@played
def test_a_round_of_tools(client, row):
    request = ask(row, ASK_BOTH, tools=TOOLS)
    answer = client.messages.create(**request)
    calls = [b for b in answer.content if b.type == "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert [(c.name, c.input) for c in calls] == [("weather", CALLED), ("lookup", {})]
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": f"result of {c.name}"} for c in calls]
    request["messages"] += [
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": results},
    ]
    after = client.messages.create(**request)
    assert after.content[-1].text == "The tool said: result of weather; result of lookup"


@played
def test_tools_streamed(client, row):
    with client.messages.stream(**ask(row, ASK_WEATHER, tools=TOOLS)) as stream:
        answer = stream.get_final_message()
    assert [(c.name, c.input) for c in answer.content if c.type == "tool_use"] == [("weather", CALLED)]


@played
def test_a_forced_tool(client, row):
    answer = client.messages.create(
        **ask(row, "'Rome' 5", tools=TOOLS, tool_choice={"type": "tool", "name": "weather"})
    )
    calls = [c for c in answer.content if c.type == "tool_use"]
    assert [c.input for c in calls] == [{"city": "Rome", "days": 5}]


@played
def test_an_image(client, row):
    answer = client.messages.create(**ask(row, [{"type": "text", "text": "What is it?"}, IMAGE]))
    assert answer.content[0].text == SEEN


@played
def test_thinking(client, row):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    answer = client.messages.create(**ask(row, max_tokens=4096, thinking=thinking))
    assert answer.content[-1].text == ECHO
    assert answer.content[0].type == "thinking"
    assert answer.content[0].thinking == "Let me think of it."
    assert answer.usage.output_tokens == OUTPUT + 2


@recorded
def test_recorded_calls(client, row):
    answer = client.messages.create(**ask(f"{row}-whole", tools=TOOLS))
    calls = [c for c in answer.content if c.type == "tool_use"]
    assert [[c.name, c.input] for c in calls] == calls_said(f"{row}-whole")
    assert answer.stop_reason == "tool_use"


@recorded
def test_recorded_calls_streamed(client, row):
    with client.messages.stream(**ask(f"{row}-stream", tools=TOOLS)) as stream:
        answer = stream.get_final_message()
    calls = [c for c in answer.content if c.type == "tool_use"]
    assert [[c.name, c.input] for c in calls] == calls_said(f"{row}-stream")
    assert len({c.id for c in calls}) == len(calls)


@pytest.mark.parametrize("row", ["claude", "gemini"])
def test_counting_tokens(client, row):
    request = ask(row)
    del request["max_tokens"]
    assert client.messages.count_tokens(**request).input_tokens == PROMPT


def test_the_mini(client):
    answer = client.messages.create(model=MINI, max_tokens=16, messages=[{"role": "user", "content": "Say hello."}])
    assert answer.content[0].text
    assert answer.usage.input_tokens > 0


def test_a_wrong_key():
    with (
        Anthropic(base_url=BASE, api_key="sk-no", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as raised,
    ):
        client.messages.create(**ask("claude"))
    assert raised.value.body["error"]["type"] == "authentication_error"


def test_an_unknown_model(client):
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.messages.create(**{**ask("claude"), "model": "nothing-like-it"})
    assert raised.value.body["error"]["type"] == "not_found_error"


@played
def test_a_busy_provider(client, row):
    with pytest.raises(anthropic.RateLimitError, match="the provider is busy") as raised:
        client.messages.create(**{**ask(row), "model": f"{row}/busy"})
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["type"] == "rate_limit_error"


def test_a_bad_request(client):
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**ask("claude", max_tokens=-1))


@played
def test_leaving(row):
    before = actor("/left")

    async def main():
        async with (
            AsyncAnthropic(base_url=BASE, api_key=KEY, max_retries=0) as client,
            client.messages.stream(**{**ask(row), "model": f"{row}/slow"}) as stream,
        ):
            async for _ in stream.text_stream:
                break

    asyncio.run(main())
    wait_until_left(before)
