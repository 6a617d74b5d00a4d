# mypy: ignore-errors
"""OpenAI's Python SDK: chat completions and Responses over providers of every dialect, embeddings, errors."""

from __future__ import annotations

import asyncio
import base64
import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from stage import (
    ASK_BOTH,
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
    V1,
    WEATHER,
    WORLD,
    actor,
    calls_said,
    wait_until_left,
)

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Forecast", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}},
]
FLAT = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]
DATA_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
played = pytest.mark.parametrize("row", PLAYED)
recorded = pytest.mark.parametrize("row", RECORDED)


class City(BaseModel):
    city: str
    people: int


@pytest.fixture(scope="module")
def client():
    with OpenAI(base_url=V1, api_key=KEY, max_retries=0, timeout=60) as made:
        yield made


def ask(text=HELLO):
    return [{"role": "user", "content": text}]


@played
def test_chat(client, row):
    answer = client.chat.completions.create(model=f"{row}/m", messages=ask())
    assert answer.choices[0].message.content == ECHO
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT, OUTPUT)
    assert answer.usage.prompt_tokens_details.cached_tokens == CACHED


@played
def test_stream(client, row):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=f"{row}/m", messages=ask(), stream=True, stream_options=options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ECHO
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (PROMPT, OUTPUT)


@played
def test_length(client, row):
    answer = client.chat.completions.create(model=f"{row}/m", messages=ask(), max_tokens=2)
    assert answer.choices[0].message.content == "You said:"
    assert answer.choices[0].finish_reason == "length"


@played
def test_a_round_of_tools(client, row):
    messages = ask(ASK_BOTH)
    answer = client.chat.completions.create(model=f"{row}/m", messages=messages, tools=TOOLS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls] == [
        ("weather", CALLED),
        ("lookup", {}),
    ]
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result of {call.function.name}"})
    after = client.chat.completions.create(model=f"{row}/m", messages=messages, tools=TOOLS)
    assert after.choices[0].message.content == "The tool said: result of weather; result of lookup"


@played
@pytest.mark.parametrize(("tool", "arguments"), [("weather", {"city": "Rome", "days": 5}), ("lookup", {})])
def test_a_forced_tool_streamed(client, row, tool, arguments):
    choice = {"type": "function", "function": {"name": tool}}
    given = {"model": f"{row}/m", "messages": ask("'Rome' 5"), "tools": TOOLS, "tool_choice": choice}
    with client.chat.completions.stream(**given) as stream:
        answer = stream.get_final_completion()
    call = answer.choices[0].message.tool_calls[0].function
    assert (call.name, json.loads(call.arguments)) == (tool, arguments)


@played
def test_structured_output(client, row):
    answer = client.chat.completions.parse(model=f"{row}/m", messages=ask("'Oslo' 7"), response_format=City)
    assert answer.choices[0].message.parsed == City(city="Oslo", people=7)


@played
def test_an_image(client, row):
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    answer = client.chat.completions.create(model=f"{row}/m", messages=ask(parts))
    assert answer.choices[0].message.content == SEEN


@played
def test_reasoning_is_counted(client, row):
    answer = client.chat.completions.create(
        model=f"{row}/m", messages=ask(), reasoning_effort="low", max_completion_tokens=4096
    )
    assert answer.choices[0].message.content == ECHO
    assert answer.usage.completion_tokens == OUTPUT + 2
    if row != "claude":  # which does not say how many
        assert answer.usage.completion_tokens_details.reasoning_tokens == 2


@recorded
def test_recorded_calls(client, row):
    answer = client.chat.completions.create(model=f"{row}-whole/m", messages=ask(), tools=TOOLS)
    calls = answer.choices[0].message.tool_calls
    assert [[c.function.name, json.loads(c.function.arguments)] for c in calls] == calls_said(f"{row}-whole")
    assert answer.choices[0].finish_reason == "tool_calls"


@recorded
def test_recorded_calls_streamed(client, row):
    with client.chat.completions.stream(model=f"{row}-stream/m", messages=ask(), tools=TOOLS) as stream:
        answer = stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert [[c.function.name, json.loads(c.function.arguments)] for c in calls] == calls_said(f"{row}-stream")
    assert len({c.id for c in calls}) == len(calls)
    assert (answer.choices[0].message.content or "") == WORLD["said"][f"{row}-stream"]["text"]


@pytest.mark.parametrize("row", ["chat", "gemini"])
def test_embeddings(client, row):
    answer = client.embeddings.create(model=f"{row}/m", input=["a cat", "a dog"])
    assert [len(d.embedding) for d in answer.data] == [8, 8]
    assert answer.data[0].embedding != answer.data[1].embedding


def test_a_wrong_key():
    with OpenAI(base_url=V1, api_key="sk-no", max_retries=0) as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="chat/m", messages=ask())


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError, match="nothing-like-it"):
        client.chat.completions.create(model="nothing-like-it", messages=ask())


@played
def test_a_busy_provider(client, row):
    with pytest.raises(openai.RateLimitError, match="the provider is busy"):
        client.chat.completions.create(model=f"{row}/busy", messages=ask())


@played
def test_a_refused_request(client, row):
    with pytest.raises(openai.BadRequestError, match="the provider is refused"):
        client.chat.completions.create(model=f"{row}/refused", messages=ask())


@played
def test_a_provider_that_denies_our_key(client, row):
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=f"{row}/denied", messages=ask())
    assert raised.value.status_code == 502


@played
def test_leaving(row):
    before = actor("/left")

    async def main():
        async with AsyncOpenAI(base_url=V1, api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model=f"{row}/slow", messages=ask(), stream=True)
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    break
            await stream.close()

    asyncio.run(main())
    wait_until_left(before)


# Responses


@played
def test_response(client, row):
    answer = client.responses.create(model=f"{row}/m", input=HELLO, instructions="be brief", store=False)
    assert answer.output_text == ECHO
    assert answer.status == "completed"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (PROMPT + 2, OUTPUT)
    assert answer.usage.input_tokens_details.cached_tokens == CACHED


@played
def test_response_streamed(client, row):
    with client.responses.stream(model=f"{row}/m", input=HELLO, store=False) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        answer = stream.get_final_response()
    assert text == answer.output_text == ECHO
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (PROMPT, OUTPUT)


@played
def test_response_events_are_numbered(client, row):
    events = list(client.responses.create(model=f"{row}/m", input=HELLO, store=False, stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"


@played
def test_a_round_of_response_tools(client, row):
    turns = [{"role": "user", "content": ASK_BOTH}]
    answer = client.responses.create(model=f"{row}/m", input=turns, tools=FLAT, store=False)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("weather", CALLED), ("lookup", {})]
    turns += [item.model_dump(exclude_none=True) for item in answer.output]
    turns += [{"type": "function_call_output", "call_id": c.call_id, "output": f"result of {c.name}"} for c in calls]
    after = client.responses.create(model=f"{row}/m", input=turns, tools=FLAT, store=False)
    assert after.output_text == "The tool said: result of weather; result of lookup"


@played
def test_response_tools_streamed(client, row):
    given = {"model": f"{row}/m", "input": ASK_BOTH, "tools": FLAT, "store": False}
    with client.responses.stream(**given) as stream:
        answer = stream.get_final_response()
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("weather", CALLED), ("lookup", {})]


@played
def test_response_structured(client, row):
    answer = client.responses.parse(model=f"{row}/m", input="'Oslo' 7", text_format=City, store=False)
    assert answer.output_parsed == City(city="Oslo", people=7)


@played
def test_response_with_an_image(client, row):
    parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": DATA_URL}]
    turns = [{"role": "user", "content": parts}]
    assert client.responses.create(model=f"{row}/m", input=turns, store=False).output_text == SEEN


@played
def test_response_length(client, row):
    answer = client.responses.create(model=f"{row}/m", input=HELLO, max_output_tokens=16, store=False)
    assert answer.status == "completed"
    cut = client.responses.create(model=f"{row}/m", input="w " * 40, max_output_tokens=16, store=False)
    assert cut.status == "incomplete"
    assert cut.incomplete_details.reason == "max_output_tokens"


@recorded
def test_recorded_calls_as_a_response(client, row):
    with client.responses.stream(model=f"{row}-stream/m", input=HELLO, tools=FLAT, store=False) as stream:
        answer = stream.get_final_response()
    calls = [[i.name, json.loads(i.arguments)] for i in answer.output if i.type == "function_call"]
    assert calls == calls_said(f"{row}-stream")


@played
def test_response_of_a_busy_provider(client, row):
    with pytest.raises(openai.RateLimitError, match="the provider is busy"):
        client.responses.create(model=f"{row}/busy", input=HELLO)


def test_a_response_by_the_mini(client):
    answer = client.responses.create(model=MINI, input="Say hello.", max_output_tokens=16)
    assert answer.output_text
    assert answer.usage.output_tokens > 0


def test_a_response_that_goes_on(client):
    """With previous_response_id the earlier turns need not be sent again: where state is not kept, it is refused."""
    first = client.responses.create(model="chat/m", input=HELLO)
    try:
        second = client.responses.create(model="chat/m", input="four", previous_response_id=first.id)
    except openai.BadRequestError as refused:
        assert refused.param == "previous_response_id"  # noqa: PT017
    else:
        assert second.output_text == "You said: four"
        assert second.usage.input_tokens > 4 + CACHED
