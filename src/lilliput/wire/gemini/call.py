"""A neutral request as the body of a Gemini call.

Schemas go as JSON Schema (`parametersJsonSchema`, `responseJsonSchema`): every recorded model since 2.0 takes them, at
AI Studio and at Vertex. Google's older `parameters`, a subset of OpenAPI, would lose what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw

from lilliput.neutral import (
    Media,
    Message,
    Opaque,
    Problem,
    Refusal,
    Request,
    Sent,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from lilliput.wire import quirks
from lilliput.wire.custom_tools import as_function, call_as_function
from lilliput.wire.families import GEMINI
from lilliput.wire.gemini.request import DIALECT
from lilliput.wire.gemini.thinking import generation, thinking_config, thinks
from lilliput.wire.openai.media import mime_of

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        "user": "dropped",
        "tools.strict": "dropped",
        "tools.custom": "approximated: a function with one text, turned back in the answer",
        "parallel_tool_calls": "dropped: the model decides",
        "reasoning_effort": "approximated: the nearest level or budget; dropped for models that do not think",
        "reasoning_budget": "approximated: the nearest budget; dropped for models that do not think",
        "messages.name": "dropped",
        "messages.thinking": "dropped for models that do not think",
        "messages.thinking_signature": "dropped: it means nothing outside its own family",
        "messages.refusal": "approximated: as text",
        "messages.other": "dropped",
        "image.detail": "dropped",
        "file_id": "dropped: refused with 400, but for Google's own files",
        "cache_control": "dropped: Google caches by itself",
    }
)
"""What of `fields.FIELDS` is approximated or dropped here, and how."""

SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Google's word for a call that has no signature, as those of other models have none: the third generation refuses the
first call of a step without one (ai.google.dev/gemini-api/docs/thought-signatures)."""

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_HARMLESS = frozenset(
    {
        *("metadata", "prompt_cache_key", "safety_identifier", "store", "stream_options"),
        *("function_call", "functions", "max_completion_tokens", "reasoning", "response_format", "stop", "thinking"),
        "tool_choice",
    }
)
"""Callers' fields whose loss changes no answer, or that stand in `extra` for their spelling alone."""
_SUFFIX = {
    "aac": "audio/aac",
    "avi": "video/x-msvideo",
    "csv": "text/csv",
    "flac": "audio/flac",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "m4a": "audio/mp4",
    "md": "text/markdown",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "ogg": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
}
"""What the end of a URL says, for Vertex wants to know a file's type."""
_OF_KIND = {"image": "image/jpeg", "audio": "audio/mpeg", "video": "video/mp4", "file": "application/pdf"}

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for a file that Google cannot have.

    Quirks of the row name the fields of `generationConfig` with that in front: `generationConfig.seed`.
    """
    own = r.dialect == DIALECT
    lost = dict.fromkeys(() if own else (n for n in r.extra if n not in _HARMLESS))
    writer = _Contents(r, target.model, lost)
    fields: dict[str, object] = {"contents": writer.contents}
    if writer.system:
        fields["systemInstruction"] = {"parts": writer.system}
    tools = [{"functionDeclarations": [_tool(t, lost) for t in r.tools]}] if r.tools else []
    server_tools = _items(r.extra["tools"]) if own and "tools" in r.extra else []
    if tools or server_tools:
        fields["tools"] = [*tools, *server_tools]
    if r.tool_choice is not None and tools:
        fields["toolConfig"] = {"functionCallingConfig": _calling(r.tool_choice)}
    fields |= {f"generationConfig.{name}": value for name, value in _generation(r, target, lost).items()}
    if r.user is not None:
        lost["user"] = None
    if r.parallel_tools is False and tools:
        lost["parallel_tool_calls"] = None
    raws = {name: Raw(_encode(value)) for name, value in fields.items()}
    if own:
        raws |= {name: raw for name, raw in r.extra.items() if name not in ("$alt", "tools")}
    lost |= dict.fromkeys(quirks.dropped(raws, target))
    return Sent(_encode(nested(quirks.apply(raws, target))), tuple(lost))


def nested(fields: dict[str, Raw]) -> dict[str, object]:
    """`fields` with those of `generationConfig` put into it."""
    out: dict[str, object] = {}
    inside: dict[str, Raw] = {}
    for name, raw in fields.items():
        if name.startswith("generationConfig."):
            inside[name.removeprefix("generationConfig.")] = raw
        else:
            out[name] = raw
    return out | ({"generationConfig": inside} if inside else {})


# -- contents ----------------------------------------------------------------------------------------------------


class _Contents:
    """The turns of a request: neighbours of one role joined, calls and results matched by name."""

    def __init__(self, r: Request, model: str, lost: dict[str, None]) -> None:
        self.contents: list[dict[str, object]] = []
        self.system: list[dict[str, object]] = []
        self._lost = lost
        self._thinks = thinks(model)
        self._generation = generation(model) or ((3, 0) if "gemini" in model else (0, 0))  # as gemini-flash-latest
        self._names = {p.id: p.name for m in r.messages for p in m.parts if isinstance(p, ToolCall)}
        self._parts: list[dict[str, object]] = []
        for m in r.messages:
            if m.name is not None:
                lost["messages.name"] = None
            if m.role == "system":
                self.system += [{"text": p.text} for p in m.parts if isinstance(p, Text) and p.text]
                self._user(Message("user", tuple(p for p in m.parts if isinstance(p, Media))))
            elif m.role == "assistant":
                self._model(m)
            else:
                self._user(m)
        self.contents = [c for c in self.contents if c["parts"]]
        if not self.contents or self.contents[0]["role"] == "model":
            # Google wants a turn of the user's first, and takes an empty one (gemini-93c1a07363, gemini-562fd33764).
            self.contents.insert(0, {"role": "user", "parts": [{"text": ""}]})

    def _open(self, role: str) -> None:
        if not self.contents or self.contents[-1]["role"] != role:
            self._parts = []
            self.contents.append({"role": role, "parts": self._parts})

    def _user(self, m: Message) -> None:
        if m.parts:
            self._open("user")
        for result in [p for p in m.parts if isinstance(p, ToolResult)]:
            self._result(result)
        for p in m.parts:
            self._plain(p)

    def _model(self, m: Message) -> None:
        """A signature without a call of its own goes to the call that follows at once, else to the text beside it."""
        self._open("model")
        parts = self._parts
        signature = ""
        is_first = True
        for p in m.parts:
            if isinstance(p, Thinking):
                before, signature = signature, self._thinking(p) or signature
                if before and before is not signature:
                    parts.append({"text": "", "thoughtSignature": before})
                if signature and parts and parts[-1].keys() == {"text"}:
                    parts[-1]["thoughtSignature"], signature = signature, ""
            elif isinstance(p, ToolCall):
                call = self._call(p)
                if signature and p.signature:
                    parts.append({"text": "", "thoughtSignature": signature})
                sign = p.signature or signature
                if not sign and is_first and self._generation >= (3, 0):
                    sign = SKIP_SIGNATURE
                signature, is_first = "", False
                parts.append(call | ({"thoughtSignature": sign} if sign else {}))
            else:
                self._plain(p)
                if signature and parts and parts[-1].keys() == {"text"}:
                    parts[-1]["thoughtSignature"], signature = signature, ""
        if signature:
            parts.append({"text": "", "thoughtSignature": signature})

    def _thinking(self, p: Thinking) -> str | None:
        """Writes a thought's text; its signature where it is Google's own. Unsigned thoughts of others are taken."""
        if p.family != GEMINI and (p.signature or p.sealed is not None):
            self._lost["messages.thinking_signature"] = None
        if p.text and p.sealed is None:
            if self._thinks:
                self._parts.append({"text": p.text, "thought": True})
            else:
                self._lost["messages.thinking"] = None
        return p.signature if p.family == GEMINI else None

    def _call(self, p: ToolCall) -> dict[str, object]:
        if p.kind == "custom":
            self._lost["tools.custom"] = None
            p = call_as_function(p)
        if p.cache is not None:
            self._lost["cache_control"] = None
        return {"functionCall": {"id": p.id, "name": p.name, "args": _arguments(p.arguments)}}

    def _result(self, p: ToolResult) -> None:
        """Media stand inside the result since the third generation, beside it before."""
        text = "\n".join(part.text for part in p.parts if isinstance(part, Text))
        media = [self._media(part) for part in p.parts if isinstance(part, Media)]
        name = self._names.get(p.call_id) or p.name or p.call_id
        answer: dict[str, object] = {"id": p.call_id, "name": name, "response": _response(text, p.is_error)}
        inside = media and self._generation >= (3, 0)
        self._parts.append({"functionResponse": answer | ({"parts": media} if inside else {})})
        if not inside:
            self._parts += media
        if p.cache is not None:
            self._lost["cache_control"] = None

    def _plain(self, p: object) -> None:
        if isinstance(p, Text | Media) and p.cache is not None:
            self._lost["cache_control"] = None
        if isinstance(p, Text):
            self._parts += [{"text": p.text}] if p.text else []
        elif isinstance(p, Media):
            self._parts.append(self._media(p))
        elif isinstance(p, Refusal):
            self._lost["messages.refusal"] = None
            self._parts.append({"text": p.text})
        elif isinstance(p, Opaque):
            if p.dialect == DIALECT:
                self._parts.append(dict(_fields(p.raw)))
            else:
                self._lost["messages.other"] = None

    def _media(self, m: Media) -> dict[str, object]:
        if m.detail not in (None, "auto"):
            self._lost["image.detail"] = None
        if m.data is not None:
            return {"inlineData": {"mimeType": mime_of(m), "data": m.data}}
        url = m.url or ""
        if m.file_id is not None:
            if not m.file_id.startswith(("files/", "https://", "gs://")):
                say = f"file_id {m.file_id!r} is no file of Google's; send the file's data or a URL"
                raise Problem("client", say, code="invalid_value", param="file_id")
            url = m.file_id
            if url.startswith("files/"):
                url = f"https://generativelanguage.googleapis.com/v1beta/{url}"
        suffix = url.partition("?")[0].rpartition(".")[2].lower()
        mime = m.mime or _SUFFIX.get(suffix)
        if mime is None and (m.kind != "file" or "generativelanguage.googleapis.com" not in url):  # it knows its own
            mime = _OF_KIND[m.kind]
        return {"fileData": ({"mimeType": mime} if mime else {}) | {"fileUri": url}}


def _arguments(text: str) -> Raw:
    """Arguments as an object; Google takes nothing else, so what a model wrote wrongly stands under one key."""
    try:
        _fields(text or "{}")
    except (msgspec.MsgspecError, RecursionError):
        return Raw(_encode({"arguments": text})) if text.strip() != "null" else Raw(b"{}")
    return Raw((text or "{}").encode())


def _response(text: str, is_error: bool) -> dict[str, object] | Raw:
    """A tool's words as the object that Google wants: its own, when they are one of several keys."""
    if is_error:
        return {"error": text}
    try:
        fields = _fields(text)
    except (msgspec.MsgspecError, RecursionError):
        return {"result": text}
    return Raw(text.encode()) if len(fields) > 1 else {"result": text}


# -- the other fields --------------------------------------------------------------------------------------------


def _tool(t: Tool, lost: dict[str, None]) -> dict[str, object]:
    if t.kind == "custom":
        lost["tools.custom"] = None
    if t.strict:
        lost["tools.strict"] = None
    if t.cache is not None:
        lost["cache_control"] = None
    t = as_function(t)
    about = {"name": t.name, "description": t.description, "parametersJsonSchema": t.schema}
    return {name: value for name, value in about.items() if value is not None}


def _calling(c: ToolChoice) -> dict[str, object]:
    return {"mode": _MODES[c.mode]} | ({"allowedFunctionNames": [c.name]} if c.mode == "named" else {})


def _generation(r: Request, target: Target, lost: dict[str, None]) -> dict[str, object]:
    said: dict[str, object] = {
        "maxOutputTokens": r.max_tokens,
        "temperature": r.temperature,
        "topP": r.top_p,
        "topK": r.top_k if r.top_k is None or r.top_k > 0 else None,  # 0 and -1 mean no limit elsewhere
        "stopSequences": list(r.stop) or None,
        "seed": r.seed,
        "candidateCount": r.n,
        "presencePenalty": r.presence_penalty,
        "frequencyPenalty": r.frequency_penalty,
        "responseLogprobs": r.logprobs,
        "logprobs": r.top_logprobs,
    }
    out = {name: value for name, value in said.items() if value is not None}
    if r.format is not None and r.format.kind != "text":
        out["responseMimeType"] = "application/json"
        if r.format.schema is not None:
            out["responseJsonSchema"] = r.format.schema
    if r.reasoning is not None and "generationConfig.thinkingConfig" not in r.extra:
        config, near = thinking_config(r.reasoning, target.model)
        if config:
            out["thinkingConfig"] = config
        lost |= dict.fromkeys(near)
    return out
