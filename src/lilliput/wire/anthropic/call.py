"""A neutral request as the call to an Anthropic provider, Google's Vertex among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

import msgspec
from msgspec import Raw

from lilliput.neutral import Format, Reasoning, Request, Sent, Target, Tool, ToolChoice
from lilliput.wire import custom_tools, quirks
from lilliput.wire.anthropic.request import DIALECT
from lilliput.wire.anthropic.schema import narrowed
from lilliput.wire.anthropic.turns import Turns, marked
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.port import Headers

VERSION = "2023-06-01"
VERTEX = "anthropic_vertex"
VERTEX_VERSION = "vertex-2023-10-16"

DEFAULT_MAX_TOKENS = 4096
"""How long an answer may be whose caller did not say: Anthropic asks for a figure. It comes on top of a budget."""

SUPPORT = {
    "temperature": "approximated: at most 1; dropped beside thinking, and for Claude 4.7 and later, which refuse it",
    "top_p": "dropped beside thinking or temperature, and for Claude 4.7 and later, which refuse it",
    "top_k": "dropped beside thinking, and for Claude 4.7 and later, which refuse it",
    "seed": "dropped: there is none",
    "n": "dropped: there is one answer",
    "presence_penalty": "dropped: there is none",
    "frequency_penalty": "dropped: there is none",
    "logprobs": "dropped: there are none",
    "top_logprobs": "dropped: there are none",
    "tools.strict": "approximated: keywords that are refused there move into the description; "
    "dropped for Claude before 4.1",
    "tools.custom": "approximated: a function with one text, input",
    "tool_choice": "dropped without tools",
    "response_format.json_object": "dropped: there is none without a schema",
    "response_format.json_schema": "approximated: keywords that are refused there move into the description",
    "reasoning_effort": "approximated: a budget for Claude before 4.6; dropped where a tool is forced",
    "reasoning_budget": "approximated: an effort for Claude 4.7 and later",
    "messages.name": "dropped: there are none",
    "messages.thinking": "dropped: only what Anthropic signed is taken",
    "messages.thinking_signature": "dropped: those of other families",
    "messages.refusal": "approximated: as text",
    "image.detail": "dropped: there is none",
    "messages.other": "dropped",
    **dict.fromkeys(("audio", "audio_url", "video", "video_url"), "dropped: refused with 400"),
}

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 27_904}
_LEAST_BUDGET = 1024
_BY_BUDGET = ((4_096, "low"), (16_384, "medium"))
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')
_SPELLINGS = frozenset(
    {
        *("thinking", "output_config", "metadata", "max_completion_tokens", "functions", "function_call", "reasoning"),
        *("response_format", "tool_choice", "stop", "stream_options", "store", "prompt_cache_key", "safety_identifier"),
    }
)
"""Extra fields that stand there for their spelling alone, or that say nothing to a model: no loss elsewhere."""
_NOT_OFFERED = ("seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    """The URL, and the headers that every such call carries."""
    path = "/v1/messages"
    if target.dialect == VERTEX:
        path = f"/models/{quote(target.model, safe='@')}:{'streamRawPredict' if stream else 'rawPredict'}"
    return at(target, path)


def at(target: Target, path: str) -> tuple[str, Headers]:
    """The URL of `path` at the target, and the headers."""
    url, headers = openai_endpoint.endpoint(target, path)
    if target.dialect == VERTEX or any(name.lower() == "anthropic-version" for name, _ in headers):
        return url, headers
    return url, (*headers, ("anthropic-version", VERSION))


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media that it cannot be shown."""
    fields, dropped = _fields_of(r, target)
    if r.stream:
        fields["stream"] = True
    dropped += quirks.dropped(fields, target)
    return Sent(quirks.body(addressed(fields, target), target), tuple(dict.fromkeys(dropped)) if dropped else ())


def addressed(fields: Mapping[str, object], target: Target) -> dict[str, object]:
    """The fields with the model's name; at Vertex it stands in the path, and the version here."""
    if target.dialect != VERTEX:
        return {**fields, "model": target.model}
    rest = {name: value for name, value in fields.items() if name != "model"}
    return {"anthropic_version": VERTEX_VERSION, **rest}


def write_fields(r: Request, target: Target) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """The fields of the body without model, stream and version, and the names of what was dropped or approximated."""
    fields, dropped = _fields_of(r, target)
    return {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}, dropped


def _fields_of(r: Request, target: Target) -> tuple[dict[str, object], tuple[str, ...]]:
    own = r.dialect == DIALECT
    extra = r.extra if own else {}
    turns = Turns(r)
    dropped = turns.dropped
    version = version_of(target.model)
    fields: dict[str, object] = {"messages": turns.messages}
    if turns.system:
        fields["system"] = turns.system
    tools: list[object] = [_tool(t, version, dropped) for t in r.tools]
    if "tools" in extra:
        tools += msgspec.json.decode(extra["tools"], type=list[Raw])
    if tools:
        fields["tools"] = tools
        choice = _tool_choice(r)
        if choice is not None:
            fields["tool_choice"] = choice
    elif r.tool_choice is not None and r.tool_choice.mode in ("required", "named"):
        dropped["tool_choice"] = None
    if r.stop:
        fields["stop_sequences"] = list(r.stop)
    fields |= _thinking(r, turns, version, dropped, extra)
    thinks = "thinking" in fields and fields["thinking"] != {"type": "disabled"}
    fields |= _sampling(r, None if own else version, thinks and not own, dropped)
    if r.format is not None and r.format.kind != "text":
        _format(r.format, own, fields, dropped)
    if "metadata" in extra:
        fields["metadata"] = extra["metadata"]
    elif r.user is not None:
        fields["metadata"] = {"user_id": r.user}
    for name in _NOT_OFFERED:
        if getattr(r, name) is not None:
            dropped[name] = None
    if r.n is not None and r.n > 1:
        dropped["n"] = None
    for name, raw in r.extra.items():
        if own and name != "tools":
            fields.setdefault(name, raw)
        elif not own and name not in _SPELLINGS:
            dropped[name] = None
    return fields, tuple(dropped)


@lru_cache(256)
def version_of(model: str) -> tuple[int, int] | None:
    """Claude's version in a model's name, (4, 6) for claude-opus-4-6; None where it shows none."""
    found = _CLAUDE.search(model)
    return (int(found.group(1)), int(found.group(2) or 0)) if found else None


# -- tools -------------------------------------------------------------------------------------------------------


def _tool(t: Tool, version: tuple[int, int] | None, dropped: dict[str, None]) -> dict[str, object]:
    if t.kind == "custom":
        dropped["tools.custom"] = None
        t = custom_tools.as_function(t)
    out: dict[str, object] = {"name": t.name}
    if t.description is not None:
        out["description"] = t.description
    schema = out["input_schema"] = _NO_ARGUMENTS if t.schema is None else _of_object(t.schema)
    if t.strict and version is not None and version < (4, 1):
        dropped["tools.strict"] = None
    elif t.strict is not None:
        out["strict"] = t.strict
        if t.strict and (narrow := narrowed(schema)) is not schema:
            dropped["tools.strict"] = None
            out["input_schema"] = narrow
    return marked(out, t.cache)


def _of_object(schema: Raw) -> Raw:
    """`schema` with the type that Anthropic asks every tool's for."""
    try:
        fields = _fields(schema)
    except msgspec.MsgspecError:
        return schema
    return schema if "type" in fields else Raw(msgspec.json.encode({"type": Raw(b'"object"'), **fields}))


def _tool_choice(r: Request) -> dict[str, object] | None:
    c = r.tool_choice
    if c is None and r.parallel_tools is not False:
        return None
    c = c or ToolChoice()
    out: dict[str, object] = {"type": {"required": "any", "named": "tool"}.get(c.mode, c.mode)}
    if c.mode == "named":
        out["name"] = c.name
    if r.parallel_tools is not None and c.mode != "none":
        out["disable_parallel_tool_use"] = not r.parallel_tools
    return out


# -- how to think and to answer ----------------------------------------------------------------------------------


def _thinking(
    r: Request, turns: Turns, version: tuple[int, int] | None, dropped: dict[str, None], extra: dict[str, Raw]
) -> dict[str, object]:
    """`thinking`, `output_config` and `max_tokens`, which hang together.

    Claude 4.6 and later think as they see fit (adaptive), by effort; 4.7 and later take no budget; those before, and
    models whose name tells nothing, take a budget alone (so says Anthropic's list of models, anthropic-44b18295ea).
    The words of a caller of this dialect go as they came.
    """
    out: dict[str, object] = {name: _fields(extra[name]) for name in ("thinking", "output_config") if name in extra}
    asked = r.reasoning
    budget = asked.budget_tokens if asked is not None else None
    if asked is None or asked == Reasoning():
        pass
    elif r.dialect == DIALECT:
        if budget is not None:
            out.setdefault("thinking", {"type": "enabled", "budget_tokens": budget})
        if asked.effort == "none":
            out.setdefault("thinking", {"type": "disabled"})
        elif asked.effort is not None:
            out.setdefault("output_config", {"effort": asked.effort})
    elif asked.effort == "none":
        if version is None or version >= (5, 0):
            out["thinking"] = {"type": "disabled"}  # where nothing said means thinking
    elif version is not None and version >= ((4, 6) if budget is None else (4, 7)):
        out["output_config"] = {"effort": _effort(asked, version, dropped)}
        out["thinking"] = {"type": "adaptive"} if version == (4, 6) else {"type": "adaptive", "display": "summarized"}
    else:
        given = _budget(r, asked, turns, dropped)
        if given is not None:
            out["thinking"] = {"type": "enabled", "budget_tokens": given}
            out["max_tokens"] = r.max_tokens or given + DEFAULT_MAX_TOKENS
    out.setdefault("max_tokens", r.max_tokens or DEFAULT_MAX_TOKENS)
    return out


def _effort(asked: Reasoning, version: tuple[int, int] | None, dropped: dict[str, None]) -> str:
    effort = asked.effort
    if effort is None:
        dropped["reasoning_budget"] = None
        return next((word for most, word in _BY_BUDGET if (asked.budget_tokens or 0) <= most), "high")
    taken = "low" if effort == "minimal" else "high" if effort == "xhigh" and version == (4, 6) else effort
    if taken != effort:
        dropped["reasoning_effort"] = None
    return taken


def _budget(r: Request, asked: Reasoning, turns: Turns, dropped: dict[str, None]) -> int | None:
    """The tokens to think with; None where thinking would be refused: beside a forced tool, in the middle of tool
    calls that came without their thinking, or with no room under max_tokens."""
    wanted = asked.budget_tokens or _BUDGETS.get(asked.effort or "", _BUDGETS["medium"])
    most = wanted if r.max_tokens is None or wanted < r.max_tokens else r.max_tokens // 2
    budget = max(most, _LEAST_BUDGET)
    forced = r.tool_choice is not None and r.tool_choice.mode in ("required", "named")
    refused = forced or (r.max_tokens is not None and budget >= r.max_tokens) or _calls_without_thinking(turns)
    if refused or budget != asked.budget_tokens:
        dropped["reasoning_effort" if asked.budget_tokens is None else "reasoning_budget"] = None
    return None if refused else budget


def _calls_without_thinking(turns: Turns) -> bool:
    """True in the middle of tool use whose assistant turn does not begin with thinking, which is refused."""
    last = next((m["content"] for m in reversed(turns.messages) if m["role"] == "assistant"), None)
    if not isinstance(last, list) or not any(isinstance(b, dict) and b["type"] == "tool_use" for b in last):
        return False
    first = last[0]
    return isinstance(first, dict) and first["type"] not in ("thinking", "redacted_thinking")


def _sampling(r: Request, version: tuple[int, int] | None, thinks: bool, dropped: dict[str, None]) -> dict[str, object]:
    """Claude 4.7 and later take no such parameters, 4.1 and later not two at once, none takes them with thinking."""
    given: dict[str, object] = {}
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(r, name)
        if value is None:
            continue
        if name == "temperature" and value > 1:
            dropped[name] = None
            value = 1.0
        if name == "top_k" and value < 1:
            continue  # all tokens, in the words of vLLM and others
        least = 1 if name == "temperature" else 0.95
        refused = (
            (version is not None and version >= (4, 7))
            or (thinks and (name == "top_k" or value < least))
            or (name == "top_p" and version is not None and version >= (4, 1) and "temperature" in given)
        )
        if refused:
            dropped[name] = None
        else:
            given[name] = value
    return given


def _format(f: Format, own: bool, fields: dict[str, object], dropped: dict[str, None]) -> None:
    if f.schema is None:
        dropped["response_format.json_object"] = None
        return
    schema = f.schema if own else narrowed(f.schema)
    if schema is not f.schema:
        dropped["response_format.json_schema"] = None
    config = fields.get("output_config")
    shape = {"format": {"type": "json_schema", "schema": schema}}
    fields["output_config"] = config | shape if isinstance(config, dict) else shape
