"""A request that every route would serve, and what it answers: a new route is covered once its body stands here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.gateway.rig import Answered

from lilliput.gateway.routes import TABLE, Route

HI = [{"role": "user", "content": "hi"}]
FORM_TYPE = "multipart/form-data; boundary=b"


def form(**fields: str) -> bytes:
    """An upload of a small file with these fields."""
    out = b"".join(
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    file = b'--b\r\ncontent-disposition: form-data; name="%b"; filename="a.%b"\r\ncontent-type: %b\r\n\r\n'
    head = file % ((b"image", b"png", b"image/png") if "prompt" in fields else (b"file", b"wav", b"audio/wav"))
    return out + head + b"RIFF\r\n--b--\r\n"


BODIES: dict[str, Any] = {
    "chat": {"model": "p/m", "messages": HI},
    "completions": {"model": "p/m", "prompt": "hi"},
    "responses": {"model": "p/m", "input": "hi"},
    "messages": {"model": "p/m", "max_tokens": 5, "messages": HI},
    "count_tokens": {"model": "p/m", "messages": HI},
    "generate": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "count_generate": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "embeddings": {"model": "p/m", "input": "hi"},
    "rerank": {"model": "p/m", "query": "hi", "documents": ["a"]},
    "transcription": form(model="p/m"),
    "translation": form(model="p/m"),
    "speech": {"model": "p/m", "input": "hi", "voice": "v"},
    "images": {"model": "p/m", "prompt": "hi"},
    "image_edits": form(model="p/m", prompt="hi"),
    "moderation": {"model": "p/m", "input": "hi"},
}


def calls() -> Iterator[tuple[Route, str, Any, dict[str, str | None]]]:
    """Every route of the table with the path, body and headers of a good request."""
    body: Any
    embed = {"content": {"parts": [{"text": "hi"}]}}
    for route in TABLE:
        path = route.path.replace("{id:path}", "p/m")
        name = route.operation.name if route.operation else ""
        if name == "files":
            path += "" if "p/m" in path else "?provider=p"
            uploads = route.path.endswith("/files") and route.method == "POST"
            body = form(purpose="batch") if uploads else {} if route.method == "POST" else None
        elif route.path.endswith("mbedContents") or route.path.endswith(":embedContent"):
            body = {"requests": [embed]} if "batch" in route.path else embed
        else:
            body = BODIES[name] if name else None
        yield route, path, body, {"Content-Type": FORM_TYPE} if isinstance(body, bytes) else {}


def code(answer: Answered) -> str | None:
    """The word that an error answer has for its kind, in whichever dialect it is."""
    if answer.status < 400:
        return None
    error = json.loads(answer.body)["error"]
    said: str = error["code"] if "param" in error else error.get("status") or error["type"]
    return said
