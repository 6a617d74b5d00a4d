"""The client dialects that one port serves: how a request is written in each, and what each can tell of an answer.

Written from the dialects' public references, apart from the product's own translation, so that the two can disagree.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from msgspec import Struct
from tests.conformance.kit import Facts

Body = dict[str, Any]
DEFAULT_MAX_TOKENS = 4096
"""Messages wants a limit; this one stands where the recorded request had none."""


class Door(Struct, frozen=True, kw_only=True):
    """`api` names its dialect as the recordings do, `write` makes its body of a chat body of OpenAI's.

    `same` holds the provider dialects to which bodies pass as they are, but for `ours`: fields that the gateway writes
    itself; with one of `own` in it, a recorded body means nothing to a gateway that did not serve what went before.
    `clean` matches a stream that ends in good order, `error` an event that tells of trouble.
    """

    api: str
    path: str
    key: str
    write: Callable[[Body], Body]
    clean: re.Pattern[bytes]
    error: Callable[[Body], bool]
    same: frozenset[str]
    ours: frozenset[str] = frozenset({"model"})
    own: frozenset[str] = frozenset()
    headers: str = ""

    def url(self, model: str, is_stream: bool) -> str:
        """The path to post to; only Gemini's holds the model."""
        verb = ":streamGenerateContent?alt=sse" if is_stream else ":generateContent"
        return f"{self.path}{quote(model)}{verb}" if self.path.endswith("/") else self.path

    def has_model_in_body(self) -> bool:
        return not self.path.endswith("/")


# -- requests ----------------------------------------------------------------------------------------------------


def _as_it_is(chat: Body) -> Body:
    return dict(chat)


def _parts(content: object) -> list[Body]:
    """A chat message's content as a list of parts."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content) if isinstance(content, list) else []


def _link(part: Body) -> str:
    """The address of a chat part's media, a data URL where it is given as data."""
    kind = part["type"]
    if kind == "input_audio":
        return f"data:audio/{part[kind]['format']};base64,{part[kind]['data']}"
    return str(part["file"]["file_data"] if kind == "file" else part[kind]["url"])


def _data(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data URL, None for another address."""
    if not url.startswith("data:"):
        return None
    head, _, data = url.partition(",")
    return head[5:].removesuffix(";base64"), data


def _schema(chat: Body) -> Body | None:
    return (chat.get("response_format") or {}).get("json_schema", {}).get("schema")  # type: ignore[no-any-return]


def _named(chat: Body, **names: str) -> Body:
    """The chat fields named, under the names given for them."""
    return {name: chat[field] for field, name in names.items() if chat.get(field) is not None}


def responses(chat: Body) -> Body:
    items: list[Body] = []
    for m in chat["messages"]:
        role, parts = m["role"], [_responses_part(p, m["role"]) for p in _parts(m.get("content"))]
        if role == "tool":
            output = m["content"] if isinstance(m["content"], str) else parts
            items.append({"type": "function_call_output", "call_id": m["tool_call_id"], "output": output})
            continue
        if parts:
            items.append({"type": "message", "role": role, "content": parts})
        for c in m.get("tool_calls") or ():
            items.append({"type": "function_call", "call_id": c["id"], **c["function"]})
    body: Body = {"model": chat["model"], "input": items}
    if items and items[0].get("role") == "system":
        body["instructions"] = "\n".join(p["text"] for p in items.pop(0)["content"])
    if chat.get("tools"):
        body["tools"] = [{"type": "function", **t["function"]} for t in chat["tools"]]
    choice = chat.get("tool_choice")
    if choice:
        body["tool_choice"] = choice if isinstance(choice, str) else {"type": "function", **choice["function"]}
    schema, form = _schema(chat), chat.get("response_format")
    if form:
        asked = {"type": "json_schema", "name": "out", "schema": schema} if schema else {"type": "json_object"}
        body["text"] = {"format": asked}
    named = _named(chat, temperature="temperature", top_p="top_p", max_tokens="max_output_tokens", stream="stream")
    return body | named


def _responses_part(part: Body, role: str) -> Body:
    match part["type"]:
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
        case "image_url" if _link(part).startswith("file:"):
            return {"type": "input_image", "file_id": _link(part)[5:]}
        case "image_url":
            return {"type": "input_image", "image_url": _link(part)}
        case "input_audio":
            return part
        case _ if _link(part).startswith("file:"):
            return {"type": "input_file", "file_id": _link(part)[5:]}
        case _ if _data(_link(part)):
            return {"type": "input_file", "filename": "file", "file_data": _link(part)}
        case _:
            return {"type": "input_file", "file_url": _link(part)}


def messages(chat: Body) -> Body:
    turns: list[Body] = []
    system: list[str] = []
    for m in chat["messages"]:
        blocks = list(_messages_blocks(m))
        if m["role"] == "system":
            system += [b["text"] for b in blocks]
            continue
        role = "assistant" if m["role"] == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    body: Body = {"model": chat["model"], "max_tokens": chat.get("max_tokens") or DEFAULT_MAX_TOKENS, "messages": turns}
    if system:
        body["system"] = "\n".join(system)
    if chat.get("tools"):
        body["tools"] = [_renamed(t["function"], parameters="input_schema") for t in chat["tools"]]
    choice = chat.get("tool_choice")
    if choice:
        words = {"required": "any", "auto": "auto", "none": "none"}
        by_name = {"type": "tool", **choice["function"]} if isinstance(choice, dict) else {"type": words[choice]}
        body["tool_choice"] = by_name
    if schema := _schema(chat):
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if chat.get("stop"):
        body["stop_sequences"] = [chat["stop"]] if isinstance(chat["stop"], str) else chat["stop"]
    if (chat.get("temperature") or 0) > 1:
        chat = {**chat, "temperature": 1}
    return body | _named(chat, temperature="temperature", top_p="top_p", stream="stream")


def _renamed(value: Body, **names: str) -> Body:
    return {names.get(k, k): v for k, v in value.items()}


def _messages_blocks(m: Body) -> Iterator[Body]:
    blocks = [b for p in _parts(m.get("content")) if (b := _messages_block(p))]
    if m["role"] == "tool":
        yield {"type": "tool_result", "tool_use_id": m["tool_call_id"], "content": blocks}
        return
    yield from blocks
    for c in m.get("tool_calls") or ():
        yield {
            "type": "tool_use",
            "id": c["id"],
            "name": c["function"]["name"],
            "input": json.loads(c["function"]["arguments"]),
        }


def _messages_block(part: Body) -> Body | None:
    """The part as a block, None for what Messages has no place for (sound and films)."""
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]} if part["text"].strip() else None
    if part["type"] in ("input_audio", "video_url"):
        return None
    url = _link(part)
    data = _data(url)
    if data and data[0] == "text/plain":
        text = base64.b64decode(data[1]).decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    elif data:
        source = {"type": "base64", "media_type": data[0], "data": data[1]}
    elif url.startswith("file:"):
        source = {"type": "file", "file_id": url[5:]}
    else:
        source = {"type": "url", "url": url}
    return {"type": "image" if part["type"] == "image_url" else "document", "source": source}


def gemini(chat: Body) -> Body:
    contents: list[Body] = []
    system: list[Body] = []
    before = ""
    names = {c["id"]: c["function"]["name"] for m in chat["messages"] for c in m.get("tool_calls") or ()}
    for m in chat["messages"]:
        parts = list(_gemini_parts(m, names))
        if m["role"] == "system":
            system += parts
            continue
        if m["role"] == "tool" and before == "tool":
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": "model" if m["role"] == "assistant" else "user", "parts": parts})
        before = m["role"]
    body: Body = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    if chat.get("tools"):
        declared = [_renamed(t["function"], parameters="parametersJsonSchema") for t in chat["tools"]]
        body["tools"] = [{"functionDeclarations": declared}]
    choice = chat.get("tool_choice")
    if choice:
        modes = {"required": "ANY", "auto": "AUTO", "none": "NONE"}
        how: Body = {"mode": modes[choice]} if isinstance(choice, str) else {"mode": "ANY"}
        if isinstance(choice, dict):
            how["allowedFunctionNames"] = [choice["function"]["name"]]
        body["toolConfig"] = {"functionCallingConfig": how}
    knobs = _named(
        chat,
        temperature="temperature",
        top_p="topP",
        max_tokens="maxOutputTokens",
        seed="seed",
        n="candidateCount",
        presence_penalty="presencePenalty",
        frequency_penalty="frequencyPenalty",
    )
    if chat.get("stop"):
        knobs["stopSequences"] = [chat["stop"]] if isinstance(chat["stop"], str) else chat["stop"]
    if chat.get("response_format"):
        knobs["responseMimeType"] = "application/json"
        knobs |= {"responseJsonSchema": _schema(chat)} if _schema(chat) else {}
    return body | ({"generationConfig": knobs} if knobs else {})


_MIMES = {"image_url": "image/jpeg", "video_url": "video/mp4", "file": "application/pdf"}


def _gemini_parts(m: Body, names: dict[str, str]) -> Iterator[Body]:
    if m["role"] == "tool":
        text = "\n".join(p["text"] for p in _parts(m["content"]) if p["type"] == "text")
        call = {"name": names.get(m["tool_call_id"], "unknown"), "response": {"result": text}}
        yield {"functionResponse": {"id": m["tool_call_id"], **call}}
    for part in _parts(m.get("content")):
        if part["type"] != "text":
            data = _data(_link(part))
            if data:
                yield {"inlineData": {"mimeType": data[0], "data": data[1]}}
            else:
                yield {"fileData": {"mimeType": _MIMES[part["type"]], "fileUri": _link(part)}}
        elif m["role"] != "tool":
            yield {"text": part["text"]}
    for c in m.get("tool_calls") or ():
        args = json.loads(c["function"]["arguments"])
        yield {"functionCall": {"id": c["id"], "name": c["function"]["name"], "args": args}}


# -- answers -----------------------------------------------------------------------------------------------------

ALLOWED = {
    "refused-before": "every door: what the provider refuses with 400 the gateway may refuse before, in its own words",
    "own-key": "every door: a provider that refuses the gateway's key (401, 403, or so it says in a 400) is a 502",
    "retried": "every door: a provider that fails (429, 5xx, an error in the answer itself) may be asked again",
    "unknown-word": "messages, responses, gemini: a finish that is none of stop, length, tool_calls, content_filter may"
    " be told in any word (or as an error) but as one of these four",
    "own-word": "every door: a word of the provider's that is no finish (queued) may be told as it is",
    "phantom-calls": "every door: an empty `function_call` or `custom` object (Snowflake) is no call",
    "by-calls": "messages, responses, gemini: whether a finish is told as stop or tool_calls may follow from the calls",
    "no-cache-write": "responses, gemini: usage has no count of tokens written to a cache",
    "no-usage": "messages, responses: an answer without usage may count 0 and 0",
    "refusal-text": "messages, gemini: the words of a refusal stand in the text",
    "first-candidate": "gemini: of a stream with several candidates the parser takes whichever is first in an"
    " event, so only the events of candidate 0 are shown to it",
}
"""What a door cannot tell, and how it is compared instead: the one list of allowances (`as_told`)."""
_FOUR = {"stop", "length", "tool_calls", "content_filter"}
TOLD = ("text", "tool_calls", "finish_reason", "usage")
"""The facts that every door tells."""


def as_told(door: str, want: Facts, got: Facts) -> tuple[Facts, Facts]:
    """What was said and what was told through `door`, made comparable under TOLD; ALLOWED names every step."""
    want, got = dict(want), dict(got)
    usages = want.get("usages") or [want["usage"]]
    if door in ("responses", "gemini"):
        usages = [u and {**u, "cache_write_tokens": 0} for u in usages]
    want["usage"] = got["usage"] if got["usage"] in usages else usages[0]
    for facts in (want, got):
        facts["tool_calls"] = [call for call in facts["tool_calls"] if call[0]]
    if want["finish_reason"] is None and got["finish_reason"] == want.get("native_finish"):
        want["finish_reason"] = got["finish_reason"]
    if door == "chat":
        return want, got
    if want["finish_reason"] in ("stop", "tool_calls"):
        by_calls = "tool_calls" if want["tool_calls"] else "stop"
        if got["finish_reason"] == by_calls:
            want["finish_reason"] = by_calls
    elif not {want["finish_reason"], got["finish_reason"]} & _FOUR:
        want["finish_reason"] = got["finish_reason"] = None
    if not want["usage"] and door in ("messages", "responses") and not any((got["usage"] or {}).values()):
        got["usage"] = want["usage"]
    if want.get("refusal") and not want["text"] and door in ("messages", "gemini"):
        want["text"] = want["refusal"]
    return want, got


def first_candidate(body: bytes) -> bytes:
    """Gemini's stream without the candidates after the first."""
    if b'"index"' not in body:
        return body
    out = []
    for line in body.split(b"\n"):
        try:
            event = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: {") else None
        except ValueError:
            event = None
        if event and event.get("candidates"):
            event["candidates"] = [c for c in event["candidates"] if not c.get("index")]
            line = b"data: " + json.dumps(event).encode()
        out.append(line)
    return b"\n".join(out)


DOORS: dict[str, Door] = {
    "chat": Door(
        api="openai.chat",
        path="/v1/chat/completions",
        key="Authorization: Bearer ",
        write=_as_it_is,
        clean=re.compile(rb"data: \[DONE\]\s*\Z"),
        error=lambda e: bool(e.get("error")),
        same=frozenset({"openai_chat", "azure", "mistral"}),
        ours=frozenset({"model", "stream_options"}),
    ),
    "responses": Door(
        api="openai.responses",
        path="/v1/responses",
        key="Authorization: Bearer ",
        write=responses,
        clean=re.compile(rb'"type": ?"response\.(completed|incomplete)"[^\n]*\s*(data: \[DONE\]\s*)?\Z'),
        error=lambda e: e.get("type") in ("error", "response.failed"),
        same=frozenset({"openai_responses"}),
        ours=frozenset({"model", "store", "include"}),  # the gateway keeps threads itself: nothing is stored there
        own=frozenset({"previous_response_id", "conversation"}),
    ),
    "messages": Door(
        api="anthropic.messages",
        path="/v1/messages",
        key="x-api-key: ",
        headers="anthropic-version: 2023-06-01\r\n",
        write=messages,
        clean=re.compile(rb'"type": ?"message_stop"[^\n]*\s*\Z'),
        error=lambda e: e.get("type") == "error",
        same=frozenset({"anthropic", "anthropic_vertex"}),
        ours=frozenset({"model", "anthropic_version"}),
    ),
    "gemini": Door(
        api="gemini.generate",
        path="/v1beta/models/",
        key="x-goog-api-key: ",
        write=gemini,
        clean=re.compile(rb'("finishReason"|"blockReason")[^\n]*\s*\Z'),
        error=lambda e: bool(e.get("error")),
        same=frozenset({"gemini"}),
    ),
}
