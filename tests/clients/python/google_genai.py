# mypy: ignore-errors
"""Google's Gen AI Python SDK at /v1beta, over providers of every dialect."""

from __future__ import annotations

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel
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
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name="weather", description="Forecast", parameters_json_schema=WEATHER),
            types.FunctionDeclaration(name="lookup"),
        ]
    )
]
played = pytest.mark.parametrize("row", PLAYED)
recorded = pytest.mark.parametrize("row", RECORDED)


class City(BaseModel):
    city: str
    people: int


def connect(key=KEY):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=BASE, timeout=60_000))


@pytest.fixture(scope="module")
def client():
    return connect()


def check_usage(usage):
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (PROMPT, CACHED)
    assert usage.candidates_token_count == OUTPUT
    assert usage.total_token_count == PROMPT + OUTPUT


def tooled(**more):
    no_loop = types.AutomaticFunctionCallingConfig(disable=True)
    return types.GenerateContentConfig(tools=TOOLS, automatic_function_calling=no_loop, **more)


@played
def test_generate(client, row):
    answer = client.models.generate_content(model=f"{row}/m", contents=HELLO)
    assert answer.text == ECHO
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    check_usage(answer.usage_metadata)


@played
def test_stream(client, row):
    chunks = list(client.models.generate_content_stream(model=f"{row}/m", contents=HELLO))
    assert "".join(c.text or "" for c in chunks) == ECHO
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    check_usage(chunks[-1].usage_metadata)


@played
def test_length(client, row):
    config = types.GenerateContentConfig(max_output_tokens=16, system_instruction="be brief")
    answer = client.models.generate_content(model=f"{row}/m", contents="w " * 40, config=config)
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS


@played
def test_chat(client, row):
    chat = client.chats.create(model=f"{row}/m")
    assert chat.send_message(HELLO).text == ECHO
    second = chat.send_message("four")
    assert second.text == "You said: four"
    assert second.usage_metadata.prompt_token_count == PROMPT + OUTPUT + 1, "the earlier turns are sent"
    assert "".join(c.text or "" for c in chat.send_message_stream("five")) == "You said: five"


@played
def test_a_round_of_tools(client, row):
    turns = [types.Content(role="user", parts=[types.Part(text=ASK_BOTH)])]
    answer = client.models.generate_content(model=f"{row}/m", contents=turns, config=tooled())
    calls = answer.function_calls
    assert [(c.name, c.args or {}) for c in calls] == [("weather", CALLED), ("lookup", {})]
    results = [
        types.Part(
            function_response=types.FunctionResponse(id=c.id, name=c.name, response={"result": f"result of {c.name}"})
        )
        for c in calls
    ]
    turns += [answer.candidates[0].content, types.Content(role="user", parts=results)]
    after = client.models.generate_content(model=f"{row}/m", contents=turns, config=tooled())
    assert "result of weather" in after.text
    assert "result of lookup" in after.text


@played
def test_functions_that_the_sdk_calls(client, row):
    asked = []

    def weather(city: str, days: int) -> str:
        """Forecast."""
        asked.append((city, days))
        return "sunny"

    config = types.GenerateContentConfig(tools=[weather])
    answer = client.models.generate_content(model=f"{row}/m", contents=ASK_WEATHER, config=config)
    assert asked == [("Oslo", 3)]
    assert "sunny" in answer.text


@played
def test_tools_streamed(client, row):
    chunks = client.models.generate_content_stream(model=f"{row}/m", contents=ASK_WEATHER, config=tooled())
    calls = [call for chunk in chunks for call in chunk.function_calls or ()]
    assert [(c.name, c.args) for c in calls] == [("weather", CALLED)]


@played
def test_a_forced_tool(client, row):
    forced = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["weather"])
    config = tooled(tool_config=types.ToolConfig(function_calling_config=forced))
    answer = client.models.generate_content(model=f"{row}/m", contents="'Rome' 5", config=config)
    assert [c.args for c in answer.function_calls] == [{"city": "Rome", "days": 5}]


@played
def test_structured_output(client, row):
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    answer = client.models.generate_content(model=f"{row}/m", contents="'Oslo' 7", config=config)
    assert answer.parsed == City(city="Oslo", people=7)


@played
def test_an_image(client, row):
    contents = ["What is it?", types.Part.from_bytes(data=PNG, mime_type="image/png")]
    assert client.models.generate_content(model=f"{row}/m", contents=contents).text == SEEN


@played
def test_thinking(client, row):
    thinking = types.ThinkingConfig(thinking_budget=1024, include_thoughts=True)
    config = types.GenerateContentConfig(thinking_config=thinking, max_output_tokens=4096)
    answer = client.models.generate_content(model=f"{row}/m", contents=HELLO, config=config)
    parts = answer.candidates[0].content.parts
    assert answer.text == ECHO
    assert [p.text for p in parts if p.thought and p.text] == ["Let me think of it."]


@recorded
def test_recorded_calls(client, row):
    answer = client.models.generate_content(model=f"{row}-whole/m", contents=HELLO, config=tooled())
    assert [[c.name, c.args or {}] for c in answer.function_calls] == calls_said(f"{row}-whole")


@recorded
def test_recorded_calls_streamed(client, row):
    chunks = client.models.generate_content_stream(model=f"{row}-stream/m", contents=HELLO, config=tooled())
    calls = [call for chunk in chunks for call in chunk.function_calls or ()]
    assert [[c.name, c.args or {}] for c in calls] == calls_said(f"{row}-stream")


@pytest.mark.parametrize("row", ["claude", "gemini"])
def test_counting_tokens(client, row):
    assert client.models.count_tokens(model=f"{row}/m", contents=HELLO).total_tokens == PROMPT


@pytest.mark.parametrize("row", ["chat", "gemini"])
def test_embeddings(client, row):
    answer = client.models.embed_content(model=f"{row}/m", contents=["a cat", "a dog"])
    assert [len(e.values) for e in answer.embeddings] == [8, 8]


def test_the_mini(client):
    config = types.GenerateContentConfig(max_output_tokens=16)
    answer = client.models.generate_content(model=MINI, contents="Say hello.", config=config)
    assert answer.text


def test_a_wrong_key():
    stranger = connect("sk-no")
    with pytest.raises(errors.ClientError) as raised:
        stranger.models.generate_content(model="gemini/m", contents=HELLO)
    assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")


def test_an_unknown_model(client):
    with pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model="nothing-like-it", contents=HELLO)
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


@played
def test_a_busy_provider(client, row):
    with pytest.raises(errors.ClientError, match="the provider is busy") as raised:
        client.models.generate_content(model=f"{row}/busy", contents=HELLO)
    assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")


@played
def test_leaving(client, row):
    before = actor("/left")
    stream = client.models.generate_content_stream(model=f"{row}/slow", contents=HELLO)
    next(stream)
    stream.close()
    wait_until_left(before)
