# mypy: ignore-errors
"""LlamaIndex's OpenAILike model and embeddings."""

from __future__ import annotations

import openai
import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from stage import ASK_WEATHER, CALLED, ECHO, HELLO, KEY, OUTPUT, PLAYED, PNG, PROMPT, SEEN, V1

played = pytest.mark.parametrize("row", PLAYED)


class City(BaseModel):
    city: str
    people: int


def model(name, key=KEY):
    return OpenAILike(
        model=name,
        api_base=V1,
        api_key=key,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        context_window=8192,
        max_retries=0,
    )


def weather(city: str, days: int) -> str:
    """Forecast."""
    return f"{city} {days}"


@played
def test_chat(row):
    answer = model(f"{row}/m").chat([ChatMessage(HELLO)])
    assert answer.message.content == ECHO
    assert (answer.raw.usage.prompt_tokens, answer.raw.usage.completion_tokens) == (PROMPT, OUTPUT)


@played
def test_stream(row):
    assert "".join(c.delta or "" for c in model(f"{row}/m").stream_chat([ChatMessage(HELLO)])) == ECHO


@played
def test_tools(row):
    llm = model(f"{row}/m")
    answer = llm.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg=ASK_WEATHER)
    calls = llm.get_tool_calls_from_response(answer)
    assert [(c.tool_name, c.tool_kwargs) for c in calls] == [("weather", CALLED)]


@played
def test_structured_output(row):
    assert model(f"{row}/m").as_structured_llm(City).complete("'Oslo' 7").raw == City(city="Oslo", people=7)


@played
def test_an_image(row):
    message = ChatMessage(blocks=[TextBlock(text="What is it?"), ImageBlock(image=PNG, image_mimetype="image/png")])
    assert model(f"{row}/m").chat([message]).message.content == SEEN


def test_embeddings():
    embedding = OpenAILikeEmbedding(model_name="chat/m", api_base=V1, api_key=KEY)
    vectors = embedding.get_text_embedding_batch(["a cat", "a dog"])
    assert [len(v) for v in vectors] == [8, 8]


@pytest.mark.parametrize(
    ("name", "key", "error"),
    [
        ("chat/m", "sk-no", openai.AuthenticationError),
        ("nothing-like-it", KEY, openai.NotFoundError),
        ("chat/busy", KEY, openai.RateLimitError),
    ],
)
def test_errors(name, key, error):
    with pytest.raises(error):
        model(name, key).chat([ChatMessage(HELLO)])
