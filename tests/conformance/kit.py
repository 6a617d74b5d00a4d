"""The recordings' own tools, loaded from their folder at run time: the replay server and the parser of facts."""

from __future__ import annotations

import asyncio
import base64
import bisect
import importlib
import itertools
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

CLOSE_S = 5.0
TOOLS = ("replay.py", "expect.py")

Interaction = dict[str, Any]
"""One recorded request and its answer, as the folder's README describes it."""
Facts = dict[str, Any]
"""What an answer said or a request asked, as `expect.py` tells it."""


def default_folder() -> Path:
    """Where recordings are looked for: LILLIPUT_RECORDINGS, else `shared/recordings` beside the repository."""
    given = os.environ.get("LILLIPUT_RECORDINGS")
    return Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "recordings"


class Kit:
    """A folder of recordings with its tools, or with those of the default folder where it has none of its own.

    `is_strict` judges by the parser alone, without `corrections`. Raises FileNotFoundError without recordings or tools.
    """

    def __init__(self, folder: Path, is_strict: bool = False) -> None:
        self.is_strict = is_strict
        if not any(folder.glob("*.json*")):
            raise FileNotFoundError(f"{folder} is no folder of recordings: it has no *.json.gz")
        places = [at for at in (folder, default_folder()) if all((at / name).is_file() for name in TOOLS)]
        if not places:
            raise FileNotFoundError(f"{folder} lacks {' and '.join(TOOLS)}, and so does {default_folder()}")
        sys.path.insert(0, str(places[0]))
        try:
            self.expect: ModuleType = importlib.import_module("expect")
            self.replay: ModuleType = importlib.import_module("replay")
        finally:
            sys.path.remove(str(places[0]))
        self.interactions: list[Interaction] = self.expect.load_dir(str(folder))

    def answer_facts(self, api: str, kind: str, status: int, body: bytes) -> Facts:
        """What an answer said; raises ValueError when the body cannot be read as one of that dialect."""
        packed = base64.b64encode(body).decode()
        seen = {"api": api, "kind": kind, "response": {"status": status, "body_b64": packed}}
        try:
            return dict(self.expect.response_facts(seen))
        except (ValueError, TypeError, AttributeError, LookupError) as e:
            raise ValueError(f"the answer cannot be read: {type(e).__name__}: {e}") from None

    def body(self, interaction: Interaction) -> bytes:
        """The recorded answer's bytes."""
        return bytes(self.expect.body_bytes(interaction["response"]))

    def request(self, interaction: Interaction) -> dict[str, Any] | None:
        """The recorded request's JSON object, None where it is none."""
        body = self.expect.body_json(interaction["request"])
        return body if isinstance(body, dict) else None


class Player:
    """The replay server on a loopback port, in this process: what arrives can be read without asking over HTTP."""

    def __init__(self, kit: Kit, interactions: list[Interaction]) -> None:
        self._replay = kit.replay.Replay(interactions, {})
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Starts listening; the server's address."""
        self._server = await asyncio.start_server(self._play, "127.0.0.1", 0, limit=2**20, backlog=512)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def taken(self, interaction_id: str) -> list[dict[str, Any]]:
        """What arrived for this interaction since the last call, oldest first."""
        return list(self._replay.received.pop(interaction_id, ()))

    async def close(self) -> None:
        """Ends once its clients are gone, or after CLOSE_S seconds."""
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._replay(reader, writer)
        finally:
            self._tasks.discard(task)


class Cuts:
    """Where a recorded stream can be cut between two events. `ends` holds the number of bytes up to each event's end;
    `finish` is the place of the first event that tells a finish reason, an error or [DONE], len(ends) without one."""

    def __init__(self, kit: Kit, interaction: Interaction) -> None:
        self._kit, self._interaction, self.raw = kit, interaction, kit.body(interaction)
        self._is_array = self.raw.lstrip()[:1] == b"["
        self.ends = _element_ends(self.raw) if self._is_array else _event_ends(kit, self.raw)
        self.finish = bisect.bisect_left(range(len(self.ends)), True, key=self._is_finished)

    def closed(self, events: int) -> bytes:
        """The first `events` events as a body that ends in good order."""
        return self.raw[: self.ends[events - 1]] + (b"]" if self._is_array else b"") if events else b""

    def is_over(self, bytes_: int) -> bool:
        """True when the first `bytes_` bytes hold the event that closes the answer, whatever may follow it."""
        if bytes_ >= self.ends[-1]:
            return True
        mark = CLOSING.get(self._interaction["api"])
        return mark is not None and mark.search(self.raw[:bytes_]) is not None

    def halved(self, events: int, name: str) -> Interaction:
        """The interaction, called `name`, with its stream ended in good order after `events` events."""
        head = {k: v for k, v in self._interaction["response"].items() if k not in ("body", "body_b64")}
        answer = {**head, "body_b64": base64.b64encode(self.closed(events)).decode()}
        return {**self._interaction, "id": name, "response": answer}

    def _is_finished(self, event: int) -> bool:
        body = self.closed(event + 1)
        facts = self._kit.answer_facts(self._interaction["api"], "stream", 200, body)
        return facts["native_finish"] not in (None, "cut") or bool(facts["error"]) or b"[DONE]" in body


CLOSING = {
    "openai.chat": re.compile(rb"\[DONE\]"),
    "openai.completions": re.compile(rb"\[DONE\]"),
    "openai.responses": re.compile(rb'"type": ?"(response\.(completed|incomplete|failed)|error)"'),
    "anthropic.messages": re.compile(rb'"type": ?"(message_stop|error)"'),
    "bedrock.converse": re.compile(rb"metadata"),
    "cohere.v1": re.compile(rb"stream-end"),
    "cohere.v2": re.compile(rb'"type": ?"message-end"'),
    "ollama.chat": re.compile(rb'"done": ?true'),
    "ollama.generate": re.compile(rb'"done": ?true'),
}
"""What tells that a stream is over, before its last byte; where there is nothing, only the end of the bytes does."""


def _event_ends(kit: Kit, raw: bytes) -> list[int]:
    return list(itertools.accumulate(map(len, kit.replay.events(raw, ""))))


def _element_ends(raw: bytes) -> list[int]:
    """Where the elements of a streamed JSON array end."""
    text, ends = raw.decode("utf-8", "surrogateescape"), []
    decode, at = json.JSONDecoder().raw_decode, text.index("[") + 1
    while (start := text.find("{", at)) >= 0:
        _, at = decode(text, start)
        ends.append(len(text[:at].encode("utf-8", "surrogateescape")))
    return ends


def same_json(a: object, b: object) -> bool:
    """Equal as JSON: true and 1 differ, 1 and 1.0 do not, the order of an object's names does not matter."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
