# mypy: ignore-errors
"""langchain-openai under langchain's own standard suite, over a played provider; and over each dialect, Responses."""

from __future__ import annotations

import types
from typing import ClassVar

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.integration_tests import chat_models as suite
from stage import ASK_WEATHER, CACHED, CALLED, ECHO, HELLO, KEY, OUTPUT, PLAYED, PNG, PROMPT, V1

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
WAV = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\x08\0\0\0" + b"\x80" * 8


@pytest.fixture(autouse=True)
def files(monkeypatch):
    """The suite fetches its picture, paper and sound from the web; here they are made."""

    def get(url, **_):
        content = PDF if url.endswith(".pdf") else WAV if url.endswith(".wav") else PNG
        return types.SimpleNamespace(content=content, raise_for_status=lambda: None, status_code=200)

    monkeypatch.setattr(suite.httpx, "get", get)


class Standard(ChatModelIntegrationTests):
    row = "chat"
    more: ClassVar = {}

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": f"{self.row}/m",
            "base_url": V1,
            "api_key": KEY,
            "max_retries": 0,
            "stream_usage": True,
            **self.more,
        }

    @property
    def model_override_value(self):
        return f"{self.row}/other"

    supports_image_inputs = supports_image_urls = supports_json_mode = True
    supports_anthropic_inputs = supports_pdf_inputs = supports_audio_inputs = True
    supported_usage_metadata_details: ClassVar = {
        "invoke": ["reasoning_output", "cache_read_input"],
        "stream": ["reasoning_output", "cache_read_input"],
    }

    def thinking(self, stream):
        model = ChatOpenAI(**{**self.chat_model_params, "reasoning_effort": "low"})
        if not stream:
            return model.invoke(HELLO)
        chunks = list(model.stream(HELLO))
        return sum(chunks[1:], chunks[0])

    def invoke_with_reasoning_output(self, *, stream=False):
        return self.thinking(stream)

    def invoke_with_cache_read_input(self, *, stream=False):
        return self.thinking(stream)


class TestChat(Standard):
    pass


class TestResponses(Standard):
    more: ClassVar = {"use_responses_api": True}
    supports_audio_inputs = False  # which Responses does not take
    supports_image_tool_message = supports_pdf_tool_message = True


class TestClaude(Standard):
    row = "claude"
    supports_audio_inputs = False  # which Anthropic does not take
    supported_usage_metadata_details: ClassVar = {
        "invoke": ["cache_read_input"],
        "stream": ["cache_read_input"],
    }


class TestGemini(Standard):
    row = "gemini"


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "chat/m", "base_url": V1, "api_key": KEY, "check_embedding_ctx_length": False}


@pytest.mark.parametrize("row", PLAYED)
def test_usage_and_tools(row):
    model = ChatOpenAI(model=f"{row}/m", base_url=V1, api_key=KEY, max_retries=0)
    answer = model.invoke(HELLO)
    assert answer.content == ECHO
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (PROMPT, OUTPUT)
    assert answer.usage_metadata["input_token_details"]["cache_read"] == CACHED

    @tool
    def weather(city: str, days: int) -> str:
        """Forecast."""
        return f"{city} {days}"

    called = model.bind_tools([weather]).invoke([HumanMessage(ASK_WEATHER)])
    assert [(c["name"], c["args"]) for c in called.tool_calls] == [("weather", CALLED)]


def test_errors():
    with pytest.raises(openai.AuthenticationError):
        ChatOpenAI(model="chat/m", base_url=V1, api_key="sk-no", max_retries=0).invoke(HELLO)
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(model="nothing-like-it", base_url=V1, api_key=KEY, max_retries=0).invoke(HELLO)
    with pytest.raises(openai.RateLimitError):
        ChatOpenAI(model="chat/busy", base_url=V1, api_key=KEY, max_retries=0).invoke(HELLO)
