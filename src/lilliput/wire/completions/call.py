"""A neutral request as the body of a legacy completion: one prompt made of all messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from lilliput.neutral import (
    Media,
    Message,
    Opaque,
    Refusal,
    Request,
    Role,
    Sent,
    Target,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from lilliput.wire.cohere.call import REFUSED, no_place, note, note_message, note_result, own_fields, sent, thoughts
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.port import Headers

DIALECT = "openai_completions"
_MOST_TOP_LOGPROBS = 5

LOST: Mapping[str, str] = MappingProxyType(
    {
        "tools": "dropped: a prompt has none",
        "tool_choice": "dropped: a prompt has no tools",
        "parallel_tool_calls": "dropped: a prompt has no tools",
        "messages.name": "dropped",
        "messages.thinking": "dropped: a prompt is what was said",
        "messages.thinking_signature": "dropped",
        "messages.tool_result_error": "dropped: only the text tells",
        "messages.refusal": "approximated: plain text",
        "messages.other": "dropped",
        **dict.fromkeys(("audio", "audio_url", "video", "video_url", "file", "file_url", "file_id"), REFUSED),
        "cache_control": "dropped: caching is the provider's own affair",
    }
)
"""What has no place in a prompt."""

TEXT_ONLY: Mapping[str, str] = MappingProxyType(
    {
        **LOST,
        **dict.fromkeys(("image", "image_url", "image.detail", "messages.tool_result_media"), REFUSED),
        **dict.fromkeys(("tools.strict", "tools.custom"), "dropped: a prompt has no tools"),
    }
)
"""The same where images have no place either."""

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        **TEXT_ONLY,
        "top_logprobs": "approximated: at most five",
        "response_format.json_object": "dropped",
        "response_format.json_schema": "dropped",
        "reasoning_effort": "dropped",
        "reasoning_budget": "dropped",
    }
)


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    return openai_endpoint.endpoint(target, "/completions")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media. A stream is asked for its usage."""
    dropped: dict[str, None] = {}
    note_tools(r, dropped)
    if r.format is not None and r.format.kind != "text":
        dropped["response_format.json_object" if r.format.schema is None else "response_format.json_schema"] = None
    note_reasoning(r, dropped)
    fields: dict[str, object] = {"model": target.model, "prompt": prompt(said(r.messages, dropped)[0])}
    if r.logprobs:
        fields["logprobs"] = min(r.top_logprobs or 0, _MOST_TOP_LOGPROBS)
        if (r.top_logprobs or 0) > _MOST_TOP_LOGPROBS:
            dropped["top_logprobs"] = None
    for name in (
        *("max_tokens", "temperature", "top_p", "top_k", "seed", "n", "presence_penalty", "frequency_penalty"),
        *("stop", "user"),
    ):
        value: object = getattr(r, name)
        if value not in (None, ()):
            fields[name] = value
    if r.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return sent(fields, own_fields(r, DIALECT, frozenset(), dropped), target, dropped)


def note_reasoning(r: Request, dropped: dict[str, None]) -> None:
    if r.reasoning is not None:
        budget = r.reasoning.budget_tokens is not None
        note(dropped, reasoning_effort=r.reasoning.effort, reasoning_budget=budget)


def note_tools(r: Request, dropped: dict[str, None]) -> None:
    """Names the tools and what goes with them, for a dialect without any."""
    if r.tools:
        choice = r.tool_choice is not None and r.tool_choice.mode != "none"
        note(dropped, tools=True, tool_choice=choice, parallel_tool_calls=r.parallel_tools is not None)


def prompt(turns: list[tuple[Role, str]]) -> str:
    """One prompt of all turns: the user's word alone as it is, else each with its speaker and an open end."""
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    lines = [f"{role.capitalize()}: {text}" for role, text in turns]
    if turns and turns[-1][0] != "assistant":
        lines.append("Assistant:")
    return "\n\n".join(lines)


def said(
    messages: Iterable[Message], dropped: dict[str, None], images: bool = False
) -> tuple[list[tuple[Role, str]], list[Media]]:
    """What each message says, and the images of all, for dialects without parts; raises Problem (400) for other media.

    Images are refused too unless `operations.images`. Tool results become turns, calls are left out.
    """
    turns: list[tuple[Role, str]] = []
    shown: list[Media] = []
    for m in messages:
        note_message(m, dropped)
        texts = []
        for p in m.parts:
            if isinstance(p, ToolResult):
                note_result(p, dropped)
                inner, media = said([Message("tool", p.parts)], dropped, images)
                turns += inner
                shown += media
            elif isinstance(p, Text | Refusal) and p.text:
                texts.append(p.text)
            elif isinstance(p, Media):
                if not images or p.kind != "image" or p.data is None:
                    raise no_place(p, "Ollama takes only images, as data" if images else "this model takes only text")
                shown.append(p)
            elif isinstance(p, Thinking):
                dropped["messages.thinking"] = None
                thoughts(m, dropped)
            elif isinstance(p, ToolCall):
                dropped["tools"] = None
            elif isinstance(p, Opaque):
                dropped["messages.other"] = None
        if texts:
            turns.append((m.role, "\n".join(texts)))
    return turns, shown
