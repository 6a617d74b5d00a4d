"""A request is refused where the catalogue knows that the model cannot take it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw, structs

from lilliput.catalogue.rows import Model
from lilliput.gateway.able import Needs, can, fitted, needs
from lilliput.neutral import Format, Media, Message, Part, Problem, Request, Text, Tool, ToolChoice, ToolResult

BLANK = Model(id="p/m")
LITTLE = Model(
    id="p/m",
    input=("text",),
    output=("text",),
    tools=False,
    schema=False,
    reasoning=False,
    context_tokens=10,
    max_output_tokens=100,
)
MUCH = structs.replace(
    LITTLE,
    input=("text", "image", "audio", "video", "file"),
    tools=True,
    schema=True,
    context_tokens=1000,
    max_output_tokens=1000,
)


def ask(*parts: Part, **fields: Any) -> Request:
    return Request(model="p/m", messages=(Message("user", parts or (Text("hi"),)),), **fields)


PDF = "application/pdf"
REFUSED = [
    ("image", ask(Media("image", data="AA==")), "messages", "reads text, not image"),
    ("image by link", ask(Media("image", url="https://x/a.png")), "messages", "--modality image"),
    ("image in a result", ask(ToolResult("c", (Media("image", data="AA=="),))), "messages", "image"),
    ("audio", ask(Media("audio", data="AA==")), "messages", "audio"),
    ("video", ask(Media("video", url="https://x/a.mp4")), "messages", "video"),
    ("pdf", ask(Media("file", data="AA==", mime=PDF)), "messages", "file"),
    ("tools", ask(tools=(Tool("f"),)), "tools", "calls no tools"),
    ("schema", ask(format=Format("schema", Raw(b"{}"))), "response_format", "JSON schema"),
    ("a long prompt", ask(Text("x" * 66)), "messages", "takes 10"),
    ("a long result", ask(ToolResult("c", (Text("x" * 66),))), "messages", "over 11 tokens"),
]


@pytest.mark.parametrize(("name", "request_", "param", "say"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_by_what_is_known_alone(name: str, request_: Request, param: str, say: str) -> None:
    with pytest.raises(Problem) as caught:
        fitted(LITTLE, request_)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert say in caught.value.say
    assert "p/m" in caught.value.say
    assert not can(LITTLE, needs(request_))
    for model in (None, BLANK, MUCH):
        fitted(model, request_)
        assert can(model, needs(request_))


TAKEN = [
    ("text", ask()),
    ("a text file", ask(Media("file", data="AA==", mime="text/plain"))),
    ("a file by its id", ask(Media("file", file_id="f"))),
    ("tools that may not be called", ask(tools=(Tool("f"),), tool_choice=ToolChoice("none"))),
    ("free JSON", ask(format=Format("json"))),
    ("the longest answer", ask(max_tokens=100)),
    ("a prompt that may fit", ask(Text("x" * 65))),
    ("reasoning is dropped elsewhere", ask(extra={"reasoning": Raw(b"{}")})),
]


@pytest.mark.parametrize(("name", "request_"), TAKEN, ids=[row[0] for row in TAKEN])
def test_taken(name: str, request_: Request) -> None:
    fitted(LITTLE, request_)
    assert can(LITTLE, needs(request_))


def test_a_longer_answer_than_the_longest_is_cut_and_told() -> None:
    assert fitted(LITTLE, ask(max_tokens=101)) == (ask(max_tokens=100), ("max_tokens",))
    assert fitted(LITTLE, ask(max_tokens=100)) == (ask(max_tokens=100), ())
    assert fitted(BLANK, ask(max_tokens=10**6)) == (ask(max_tokens=10**6), ())


def test_a_router_may_ask_for_what_it_needs() -> None:
    assert can(MUCH, Needs(reads=("image",), tools=True, schema=True, prompt_tokens=1000))
    assert not can(LITTLE, Needs(reads=("image",)))
