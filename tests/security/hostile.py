"""Hostile requests over every route of the table, each made from a seed and its number, and what may be answered.

The table is walked, so a new route is attacked as soon as it stands there. The provider behind answers well: any 5xx
is the gateway's own fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct
from tests.gateway import calls
from tests.gateway.rig import Answered, parse
from tests.gateway.test_fuzz import BITS, RICH, WHOLES, by_bytes, by_value
from tests.live import Live
from tests.security.provider import DIALECTS, Provider, config

from lilliput.gateway.routes import TABLE, Route, Routes
from lilliput.neutral import Problem

AT_ONCE = 8
ANSWER_S = 20.0
MOST_FAULTS = 20
SETTINGS = "[ledger]\non = true\n[receipts]\non = true\n[cache]\non = true\n"

MODELS = [f"{name}/m" for name in DIALECTS] * 4 + [
    "m", "", " ", "/", "chat/", "/m", "none/m", "chat/" + "m" * 3000, "chat/\u00e9\u4e2d", "chat/../../etc", "CHAT/M",
    "chat/m%00", "chat/m?x=1", "chat/m#x", "http://127.0.0.1:1/v1", "chat/m:free", "chat/m\\n", "~", "models/gemini/m",
]  # fmt: skip
IDS = [
    "x", "resp_1", "chat/file-1", "..", ".", "../../etc/passwd", "%2e%2e%2f%2e%2e", "%00", "%ff%fe", "%0d%0aX-A:b", "%",
    "%zz", "a%2fb", "\u00e9", "'--", "1 OR 1=1".replace(" ", "%20"), "{id:path}", "a" * 3000, "//", "chat/m", "m/x:y",
    "%e2%80%a8", "x;y", "%25%30%30", "models/chat/m", "chat%2Fm", "x/content", "x/cancel", ":generateContent",
]  # fmt: skip
QUERIES = [
    "", "", "?", "?provider=chat", "?provider=", "?provider=none", "?provider=chat&provider=gemini", "?provider=%00",
    "?alt=sse", "?alt=json", "?key=x", "?limit=NaN", "?limit=-1&after=%ff", "?" + "a=1&" * 2000, "?%", "?&&&==",
    "?a[]=1",
    "?provider=http://127.0.0.1/", "?stream=true", "?beta=true", "?" + "%2e" * 500, "?after=file-1&limit=1e309",
    "?order='%20OR%201=1--", "?provider=chat%0d%0aX:y", "??", "?limit=9999999999999999999999", "?pageSize=-1",
]  # fmt: skip
TYPES = [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=",
    'multipart/form-data; boundary="', "multipart/form-data; boundary=" + "b" * 300, "application/json; charset=utf-16",
    "application/json;;;", "a/b/c", "/", " ", ";", "application/JSON", "multipart/mixed; boundary=b", "text/json",
    "application/json, text/plain", "multipart/form-data; boundary=\u00e9", "application/" + "x" * 3000,
]  # fmt: skip
HEADERS: list[tuple[str, list[str]]] = [
    ("Accept", ["text/event-stream", "", "x" * 3000, "a/b;q=nan"]),
    ("Accept-Encoding", ["gzip", "identity;q=0", "br, *;q=0"]),
    ("Content-Encoding", ["gzip", "deflate", "x"]),
    ("Expect", ["100-continue", "200-ok"]),
    ("Range", ["bytes=0-", "bytes=-1", "x"]),
    ("Idempotency-Key", ["", "x", "k" * 3000, "\u00e9", "'--", "\x01"]),
    ("X-Lilliput-Provider", ["chat", "none", "http://127.0.0.1", "", "a/b", "\u00ff"]),
    ("X-Lilliput-Tag", ["t", "", "x" * 3000, "a=b,c", "{{7*7}}"]),
    ("X-Lilliput-Cache", ["on", "off", "x", "", "ttl=-1", "ttl=1e309"]),
    ("Anthropic-Version", ["2023-06-01", "x", ""]),
    ("Anthropic-Beta", ["x", "a,b," * 300]),
    ("OpenAI-Organization", ["x", "\u00ff"]),
    ("Cookie", ["a=b", "=" * 3000]),
    ("X-Forwarded-For", ["127.0.0.1", "x"]),
    ("X-Forwarded-Host", ["evil.test", ""]),
    ("X-HTTP-Method-Override", ["DELETE"]),
    ("X-Original-URL", ["/readyz"]),
    ("Transfer-Encoding", ["chunked", "gzip", "identity"]),
    ("Content-Length", ["0", "-1", "1e3", "99999999999999999999", "\u0661", "10485761"]),
    ("Upgrade", ["h2c", "websocket"]),
    ("Connection", ["upgrade", "close, x", ""]),
    ("Authorization", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer \x00", "Bearer " + "x" * 3000, "bearer \u00ff"]),
    ("X-Api-Key", ["", "x", "lil_" + "a" * 48]),
    ("X-Goog-Api-Key", ["", "x"]),
    ("Host", ["", "a/x?", "a#", "u@a", "\u00ff", "a" * 3000]),
    ("Traceparent", ["00-0-0-0", "x"]),
]
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "QUERY"]
EXTRA: dict[str, list[dict[str, Any]]] = {
    "chat": [RICH],
    "responses": [{
        "model": "p/m", "instructions": "be brief", "previous_response_id": "resp_1", "store": False, "stream": True,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image",
                  "image_url": "data:image/png;base64,aGk="}]}, {"type": "function_call", "call_id": "c", "name": "f",
                  "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": "1"},
                  {"type": "item_reference", "id": "i"}],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}, "max_output_tokens": 9,
        "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}, "include": ["x"], "top_p": 1}],
    "messages": [{
        "model": "p/m", "max_tokens": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "stream": True, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image",
                 "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]}, {"role": "assistant",
                 "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "tool_use", "id": "t",
                 "name": "f", "input": {"a": 1}}]}, {"role": "user", "content": [{"type": "tool_result",
                 "tool_use_id": "t", "content": [{"type": "text", "text": "1"}]}]}], "stop_sequences": ["x"],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"}, "temperature": 1}],
    "generate": [{
        "systemInstruction": {"parts": [{"text": "s"}]}, "contents": [{"role": "user", "parts": [{"text": "x"},
                 {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}, {"role": "model", "parts": [
                 {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}]}, {"role": "user", "parts": [
                 {"functionResponse": {"name": "f", "response": {"a": 1}}}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"temperature": 1, "maxOutputTokens": 9, "stopSequences": ["x"], "candidateCount": 1,
                 "responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"},
                 "thinkingConfig": {"thinkingBudget": 1}}, "safetySettings": [{"category": "x", "threshold": "y"}]}],
    "completions": [{"model": "p/m", "prompt": ["a", "b"], "suffix": "s", "n": 1, "logprobs": 1, "echo": False,
                     "stream": True, "stop": ["x"], "best_of": 1, "max_tokens": 9}],
    "rerank": [{"model": "p/m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True}],
    "images": [{"model": "p/m", "prompt": "x", "n": 1, "size": "1024x1024", "response_format": "b64_json",
                "stream": False,
                "partial_images": 0, "quality": "low", "background": "auto"}],
    "speech": [{"model": "p/m", "input": "x", "voice": {"id": "v"}, "response_format": "mp3", "speed": 1.0,
                "stream_format": "audio", "instructions": "i"}],
    "moderation": [{"model": "p/m", "input": [{"type": "text", "text": "x"}, {"type": "image_url",
                    "image_url": {"url": "data:image/png;base64,aGk="}}]}],
}  # fmt: skip
"""More of what each operation knows, so that more can be spoilt."""
ROUTES = Routes()


class Base(Struct, frozen=True):
    """A good request for a route, before it is spoilt."""

    route: Route
    body: Any
    headers: dict[str, str | None]


class Case(Struct, frozen=True):
    """A spoilt request. `loose`: it may be refused before its route is known. `ends`: the client sends no more."""

    kind: str
    method: str
    target: str
    data: bytes
    loose: bool = False
    ends: bool = False


def bases() -> list[Base]:
    """Every route of the table, with each body that is known for it."""
    found = []
    for route, _, body, headers in calls.calls():
        name = route.operation.name if route.operation is not None else ""
        found += [Base(route, more, headers) for more in (body, *EXTRA.get(name, ()))]
    return found


BASES = bases()
LIGHT = [base for base in BASES if base.body is None]
HEAVY = [base for base in BASES if base.body is not None]


def case(seed: int, number: int, key: str) -> Case:
    """The request with this number: the same for ever."""
    dice = random.Random(seed * 1_000_003 + number)
    base = dice.choice(HEAVY if dice.random() < 0.85 else LIGHT)
    method: str = base.route.method
    body, headers, loose, ends = base.body, dict(base.headers), False, False
    target = base.route.path.replace("{id:path}", dice.choice(MODELS[:20] if base.route.method == "POST" else IDS))
    if "name" in str(target) or (base.route.operation is not None and base.route.operation.name == "files"):
        target += dice.choice(("?provider=chat", "", "?provider=gemini"))
    kind = dice.choice(KINDS if body is not None else LIGHT_KINDS)
    data = _bytes(dice, body)
    match kind:
        case "value" | "bytes" if isinstance(body, dict):
            data = _spoilt(dice, kind, body)
        case "value" | "bytes" | "form":
            data, headers = _form(dice, data)
        case "whole":
            data = dice.choice(WHOLES)
        case "type":
            headers["Content-Type"] = dice.choice((*TYPES, None))
        case "path":
            target = _path(dice, base.route)
        case "query":
            target = target.partition("?")[0] + dice.choice(QUERIES)
        case "method":
            method = dice.choice(METHODS)
        case "headers":
            loose = True
            for name, values in dice.sample(HEADERS, dice.choice((1, 1, 2, 5))):
                headers[name] = dice.choice(values)
        case "framing":
            loose = ends = True
            cut = dice.choice((-1, 1, 7, 1000, -len(data)))
            headers["Content-Length"] = str(max(0, len(data) + cut))
    return Case(kind, method, target, _request(method, target, data, headers, key), loose, ends)


KINDS = [*["value"] * 9, *["bytes"] * 6, "whole", "form", "form", "type", "path", "query", "method", "headers",
         "headers",
         "headers", "framing"]  # fmt: skip
LIGHT_KINDS = ["path", "path", "path", "query", "method", "headers", "headers", "type", "framing"]


def _bytes(dice: random.Random, body: Any) -> bytes:
    if body is None or isinstance(body, bytes):
        return (body or b"").replace(b"p/m", dice.choice(MODELS).encode())
    return json.dumps(_asking(dice, body)).encode()


def _asking(dice: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "model": dice.choice(MODELS)} if "model" in body else body


def _spoilt(dice: random.Random, kind: str, body: dict[str, Any]) -> bytes:
    return (by_value if kind == "value" else by_bytes)(dice, _asking(dice, body))


def _form(dice: random.Random, data: bytes) -> tuple[bytes, dict[str, str | None]]:
    """A multipart body broken in one of the ways that there are."""
    boundary, kind = "b", calls.FORM_TYPE
    if not data.startswith(b"--"):
        data = calls.form(model=dice.choice(MODELS), purpose="batch", prompt="x")
    head = b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    match dice.randrange(14):
        case 0:
            data = data[: dice.randrange(len(data) + 1)]
        case 1:
            data = data.replace(b"\r\n", b"\n")
        case 2:
            data = data.replace(b"--b--", b"--b")
        case 3:
            kind = f"multipart/form-data; boundary={dice.choice(['c', '', 'b' * 71, 'b b', '-', '%00'])}"
        case 4:
            data = (head % (b"x", b"y")) * 2000 + data
        case 5:
            data = head % (b"model", b"chat/m") + data
        case 6:
            data = head % (dice.choice([b"", b"a\x00", b"\xff", b'"', b"\r\n", b"x" * 9000]), b"v") + data
        case 7:
            data = data.replace(b"form-data", dice.choice([b"", b"attachment", b"form-data;;;", b"x" * 9000]))
        case 8:
            data = data.replace(b"a.wav", dice.choice([b"../../x", b"", b"\x00", b"a\r\nb: c", b"x" * 9000, b"\xff"]))
        case 9:
            data = b"--b\r\n" * dice.choice((1, 5000)) + data
        case 10:
            data = data.replace(b"\r\n\r\n", b"\r\n" + b"x-a: b\r\n" * dice.choice((1, 5000)) + b"\r\n")
        case 11:
            data = data + data
        case 12:
            name = dice.choice([b"n", b"temperature", b"stream", b"response_format", b"timestamp_granularities[]"])
            value = dice.choice([b"NaN", b"1e309", b"", b"\xff\xfe", b"9" * 5000, b"true", b"[]"])
            data = head % (name, value) + data
        case _:
            at = dice.randrange(len(data) + 1)
            data = data[:at] + dice.choice(BITS) + data[at:]
    return data, {"Content-Type": kind.replace("=b", f"={boundary}", 1) if kind == calls.FORM_TYPE else kind}


def _path(dice: random.Random, route: Route) -> str:
    path = route.path.replace("{id:path}", dice.choice(IDS))
    match dice.randrange(8):
        case 0:
            return path + dice.choice(["/", "//", "%00", "/..", "%2f", ".", ";x", "/x", "?", "#x"])
        case 1:
            return path.replace("/", dice.choice(["//", "/./", "%2f", "/x/../", "\\"]))
        case 2:
            return path.upper()
        case 3:
            at = dice.randrange(1, len(path) + 1)
            return path[:at] + dice.choice(["%", "%ff", "%00", "\u00e9", "%0a", "*", "'", "\\", "%u0041"]) + path[at:]
        case 4:
            return f"http://{dice.choice(['t', 'evil.test', '127.0.0.1:1', '', 'a@b'])}{path}"
        case _:
            return path


def _request(method: str, target: str, data: bytes, headers: dict[str, str | None], key: str) -> bytes:
    lines: dict[str, str | None] = {
        "Host": "t",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        "Authorization": f"Bearer {key}",
    }
    lines |= headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    target = target.replace(" ", "%20").replace("\r", "%0d").replace("\n", "%0a").replace("\x00", "%00")
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + data


# -- what may be answered


def fault(asked: Case, got: Answered) -> str | None:
    """What is wrong with an answer, None for nothing."""
    if got.status >= 500 and not (got.status == 503 and asked.target.partition("?")[0] == "/readyz"):
        return f"status {got.status}: {got.body[:300]!r}"
    if not got.is_whole:
        return "a cut answer"
    if not got.headers.get("x-request-id"):
        return "no x-request-id"
    if asked.method == "HEAD" or got.status == 503:
        return None
    if got.status < 300:
        broken = got.headers.get("content-type", "").startswith("text/event-stream") and b'"error":{' in got.body
        return f"a stream that broke: {got.body[-300:]!r}" if broken else None
    if got.status < 400:
        return f"status {got.status}"
    told = shape(got.body)
    right = dialect(asked)
    if told is None or (told != right and not (asked.loose and told in ("openai", *_wished(asked)))):
        return f"told in the form of {told}, not {right}: {got.body[:300]!r}"
    return None


def _wished(asked: Case) -> tuple[str, ...]:
    """The dialect that a header may ask for where a path leaves it open."""
    head = asked.data.lower()
    named = {b"anthropic-version": "anthropic", b"x-api-key": "anthropic", b"x-goog-api-key": "gemini"}
    return tuple(dialect for name, dialect in named.items() if name in head) if "/models" in asked.target else ()


def dialect(asked: Case) -> str:
    """The form that problems are told in at this target."""
    if not asked.target.isascii():
        return "openai"  # what is no HTTP is refused before its route is known
    try:
        named = ROUTES.find_raw(asked.method.encode(), asked.target.encode()).dialect
    except Problem:
        return "openai"
    return named if named in ("anthropic", "gemini") else "openai"


def shape(body: bytes) -> str | None:
    """Whose form an error has, None for nobody's."""
    try:
        told = json.loads(body)
        error = told["error"]
        message = error["message"]
    except (ValueError, KeyError, TypeError):
        return None
    if not message or len(message) > 4000 or any(c < " " and c not in "\n\t" for c in message):
        return None
    if set(error) == {"message", "type", "param", "code"} and set(told) == {"error"}:
        return "openai"
    if told.get("type") == "error" and isinstance(error.get("type"), str):
        return "anthropic"
    if isinstance(error.get("code"), int) and isinstance(error.get("status"), str):
        return "gemini"
    return None


# -- asking


class Seen(Struct):
    """What came of a run: answers by status and by route, and the first faults as (number, what)."""

    statuses: Counter[int]
    targets: Counter[str]
    faults: list[tuple[int, str]]
    took_s: float = 0.0
    grew_bytes: int = 0

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())


async def attack(
    port: int, key: str, seed: int, numbers: range, seen: Seen, tell: Callable[[int], None] = lambda done: None
) -> None:
    """Sends these requests over a few kept connections; every answer is judged."""
    todo = iter(numbers)
    await asyncio.gather(*(_caller(port, key, seed, todo, seen, tell) for _ in range(AT_ONCE)))


async def _caller(port: int, key: str, seed: int, todo: Iterator[int], seen: Seen, tell: Callable[[int], None]) -> None:
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for number in todo:
        if len(seen.faults) >= MOST_FAULTS:
            break
        asked = case(seed, number, key)
        if client is None:
            client = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
        client[1].write(asked.data)
        if asked.ends:
            client[1].write_eof()
        got: Answered | None = None
        wrong: str | None
        try:
            async with asyncio.timeout(ANSWER_S):
                got = await read_one(client[0], asked.method == "HEAD")
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as e:
            wrong = f"no answer: {type(e).__name__}"
        else:
            seen.statuses[got.status] += 1
            seen.targets[asked.target] += 1
            wrong = fault(asked, got)
        if wrong is not None:
            seen.faults.append((number, f"{asked.kind}: {asked.method} {asked.target[:200]}: {wrong}"))
        if got is None or asked.loose or got.headers.get("connection") == "close":
            client[1].close()
            client = None
        tell(number)
    if client is not None:
        client[1].close()


async def read_one(reader: asyncio.StreamReader, headless: bool = False) -> Answered:
    """The next final answer on a connection; raises IncompleteReadError when there is none."""
    data = await reader.readuntil(b"\r\n\r\n")
    head = data.lower()
    if head.startswith(b"http/1.1 100"):
        return await read_one(reader, headless)
    if headless:
        answered = parse(data)
        answered.is_whole = True
        return answered
    if b"content-length: " in head:
        return parse(data + await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0])))
    if b"transfer-encoding: chunked" not in head:
        return parse(data + await reader.read())
    while True:
        line = await reader.readuntil(b"\r\n")
        data += line + await reader.readexactly(int(line, 16) + 2)
        if line == b"0\r\n":
            return parse(data)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def siege(seed: int, numbers: range, tell: Callable[[int], None] = lambda done: None, warm: int = 2000) -> Seen:
    """The requests with these numbers against a gateway of its own, whose provider answers well."""
    seen = Seen(Counter(), Counter(), [])

    async def main() -> None:
        async with Provider() as provider:
            with live(provider) as gateway:
                port = int(gateway.base.rpartition(":")[2])
                await attack(port, gateway.key, -1, range(warm), Seen(Counter(), Counter(), []))
                before, began = resident_bytes(gateway.pid), time.monotonic()
                await attack(port, gateway.key, seed, numbers, seen, tell)
                seen.took_s = time.monotonic() - began
                seen.grew_bytes = resident_bytes(gateway.pid) - before
                if "Traceback" in gateway.printed:
                    seen.faults.append((-1, f"a traceback was printed: {gateway.printed[-2000:]}"))

    asyncio.run(main())
    return seen


@contextlib.contextmanager
def live(provider: Provider, settings: str = SETTINGS, **more: Any) -> Iterator[Live]:
    with Live(
        settings + config(provider.port), env={"PROVIDER_KEY": "sk-up", **more.pop("env", {})}, **more
    ) as gateway:
        yield gateway


def missed(seen: Seen) -> list[str]:
    """Routes of the table that no request came to."""
    return [r.path for r in TABLE if "{" not in r.path and not any(t.startswith(r.path) for t in seen.targets)]
