"""A provider that answers whatever it is asked, well, in every dialect: what is amiss is then the gateway's own."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from tests.gateway.rig import STREAM_HEAD, framed, json_answer

from lilliput.chaos.speech import Dialect, Finish, Mark, Piece, Role, Say, Speech, Whole

DIALECTS = {
    "chat": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic",
    "gemini": "gemini",
    "cohere": "cohere",
}
"""What the gateway's configuration calls the providers, and what each of them speaks."""
SPOKEN: dict[str, Dialect] = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}
TEXT = "It is well."
GEMINI: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
}
COMPLETION = {
    "id": "c1",
    "object": "text_completion",
    "created": 1,
    "model": "up",
    "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
COHERE = {
    "id": "c1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": TEXT}]},
    "usage": {"tokens": {"input_tokens": 3, "output_tokens": 2}},
}
COHERE_STREAM: list[dict[str, Any]] = [
    {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": TEXT}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"output_tokens": 2}}}},
]
FLAGGED = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.1}}
PLAIN: dict[str, Any] = {
    "/images/generations": {"created": 1, "data": [{"b64_json": "aGk="}]},
    "/images/edits": {"created": 1, "data": [{"b64_json": "aGk="}]},
    "/audio/transcriptions": {"text": TEXT},
    "/audio/translations": {"text": TEXT},
    "/moderations": {"id": "m1", "model": "up", "results": [FLAGGED]},
    "/rerank": {"id": "r1", "results": [{"index": 0, "relevance_score": 0.5}], "meta": {}},
    "/messages/count_tokens": {"input_tokens": 3},
    ":countTokens": {"totalTokens": 3},
    ":embedContent": {"embedding": {"values": [0.5]}},
    "/embed": {"id": "e1", "embeddings": {"float": [[0.5]]}, "meta": {"billed_units": {"input_tokens": 3}}},
}
"""The end of a path -> what is said there."""


class Provider:
    """`async with Provider() as provider:` answers on `provider.port`; `heads` keeps the last of what it was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                size = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                writer.write(answer(head.split(b" ", 2)[1].decode("latin-1"), await reader.readexactly(size)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def config(port: int) -> str:
    """The tables of a configuration in which this provider stands once for each of `DIALECTS`."""
    rows = (
        f'[providers.{name}]\ndialect = "{dialect}"\nbase = "http://127.0.0.1:{port}/v1"\n'
        f'key_env = "PROVIDER_KEY"\nallow_private = true\n'
        for name, dialect in DIALECTS.items()
    )
    return "".join(rows)


def answer(target: str, body: bytes) -> bytes:
    """The bytes of a good answer to what was asked at `target`."""
    path = target.partition("?")[0]
    if body[:1] != b"{":
        return _json(next((said for end, said in PLAIN.items() if path.endswith(end)), {"id": "f1", "object": "file"}))
    asked = json.loads(body)
    streams = asked.get("stream") is True
    for end, dialect in SPOKEN.items():
        if path.endswith(end):
            speech = Speech(dialect, streams)
            if not streams:
                return json_answer(speech.bytes_of(Whole(TEXT)))
            pieces: list[Piece] = [Role(), Say(TEXT), Finish(), Mark()]
            return STREAM_HEAD + framed(*map(speech.bytes_of, pieces))
    if path.endswith("/completions"):
        return STREAM_HEAD + framed(_event(COMPLETION), b"data: [DONE]\n\n") if streams else _json(COMPLETION)
    if path.endswith("/chat"):
        return STREAM_HEAD + framed(*map(_event, COHERE_STREAM)) if streams else _json(COHERE)
    if path.endswith(":streamGenerateContent"):
        return STREAM_HEAD + framed(_event(GEMINI))
    if path.endswith(":generateContent"):
        made = (asked.get("generationConfig") or {}).get("responseModalities") or ()
        kind = "image/png" if "IMAGE" in made else "audio/L16;codec=pcm;rate=24000" if "AUDIO" in made else ""
        part = {"inlineData": {"mimeType": kind, "data": "aGk="}}
        told = {**GEMINI["candidates"][0], "content": {"role": "model", "parts": [part]}}
        return _json(GEMINI | {"candidates": [told]} if kind else GEMINI)
    if path.endswith("/embeddings"):
        given = asked.get("input")
        count = len(given) if isinstance(given, list) and not (given and isinstance(given[0], int)) else 1
        rows = [{"object": "embedding", "index": i, "embedding": [0.5]} for i in range(count)]
        return _json({"object": "list", "data": rows, "model": "up", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    if path.endswith(":batchEmbedContents"):
        return _json({"embeddings": [{"values": [0.5]}] * len(asked.get("requests", ()))})
    if path.endswith("/embed"):
        said = PLAIN["/embed"] | {"embeddings": {"float": [[0.5]] * len(asked.get("texts") or asked["inputs"])}}
        return _json(said)
    if path.endswith("/audio/speech"):
        return b"HTTP/1.1 200 X\r\ncontent-type: audio/mpeg\r\ncontent-length: 4\r\n\r\nRIFF"
    return _json(next((said for end, said in PLAIN.items() if path.endswith(end)), {"id": "b1", "object": "batch"}))


def _json(said: Any) -> bytes:
    return json_answer(json.dumps(said).encode())


def _event(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"
