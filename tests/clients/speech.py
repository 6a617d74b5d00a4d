"""The answers of the played provider as bytes on the wire, in each dialect's own documented form. No wits in here."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

Json = dict[str, Any]
CACHED, THOUGHT_TOKENS = 3, 2
SIGNATURE = "c2lnbmVkIGJ5IHRoZSBwbGF5ZWQgcHJvdmlkZXI="
SIZE = 8
_number = itertools.count(1)

PATHS = {
    "openai.chat": re.compile(r"/chat/completions$"),
    "openai.responses": re.compile(r"/responses$"),
    "anthropic.messages": re.compile(r"/messages(/count_tokens)?$"),
    "gemini.generate": re.compile(r":(generateContent|streamGenerateContent|countTokens)$"),
}


class Said(Struct, frozen=True):
    """`prompt` holds CACHED tokens that came from a cache; `tokens` are those of text and calls, without thinking."""

    text: str
    calls: tuple[tuple[str, Any], ...]
    finish: str
    prompt: int
    tokens: int
    thought: str = ""

    @property
    def thought_tokens(self) -> int:
        return THOUGHT_TOKENS if self.thought else 0


def dialect(path: str) -> str | None:
    return next((api for api, pattern in PATHS.items() if pattern.search(path)), None)


def whole(api: str, model: str, said: Said) -> Json:
    return {
        "openai.chat": _chat,
        "openai.responses": _response,
        "anthropic.messages": _message,
        "gemini.generate": _gemini,
    }[api](model, said)


def events(api: str, model: str, said: Said) -> Iterator[bytes]:
    return {
        "openai.chat": _chat_events,
        "openai.responses": _response_events,
        "anthropic.messages": _message_events,
        "gemini.generate": _gemini_events,
    }[api](model, said)


def problem(api: str, status: int, say: str) -> Json:
    if api == "anthropic.messages":
        kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        return {"type": "error", "error": {"type": kind.get(status, "api_error"), "message": say}}
    if api == "gemini.generate":
        word = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
        return {"error": {"code": status, "message": say, "status": word}}
    word = "rate_limit_exceeded" if status == 429 else "invalid_request_error"
    return {"error": {"message": say, "type": word, "param": None, "code": None}}


def vectors(path: str, body: Json) -> Json | None:
    """The answer to a request for embeddings, None when it is no such request."""
    if path.endswith("/embeddings"):
        given = body["input"]
        texts = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
        form = _packed if body.get("encoding_format") == "base64" else list
        data = [{"object": "embedding", "index": i, "embedding": form(_vector(str(t)))} for i, t in enumerate(texts)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}
    if path.endswith(":batchEmbedContents"):
        texts = ["".join(p["text"] for p in r["content"]["parts"]) for r in body["requests"]]
        return {"embeddings": [{"values": _vector(t)} for t in texts]}
    if path.endswith(":embedContent"):
        return {"embedding": {"values": _vector("".join(p["text"] for p in body["content"]["parts"]))}}
    return None


def _vector(text: str) -> list[float]:
    return [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:SIZE]]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _id(prefix: str) -> str:
    return f"{prefix}{next(_number):08d}"


def _sse(data: Json, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text) or [""]


# OpenAI chat


def _chat_usage(said: Said) -> Json:
    output = said.tokens + said.thought_tokens
    return {
        "prompt_tokens": said.prompt,
        "completion_tokens": output,
        "total_tokens": said.prompt + output,
        "prompt_tokens_details": {"cached_tokens": CACHED},
        "completion_tokens_details": {"reasoning_tokens": said.thought_tokens},
    }


def _chat_calls(said: Said) -> list[Json]:
    return [
        {"id": _id("call_"), "type": "function", "function": {"name": name, "arguments": _arguments(args)}}
        for name, args in said.calls
    ]


def _arguments(args: Any) -> str:
    return json.dumps(args, ensure_ascii=False)


def _chat(model: str, said: Said) -> Json:
    message: Json = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if said.calls:
        message["tool_calls"] = _chat_calls(said)
    choice = {"index": 0, "message": message, "finish_reason": said.finish, "logprobs": None}
    head = {"id": _id("chatcmpl-"), "object": "chat.completion", "created": 1_790_000_000, "model": model}
    return {**head, "choices": [choice], "usage": _chat_usage(said)}


def _chat_events(model: str, said: Said) -> Iterator[bytes]:
    head = {"id": _id("chatcmpl-"), "object": "chat.completion.chunk", "created": 1_790_000_000, "model": model}

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        return _sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})

    yield chunk({"role": "assistant", "content": ""})
    if said.thought:
        yield chunk({"reasoning_content": said.thought})
    for piece in _pieces(said.text) if said.text else ():
        yield chunk({"content": piece})
    for i, call in enumerate(_chat_calls(said)):
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = ""
        yield chunk({"tool_calls": [{"index": i, **call}]})
        for part in (arguments[:5], arguments[5:]):
            yield chunk({"tool_calls": [{"index": i, "function": {"arguments": part}}]})
    yield chunk({}, said.finish)
    yield _sse({**head, "choices": [], "usage": _chat_usage(said)})
    yield b"data: [DONE]\n\n"


# Anthropic messages

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _blocks(said: Said) -> list[Json]:
    blocks: list[Json] = []
    if said.thought:
        blocks.append({"type": "thinking", "thinking": said.thought, "signature": SIGNATURE})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    return blocks + [{"type": "tool_use", "id": _id("toolu_"), "name": name, "input": a} for name, a in said.calls]


def _message(model: str, said: Said) -> Json:
    return {
        "id": _id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _blocks(said),
        "stop_reason": _STOPS[said.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": said.prompt - CACHED,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": CACHED,
            "output_tokens": said.tokens + said.thought_tokens,
        },
    }


def _message_events(model: str, said: Said) -> Iterator[bytes]:
    message = _message(model, said)
    usage = {**message["usage"], "output_tokens": 1}
    started = {**message, "content": [], "stop_reason": None, "usage": usage}
    yield _sse({"type": "message_start", "message": started}, "message_start")
    for index, block in enumerate(message["content"]):
        empty: Json = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "tool_use": {"input": {}}}
        begun = {**block, **empty[block["type"]]}
        yield _sse({"type": "content_block_start", "index": index, "content_block": begun}, "content_block_start")
        if index == 0:
            yield _sse({"type": "ping"}, "ping")
        for delta in _block_deltas(block):
            yield _sse({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
        yield _sse({"type": "content_block_stop", "index": index}, "content_block_stop")
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _sse({"type": "message_delta", "delta": ended, "usage": message["usage"]}, "message_delta")
    yield _sse({"type": "message_stop"}, "message_stop")


def _block_deltas(block: Json) -> Iterator[Json]:
    if block["type"] == "text":
        for piece in _pieces(block["text"]):
            yield {"type": "text_delta", "text": piece}
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        arguments = _arguments(block["input"]) if block["input"] else ""  # as Anthropic streams a call with none
        for part in ("", arguments[:5], arguments[5:]) if arguments else ("",):
            yield {"type": "input_json_delta", "partial_json": part}


# Gemini

_ENDS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}


def _gemini_usage(said: Said) -> Json:
    usage = {
        "promptTokenCount": said.prompt,
        "candidatesTokenCount": said.tokens,
        "totalTokenCount": said.prompt + said.tokens + said.thought_tokens,
        "cachedContentTokenCount": CACHED,
    }
    return {**usage, "thoughtsTokenCount": said.thought_tokens} if said.thought else usage


def _parts(said: Said) -> list[Json]:
    parts: list[Json] = [{"text": said.thought, "thought": True}] if said.thought else []
    if said.text:
        parts.append({"text": said.text})
    for i, (name, args) in enumerate(said.calls):
        signed = {"thoughtSignature": SIGNATURE} if i == 0 else {}
        parts.append({"functionCall": {"name": name, "args": args}, **signed})
    return parts


def _gemini(model: str, said: Said) -> Json:
    content = {"role": "model", "parts": _parts(said)}
    candidate = {"content": content, "finishReason": _ENDS[said.finish], "index": 0}
    ids = {"modelVersion": model, "responseId": _id("gem")}
    return {"candidates": [candidate], "usageMetadata": _gemini_usage(said), **ids}


def _gemini_events(model: str, said: Said) -> Iterator[bytes]:
    last = _gemini(model, said)
    ids = {k: last[k] for k in ("modelVersion", "responseId", "usageMetadata")}
    parts = [p for part in _parts(said) for p in _split(part)]
    for part in parts[:-1]:
        content = {"role": "model", "parts": [part]}
        yield _sse({"candidates": [{"content": content, "index": 0}], **ids})
    last["candidates"][0]["content"]["parts"] = parts[-1:]
    yield _sse(last)


def _split(part: Json) -> list[Json]:
    return [{**part, "text": piece} for piece in _pieces(part["text"])] if "text" in part else [part]


# OpenAI Responses


def _items(said: Said) -> list[Json]:
    items: list[Json] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": said.thought}]
        items.append({"type": "reasoning", "id": _id("rs_"), "summary": summary, "encrypted_content": SIGNATURE})
    if said.text:
        content = [{"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}]
        items.append({"type": "message", "id": _id("msg_"), "role": "assistant", "content": content})
    for name, args in said.calls:
        call = {"call_id": _id("call_"), "name": name, "arguments": _arguments(args)}
        items.append({"type": "function_call", "id": _id("fc_"), **call})
    return [{**item, "status": "completed"} for item in items]


def _response(model: str, said: Said) -> Json:
    output = said.tokens + said.thought_tokens
    cut = said.finish == "length"
    return {
        "id": _id("resp_"),
        "object": "response",
        "created_at": 1_790_000_000,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": model,
        "output": _items(said),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": said.prompt,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": said.thought_tokens},
            "total_tokens": said.prompt + output,
        },
    }


def _response_events(model: str, said: Said) -> Iterator[bytes]:
    response = _response(model, said)
    number = itertools.count()

    def event(kind: str, **fields: Any) -> bytes:
        return _sse({"type": kind, "sequence_number": next(number), **fields}, kind)

    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        empty: Json = {"message": {"content": []}, "function_call": {"arguments": ""}, "reasoning": {"summary": []}}
        opened = {**item, **empty[item["type"]], "status": "in_progress"}
        yield event("response.output_item.added", output_index=index, item=opened)
        if item["type"] == "function_call":
            whole_ = item["arguments"]
            for part in (whole_[:5], whole_[5:]):
                yield event("response.function_call_arguments.delta", delta=part, **at)
            yield event("response.function_call_arguments.done", arguments=whole_, name=item["name"], **at)
        elif item["type"] == "message":
            part_, text = item["content"][0], item["content"][0]["text"]
            yield event("response.content_part.added", content_index=0, part={**part_, "text": ""}, **at)
            for piece in _pieces(text):
                yield event("response.output_text.delta", content_index=0, delta=piece, logprobs=[], **at)
            yield event("response.output_text.done", content_index=0, text=text, logprobs=[], **at)
            yield event("response.content_part.done", content_index=0, part=part_, **at)
        else:
            part_, text = item["summary"][0], item["summary"][0]["text"]
            blank = {**part_, "text": ""}
            yield event("response.reasoning_summary_part.added", summary_index=0, part=blank, **at)
            yield event("response.reasoning_summary_text.delta", summary_index=0, delta=text, **at)
            yield event("response.reasoning_summary_text.done", summary_index=0, text=text, **at)
            yield event("response.reasoning_summary_part.done", summary_index=0, part=part_, **at)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{response['status']}", response=response)
