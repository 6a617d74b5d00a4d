"""Whether a model takes a request, by what the catalogue knows of it: what is unknown refuses nothing.

For requests that are translated: a body that passes to its own dialect is the provider's to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from lilliput.catalogue.rows import Model
from lilliput.neutral import Media, Problem, Request, Text, ToolResult

CHARACTERS_A_TOKEN = 6
"""More than any text has on average (English has about 4), so that a prompt is never thought longer than it is."""


class Needs(Struct, frozen=True):
    """What a request asks of its model; `prompt_tokens` is the least that the prompt can have."""

    reads: tuple[str, ...] = ()
    tools: bool = False
    schema: bool = False
    answer_tokens: int = 0
    prompt_tokens: int = 0


def needs(r: Request) -> Needs:
    """What `r` asks. Of files only PDF counts: text in a file is read by every model."""
    reads: dict[str, None] = {}
    characters = 0
    for part in _parts(r):
        if isinstance(part, Text):
            characters += len(part.text)
        elif part.kind != "file" or part.mime == "application/pdf":
            reads[part.kind] = None
    return Needs(
        reads=tuple(reads),
        tools=bool(r.tools) and (r.tool_choice is None or r.tool_choice.mode != "none"),
        schema=r.format is not None and r.format.kind == "schema",
        answer_tokens=r.max_tokens or 0,
        prompt_tokens=characters // CHARACTERS_A_TOKEN,
    )


def can(model: Model | None, asked: Needs) -> bool:
    """False where the model is known to lack something of what is asked."""
    return lack(model, asked) is None


def fitted(model: Model | None, r: Request) -> tuple[Request, tuple[str, ...]]:
    """`r` as the model takes it, and what was made smaller: an answer longer than its longest, since many clients
    always ask for the same length. Raises Problem (400) that names the field and what the model can do instead, where
    it is known not to take `r`."""
    if model is None:
        return r, ()
    cut: tuple[str, ...] = ()
    if r.max_tokens and 0 < model.max_output_tokens < r.max_tokens:
        r, cut = structs.replace(r, max_tokens=model.max_output_tokens), ("max_tokens",)
    if (problem := lack(model, needs(r))) is not None:
        raise problem
    return r, cut


def lack(model: Model | None, asked: Needs) -> Problem | None:
    """What the model is known to lack of what is asked, as the Problem to tell."""
    if model is None:
        return None
    for kind in asked.reads if model.input else ():
        if kind not in model.input:
            say = f"{model.id} reads {', '.join(model.input)}, not {kind}; leave it out, or ask a model that does"
            return _problem(f"{say} (list them with `lilliput models --modality {kind}`)", "messages")
    if asked.tools and model.tools is False:
        return _problem(f"{model.id} calls no tools; leave tools out, or ask a model that does", "tools")
    if asked.schema and model.schema is False:
        say = (
            f"{model.id} cannot hold its answer to a JSON schema; describe the form in the prompt, or ask another model"
        )
        return _problem(say, "response_format")
    if model.max_output_tokens and asked.answer_tokens > model.max_output_tokens:
        say = f"max_tokens is {asked.answer_tokens}, yet an answer of {model.id} has {model.max_output_tokens} at most"
        return _problem(f"{say}; send no more than that", "max_tokens", "invalid_value")
    if model.context_tokens and asked.prompt_tokens > model.context_tokens:
        say = (
            f"the prompt has over {asked.prompt_tokens} tokens, and {model.id} takes {model.context_tokens}; shorten it"
        )
        return _problem(say, "messages", "context_length_exceeded")
    return None


def _problem(say: str, param: str, code: str = "unsupported_value") -> Problem:
    return Problem("client", say, code=code, param=param)


def _parts(r: Request) -> Iterator[Text | Media]:
    for message in r.messages:
        for part in message.parts:
            if isinstance(part, Text | Media):
                yield part
            elif isinstance(part, ToolResult):
                yield from part.parts
