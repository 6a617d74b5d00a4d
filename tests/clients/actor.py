"""A provider that the tests play at a port of their own: OpenAI chat, Responses, Anthropic, Gemini, whole and streamed.

What it says follows from what it is asked alone, read by the recordings' own parser (`expect.facts_of`): a tool that
the prompt names is called, a schema is filled, a picture is named by its hash, other words are said back. A
model's name can play a fault: see `FAULTS`. How each dialect is spoken: `operations.speech.py`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

from tests.clients import speech
from tests.clients.speech import CACHED, Said

Json = dict[str, Any]
KEPT = 200
SLOW_EVENTS, SLOW_PAUSE_S = 600, 0.05
FAULTS = {"busy": 429, "denied": 401, "unwell": 500, "refused": 400}
"""Names of models that answer with this status; `slow` streams for half a minute unless it is left."""


def said(facts: Json) -> Said:
    """The answer to a request."""
    turns = [t for t in facts["turns"] if t["role"] != "system"]
    last = turns[-1] if turns else {"role": "user", "text": "", "media": []}
    asked = next((t["text"] for t in reversed(turns) if t["role"] == "user" and t["text"]), "")
    prompt = sum(len(t["text"].split()) + len(t["media"]) + len(t["tool_calls"]) for t in facts["turns"]) + CACHED
    if last["role"] != "tool" and (named := _called(facts, asked)):
        numbers = re.findall(r"-?\d+", asked)
        calls = []
        for i, tool in enumerate(named):
            calls.append((tool["name"], made(tool["schema"] or {"type": "object"}, asked, numbers[i:] or numbers)))
        return Said("", tuple(calls), "tool_calls", prompt, 3 * len(calls))
    if facts["schema"]:
        text = json.dumps(made(facts["schema"], asked, re.findall(r"-?\d+", asked)), ensure_ascii=False)
    elif facts["format"] == "json_object" or "nothing other than JSON" in asked:
        text = json.dumps({name: name for name in re.findall(r"'(\w+)'", asked)} or {"answer": "yes"})
    elif last["role"] == "tool":
        text = "The tool said: " + "; ".join(t["text"] for t in _trailing(turns))
    elif media := [m for t in turns for m in t["media"]]:
        text = "I see " + ", ".join(map(_seen, media))
    else:
        text = f"You said: {asked}"
    thought = "Let me think of it." if facts["reasoning"] not in (None, "none", {}) else ""
    return _limited(text, facts["params"], prompt, thought)


def made(schema: Json, asked: str, numbers: list[str], root: Json | None = None) -> Any:
    """A value that fits the schema: the numbers and the quoted words of the prompt, where it holds any."""
    root = root or schema
    if "$ref" in schema:
        at: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        return made(at, asked, numbers, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            fit: Json = next((s for s in schema[choice] if s.get("type") not in ("null", "NULL")), {})
            return made(fit, asked, numbers, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = next(k for k in kind if k != "null") if isinstance(kind, list) else kind.lower()
    if kind == "object":
        rest = list(numbers)
        value = {}
        for name, of in (schema.get("properties") or {}).items():
            value[name] = made(of, asked, rest, root)
            if of.get("type") in ("integer", "number", "INTEGER", "NUMBER") and len(rest) > 1:
                rest.pop(0)
        return value
    if kind == "array":
        return [made(schema.get("items") or {}, asked, numbers, root) for _ in range(schema.get("minItems") or 1)]
    if kind in ("integer", "number"):
        return int(numbers[0]) if numbers else 1
    if kind == "boolean":
        return True
    quoted = re.search(r"'([^']+)'", asked)
    return quoted[1] if quoted else "word"


def _called(facts: Json, asked: str) -> list[Json]:
    """The tools that the answer calls."""
    tools, choice = facts["tools"], facts["tool_choice"]
    if isinstance(choice, dict):
        return [t for t in tools if t["name"] == choice["fn"]]
    if choice == "none":
        return []
    words = asked.lower()
    exact = [t for t in tools if re.search(rf"\b{re.escape(t['name'].lower())}\b", words)]
    near = [t for t in tools if any(len(w) > 4 and w in words for w in t["name"].lower().split("_"))]
    return exact or near or (tools[:1] if choice == "required" else [])


def _trailing(turns: list[Json]) -> list[Json]:
    """The tool results that nothing follows."""
    first = next((i for i in range(len(turns), 0, -1) if turns[i - 1]["role"] != "tool"), 0)
    return turns[first:]


def _seen(media: Json) -> str:
    if "b64" in media:
        raw = base64.b64decode(media["b64"] + "==")
        return f"{media['kind']} {media['mime']} {hashlib.sha256(raw).hexdigest()[:12]}"
    return f"{media['kind']} at {media['url']}"


def _limited(text: str, params: Json, prompt: int, thought: str) -> Said:
    """The text as far as the caller's stop words and token limit let it go: a word is a token."""
    finish = "stop"
    stops = params.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    words = re.findall(r"\s*\S+", text)
    limit = params.get("max_tokens")
    if limit is not None and len(words) > limit:
        words, finish = words[:limit], "length"
    return Said("".join(words), (), finish, prompt, len(words), thought)


class Actor:
    """`with Actor(expect) as actor:` answers at `actor.base` until the block ends."""

    def __init__(self, expect: ModuleType) -> None:
        self.received: deque[Json] = deque(maxlen=KEPT)
        self.left = 0
        actor = self

        class Door(_Door):
            owner = actor
            parser = expect

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Actor:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Door(BaseHTTPRequestHandler):
    """One connection. GET /received and /left tell the tests what came and how many streams were left."""

    owner: Actor
    parser: ModuleType
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        told = {"/received": list(self.owner.received), "/left": self.owner.left}
        if self.path in told:
            self._send(200, told[self.path])
        else:
            self._send(404, speech.problem("openai.chat", 404, f"nothing is at {self.path}"))

    do_DELETE = do_GET

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0]
        self.owner.received.append({"path": path, "json": body})
        vectors = speech.vectors(path, body)
        if vectors is not None:
            self._send(200, vectors)
            return
        api = speech.dialect(path)
        if api is None:
            self._send(404, speech.problem("openai.chat", 404, f"nothing is at {path}"))
            return
        counts = path.endswith(("count_tokens", ":countTokens"))
        try:
            facts = self.parser.facts_of(api, path, body.get("generateContentRequest", body) if counts else body)
            answer = said(facts)
        except (AttributeError, LookupError, TypeError, ValueError) as e:
            self._send(400, speech.problem(api, 400, f"the request cannot be read: {e}"))
            return
        if counts:
            self._send(200, {"input_tokens": answer.prompt, "totalTokens": answer.prompt})
            return
        model = str(facts["model"])
        if (status := FAULTS.get(model)) is not None:
            self._send(status, speech.problem(api, status, f"the provider is {model}"))
        elif not facts["stream"]:
            self._send(200, speech.whole(api, model, answer))
        elif model == "slow":
            self._stream(_slowly(speech.events(api, model, Said("tick " * SLOW_EVENTS, (), "stop", 1, SLOW_EVENTS))))
        else:
            self._stream(speech.events(api, model, answer))

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _send(self, status: int, answer: object) -> None:
        body = json.dumps(answer, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for event in events:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.owner.left += 1
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.close()


def _slowly(events: Iterator[bytes]) -> Iterator[bytes]:
    for event in events:
        yield event
        time.sleep(SLOW_PAUSE_S)
