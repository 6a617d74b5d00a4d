"""Secrets and texts that mark themselves, in every field and every fault: where they turn up afterwards.

A key is nowhere but in its own file; prompts and answers are nowhere but where storing them was asked for.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.gateway import calls
from tests.gateway.rig import json_answer, request
from tests.gateway.rig import parse as parse_one
from tests.security import provider as providers
from tests.security.watched import Watched, watched

from lilliput.chaos.client import Door
from lilliput.chaos.drive import Driver, Way
from lilliput.chaos.liar import Liar
from lilliput.chaos.rows import SCENARIOS
from lilliput.chaos.speech import PATHS

OURS = "canaryproviderkey6d1f0e4b"
"""The provider's key, in a form that nobody would take for one."""
HEADER = "canary-config-header-90ab12"
TEXT = "canaryprompt7f3a"
"""Begins every text of a request."""
SAID = "canaryreply"
FAULT = f"Incorrect API key provided: {OURS} ({HEADER}). You sent: {TEXT}"
FAST = [s for s in SCENARIOS if s.second is None and s.group != "silence" and not s.stream.reads_slowly][::6]
CELLS = [s for s in SCENARIOS if s.second is None]
CONFIG = """
[server]
retry_share = 10
first_byte_timeout_s = 2
stall_timeout_s = 2
[ledger]
on = true
[limits.key]
requests_per_minute = 1000000
[receipts]
on = true
"""


CACHE = "[cache]\non = true\n"


def config(port: int, dialects: dict[str, str]) -> str:
    rows = (
        f'[providers.{name}]\ndialect = "{dialect}"\nbase = "http://127.0.0.1:{port}/v1"\nkey_env = "CANARY_KEY"\n'
        f'allow_private = true\nheaders = {{ "x-canary" = "${{CANARY_HEADER}}" }}\n'
        for name, dialect in dialects.items()
    )
    return CONFIG + "".join(rows)


WORDS = ("-mark", "Say what you like", "one two")
"""Of the prompts and answers of `lilliput.chaos`."""
DATABASE = {"data/lilliput.db", "data/lilliput.db-wal"}
ENV = {"CANARY_KEY": OURS, "CANARY_HEADER": HEADER}


def marked(node: Any, at: str = "") -> Any:
    """The body with each of its texts marked, all but what chooses model, role or kind."""
    if isinstance(node, dict):
        return {k: node[k] if k in ("model", "role", "type", "voice") else marked(node[k], k) for k in node}
    if isinstance(node, list):
        return [marked(item, at) for item in node]
    return f"{TEXT} {at}" if isinstance(node, str) else node


def files(w: Watched) -> Iterable[tuple[str, bytes]]:
    """Everything that the gateway wrote: its home, and what it printed. The key's own file is left out."""
    for path in sorted(w.gateway.home.rglob("*")):
        if path.is_file() and path.name != "local.key":
            yield str(path.relative_to(w.gateway.home)), path.read_bytes()
    yield "printed", w.gateway._log.read_bytes()


def metrics(w: Watched) -> bytes:
    ask = urllib.request.Request(f"{w.gateway.base}/metrics", headers={"Authorization": f"Bearer {w.gateway.key}"})
    with urllib.request.urlopen(ask, timeout=10) as answer:
        said: bytes = answer.read()
        return said


def found(w: Watched, *canaries: str) -> list[tuple[str, str]]:
    """Which canaries are where, in all that was written or is shown to an operator."""
    places = [*files(w), ("/metrics", metrics(w))]
    return [(name, canary) for name, data in places for canary in canaries if canary.encode() in data]


@pytest.mark.slow
def test_every_field_and_every_error(tmp_path: Path) -> None:
    """All routes, well answered and refused by a provider that quotes its key and the prompt."""
    statuses = (None, 400, 401, 429, 500)
    bodies: list[bytes] = []

    async def main() -> None:
        async with Upstream() as up:
            with watched(tmp_path, config(up.port, providers.DIALECTS), ENV) as w:
                port = int(w.gateway.base.rpartition(":")[2])
                for up.status in statuses:
                    for route, path, body, more in calls.calls():
                        sent: Any = body
                        if isinstance(body, dict):
                            sent = marked(body)
                            sent |= {"user": TEXT, "metadata": {"a": TEXT}} if "model" in body else {}
                            sent |= {"store": False} if "responses" in path else {}
                        elif isinstance(body, bytes):
                            sent = body.replace(b"RIFF", TEXT.encode())
                        for name in providers.DIALECTS:
                            here = path.replace("p/m", f"{name}/m").replace("provider=p", f"provider={name}")
                            one = json.dumps(sent).encode() if isinstance(sent, dict) else sent
                            one = one.replace(b'"p/m"', f'"{name}/m"'.encode()) if one else one
                            one = one.replace(b"\r\np/m\r\n", f"\r\n{name}/m\r\n".encode()) if one else one
                            headers = {**more, "Authorization": f"Bearer {w.gateway.key}", "Connection": "close",
                                       "Cookie": TEXT, "X-Canary": TEXT, "User-Agent": TEXT}  # fmt: skip
                            reader, writer = await asyncio.open_connection("127.0.0.1", port)
                            writer.write(request(route.method, here, one, headers))
                            data = await asyncio.wait_for(reader.read(), 20)
                            writer.close()
                            if parse_one(data).status >= 400:
                                bodies.append(data)
                assert found(w, OURS, w.gateway.key, HEADER, TEXT, SAID) == []
                assert up.saw_key, "the provider was called with its key"
                assert [b[-400:] for b in bodies if OURS.encode() in b or w.gateway.key.encode() in b] == []
                assert [b[-400:] for b in bodies if HEADER.encode() in b] == []
                await _kept_on_purpose(w, port, up)

    asyncio.run(main())
    assert len(bodies) > 200


async def _kept_on_purpose(w: Watched, port: int, up: Upstream) -> None:
    """The search finds what is there: the Responses API keeps a response unless it is told not to."""
    up.status = None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = {"model": "responses/m", "input": f"{TEXT} kept"}
    lines = {"Authorization": f"Bearer {w.gateway.key}", "Connection": "close"}
    writer.write(request("POST", "/v1/responses", body, lines))
    assert parse_one(await reader.read()).status == 200
    writer.close()
    where = {name for name, _ in found(w, TEXT)}
    assert where
    assert where <= DATABASE


class Upstream(providers.Provider):
    """Answers well with marked text, or refuses with `status` and a text that tells all it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.status: int | None = None
        self.saw_key = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.saw_key |= OURS.encode() in head
                lines = head.lower().split(b"\r\n")
                size = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(size)
                if self.status is None:
                    good = providers.answer(head.split(b" ", 2)[1].decode("latin-1"), body)
                    writer.write(good.replace(b"It is well.", SAID.encode()[:11]))
                else:
                    told = {"error": {"message": FAULT, "type": "x", "code": OURS, "status": HEADER}, "message": FAULT}
                    writer.write(json_answer(json.dumps(told).encode(), self.status))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def chaos(folder: Path, scenarios: list[Any], cache: bool) -> None:
    """Faults of every kind in every dialect: keys are nowhere, texts only where keeping them was asked for."""
    names = {"chat": "openai_chat", "responses": "openai_responses", "messages": "anthropic"}

    async def main() -> None:
        async with Liar() as liar:
            with watched(folder, config(liar.port, names) + CACHE * cache, ENV, "uvloop") as w:
                base, key = w.gateway.base, w.gateway.key
                ways = [Way(f"{d} over {n}", d, Door(base, f"{n}/m", key)) for d in PATHS for n in ("chat", d)]
                keeps = [way for way in ways if way.dialect == "responses"]
                await Driver(liar).run(scenarios, [way for way in ways if way.dialect != "responses"])
                assert found(w, OURS, key, HEADER) == []
                texts = {name for name, _ in found(w, *WORDS)}
                assert texts <= (DATABASE if cache else set())
                await Driver(liar).run(scenarios, keeps)
                assert found(w, OURS, key, HEADER) == []
                assert {name for name, _ in found(w, *WORDS)} <= DATABASE, "the Responses API keeps its turns there"

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True])
def test_some_faults(cache: bool, tmp_path: Path) -> None:
    chaos(tmp_path, FAST, cache)


@pytest.mark.slow
def test_every_fault(tmp_path: Path) -> None:
    chaos(tmp_path, CELLS, False)
