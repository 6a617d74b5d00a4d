"""OpenAI's own Python SDK against the gateway, as its users write it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from tests.sdk.world import MINI, World

pytestmark = pytest.mark.slow

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello in one short sentence."}]
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[OpenAI]:
    with OpenAI(base_url=world.base, api_key=world.key, max_retries=0, timeout=120) as made:
        yield made


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MINI, messages=HELLO, max_tokens=24, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_stream_without_usage(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MINI, messages=HELLO, max_tokens=24, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert all(c.choices and c.usage is None for c in chunks), "usage was not asked for"


def test_stream_with_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MINI, messages=HELLO, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 8
    assert all(c.usage is None for c in chunks[:-1])


def test_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MINI, messages=HELLO, max_tokens=16, temperature=0, seed=7)
    with client.chat.completions.stream(model=MINI, messages=HELLO, max_tokens=16, temperature=0, seed=7) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == whole.choices[0].message.content
    assert streamed.choices[0].finish_reason == whole.choices[0].finish_reason


def test_tools(client: OpenAI, world: World) -> None:
    answer = client.chat.completions.create(model="tools/m", messages=HELLO, tools=[TOOL])
    calls = answer.choices[0].message.tool_calls or []
    said = [[c.function.name, json.loads(c.function.arguments)] for c in calls if c.type == "function"]
    assert said == world.said["tools"]["tool_calls"] != []
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tools_streamed(client: OpenAI, world: World) -> None:
    stream = client.chat.completions.create(model="tools-stream/m", messages=HELLO, tools=[TOOL], stream=True)
    calls: dict[int, list[str]] = {}
    finish = None
    for chunk in stream:
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault(part.index, ["", ""])
                assert part.function is not None
                call[0] += part.function.name or ""
                call[1] += part.function.arguments or ""
    said = [[name, json.loads(arguments)] for name, arguments in calls.values()]
    assert said == world.said["tools-stream"]["tool_calls"] != []
    assert finish == "tool_calls"


def test_json_schema(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MINI,
        messages=[{"role": "user", "content": "Paris has two million people. Write that as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}},
        max_tokens=64,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "stop"
    told = json.loads(answer.choices[0].message.content or "")
    assert set(told) == {"city", "people"}
    assert isinstance(told["city"], str)
    assert isinstance(told["people"], int)


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MINI, messages=HELLO, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    scores = answer.choices[0].logprobs
    assert scores is not None
    assert scores.content
    for token in scores.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.logprob == pytest.approx(max(t.logprob for t in token.top_logprobs), abs=1e-3)


def test_embeddings(client: OpenAI) -> None:
    one = client.embeddings.create(model=MINI, input=["a cat", "a dog"])
    assert [d.index for d in one.data] == [0, 1]
    assert len(one.data[0].embedding) == len(one.data[1].embedding) > 100
    assert one.data[0].embedding != one.data[1].embedding
    plain = client.embeddings.create(model=MINI, input="a cat", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(one.data[0].embedding, abs=1e-2)
    assert one.usage.prompt_tokens > 0


def test_models(client: OpenAI) -> None:
    listed = {m.id: m for m in client.models.list()}
    assert MINI in listed
    one = client.models.retrieve(MINI)
    assert one.id == MINI
    assert one.object == "model"
    assert one.owned_by == listed[MINI].owned_by


def test_a_wrong_key(world: World) -> None:
    with (
        OpenAI(base_url=world.base, api_key="sk-not-a-key", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.chat.completions.create(model=MINI, messages=HELLO)
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="lilliput/smolm2-135m", messages=HELLO)
    assert raised.value.code == "model_not_found"
    assert MINI in raised.value.message, "the nearest name is offered"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing")


def test_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MINI, messages=HELLO, temperature=9)
    assert raised.value.param == "temperature"


def test_a_bad_request_that_the_provider_refuses(client: OpenAI, world: World) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="refused/m", messages=HELLO)
    assert world.said["refused"]["error"]["message"] in raised.value.message


def test_a_caller_that_leaves_is_left_by_the_provider(world: World) -> None:
    """Closing an async stream closes the provider's connection, long before its answer is over."""

    async def main() -> None:
        left = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"well"},"finish_reason":null}]}\n\n'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            writer.write(head + b"%x\r\n%b\r\n" % (len(event), event))
            try:
                while await reader.read(65536):
                    pass
            except ConnectionError:
                pass
            finally:
                left.set()
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", world.own_port)
        async with server, AsyncOpenAI(base_url=world.base, api_key=world.key, max_retries=0) as client:
            stream = await client.chat.completions.create(model="own/m", messages=HELLO, stream=True)
            first = await anext(aiter(stream))
            assert first.choices[0].delta.content == "well"
            assert not left.is_set()
            await stream.close()
            await asyncio.wait_for(left.wait(), 10)

    asyncio.run(main())
