# mypy: ignore-errors
"""instructor on OpenAI's and Anthropic's SDKs."""

from __future__ import annotations

import anthropic
import instructor
import openai
import pytest
from pydantic import BaseModel
from stage import BASE, KEY, PLAYED, V1


class Person(BaseModel):
    name: str
    age: int


ASKED = [{"role": "user", "content": "'Ann' is 41."}]
ANN = Person(name="Ann", age=41)


@pytest.mark.parametrize("row", PLAYED)
@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA], ids=str)
def test_openai(row, mode):
    client = instructor.from_openai(openai.OpenAI(base_url=V1, api_key=KEY, max_retries=0), mode=mode)
    got = client.chat.completions.create(model=f"{row}/m", messages=ASKED, response_model=Person, max_retries=0)
    assert got.model_dump() == ANN.model_dump()


@pytest.mark.parametrize("row", PLAYED)
def test_openai_partial(row):
    client = instructor.from_openai(openai.OpenAI(base_url=V1, api_key=KEY, max_retries=0))
    parts = list(
        client.chat.completions.create_partial(model=f"{row}/m", messages=ASKED, response_model=Person, max_retries=0)
    )
    assert parts[-1].model_dump() == ANN.model_dump()


@pytest.mark.parametrize("row", PLAYED)
def test_anthropic(row):
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0))
    got = client.messages.create(model=f"{row}/m", messages=ASKED, response_model=Person, max_tokens=256, max_retries=0)
    assert got.model_dump() == ANN.model_dump()
