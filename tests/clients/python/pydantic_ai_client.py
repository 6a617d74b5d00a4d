# mypy: ignore-errors
"""Pydantic AI with its OpenAI chat, OpenAI Responses, Anthropic and Google models."""

from __future__ import annotations

import pytest
from anthropic import AsyncAnthropic
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider
from stage import ASK_WEATHER, BASE, CACHED, ECHO, HELLO, KEY, OUTPUT, PLAYED, PNG, PROMPT, SEEN, V1


class City(BaseModel):
    city: str
    people: int


def chat(name, key=KEY):
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=V1, api_key=key))


def responses(name, key=KEY):
    return OpenAIResponsesModel(name, provider=OpenAIProvider(base_url=V1, api_key=key))


def messages(name, key=KEY):
    client = AsyncAnthropic(base_url=BASE, api_key=key, max_retries=0)
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


def generate(name, key=KEY):
    return GoogleModel(name, provider=GoogleProvider(base_url=BASE, api_key=key))


doors = pytest.mark.parametrize("door", [chat, responses, messages, generate])
played = pytest.mark.parametrize("row", PLAYED)


@doors
@played
async def test_run(door, row):
    result = await Agent(door(f"{row}/m")).run(HELLO)
    assert result.output == ECHO
    used = result.usage() if callable(result.usage) else result.usage
    assert (used.input_tokens, used.cache_read_tokens, used.output_tokens) == (PROMPT, CACHED, OUTPUT)


@doors
@played
async def test_stream(door, row):
    async with Agent(door(f"{row}/m")).run_stream(HELLO) as stream:
        text = "".join([piece async for piece in stream.stream_text(delta=True, debounce_by=None)])
    assert text == ECHO


@doors
@played
async def test_tools(door, row):
    agent = Agent(door(f"{row}/m"))
    asked = []

    @agent.tool_plain
    def weather(city: str, days: int) -> str:
        """Forecast."""
        asked.append((city, days))
        return "sunny"

    result = await agent.run(ASK_WEATHER)
    assert asked == [("Oslo", 3)]
    assert "sunny" in result.output


@doors
@played
async def test_structured_output(door, row):
    result = await Agent(door(f"{row}/m"), output_type=City).run("'Oslo' 7")
    assert result.output == City(city="Oslo", people=7)


@doors
@played
async def test_an_image(door, row):
    result = await Agent(door(f"{row}/m")).run(["What is it?", BinaryContent(PNG, media_type="image/png")])
    assert result.output == SEEN


@doors
@pytest.mark.parametrize(
    ("name", "key", "status"),
    [("chat/m", "sk-no", 401), ("nothing-like-it", KEY, 404), ("chat/busy", KEY, 429)],
    ids=["key", "model", "busy"],
)
async def test_errors(door, name, key, status):
    with pytest.raises(ModelHTTPError) as raised:
        await Agent(door(name, key)).run(HELLO)
    assert raised.value.status_code == status
