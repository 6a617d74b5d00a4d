"""The recordings' own tools, loaded from their folder at run time: the replay server and the parser of facts."""

from __future__ import annotations

import asyncio
import base64
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

CLOSE_S = 5.0

Interaction = dict[str, Any]
"""One recorded request and its answer, as the folder's README describes it."""
Facts = dict[str, Any]
"""What an answer said or a request asked, as `expect.py` tells it."""


def default_folder() -> Path:
    """Where recordings are looked for: LILLIPUT_RECORDINGS, else `shared/recordings` beside the repository."""
    given = os.environ.get("LILLIPUT_RECORDINGS")
    return Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "recordings"


class Kit:
    """A folder of recordings with its tools; raises FileNotFoundError when it is none."""

    def __init__(self, folder: Path) -> None:
        for name in ("replay.py", "expect.py"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} is no folder of recordings: it lacks {name}")
        sys.path.insert(0, str(folder))
        try:
            self.expect: ModuleType = importlib.import_module("expect")
            self.replay: ModuleType = importlib.import_module("replay")
        finally:
            sys.path.remove(str(folder))
        self.interactions: list[Interaction] = self.expect.load_dir(str(folder))

    def answer_facts(self, api: str, kind: str, status: int, body: bytes) -> Facts:
        """What an answer said; raises ValueError when the body cannot be read as one of that dialect."""
        packed = base64.b64encode(body).decode()
        seen = {"api": api, "kind": kind, "response": {"status": status, "body_b64": packed}}
        try:
            return dict(self.expect.response_facts(seen))
        except (ValueError, TypeError, AttributeError, KeyError) as e:
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


def halved(kit: Kit, interaction: Interaction, part: float) -> Interaction | None:
    """The interaction with its stream ended in good order after about `part` of its events, before any finish.

    None when no whole event stands before the first finish reason.
    """
    events, finish = _until_finish(kit, interaction)
    kept = b"".join(events[: min(finish, max(1, int(len(events) * part)))])
    if not kept:
        return None
    head = {k: v for k, v in interaction["response"].items() if k not in ("body", "body_b64")}
    answer = {**head, "body_b64": base64.b64encode(kept).decode()}
    return {**interaction, "id": f"{interaction['id']}-half", "response": answer}


def finish_bytes(kit: Kit, interaction: Interaction) -> int | None:
    """How many bytes of a stream tell a finish reason but not yet its end; None where nothing comes between them."""
    events, finish = _until_finish(kit, interaction)
    told = events[: finish + 1]
    if len(told) == len(events) or b"[DONE]" in told[-1]:
        return None
    return sum(map(len, told))


def _until_finish(kit: Kit, interaction: Interaction) -> tuple[list[bytes], int]:
    """A stream's events, and the place of the first that finishes it."""
    events = list(kit.replay.events(kit.body(interaction), ""))
    for i, event in enumerate(events):
        facts = kit.answer_facts(interaction["api"], "stream", 200, event)
        if facts["native_finish"] or facts["error"] or b"[DONE]" in event:
            return events, i
    return events, len(events)


def same_json(a: object, b: object) -> bool:
    """Equal as JSON: true and 1 differ, 1 and 1.0 do not, the order of an object's names does not matter."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b
