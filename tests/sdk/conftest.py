"""One gateway for all SDK tests: the built-in model, recorded providers, and one that the tests play themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conformance.kit import Interaction, Kit
from tests.conformance.need import recordings
from tests.live import Live, free_port
from tests.sdk.played import replaying
from tests.sdk.world import World

PROVIDER = "openai"
WANTED = {
    "tools": ("chat", "tool_call", 200),
    "tools-stream": ("stream", "tool_call", 200),
    "refused": ("chat", "http_400", 400),
}
"""Row of the configuration -> the recording it plays: the first by id of this kind, tag and status, from PROVIDER."""


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    folder = recordings()
    kit = Kit(folder)
    picked = {row: _first(kit, *wish) for row, wish in WANTED.items()}
    own_port = free_port()
    with replaying(folder, [PROVIDER]) as played:
        rows = {row: f"{played}/{PROVIDER}/{i['id']}/v1" for row, i in picked.items()}
        rows["own"] = f"http://127.0.0.1:{own_port}/v1"
        config = "".join(f'[providers.{row}]\nbase = "{base}"\nallow_private = true\n' for row, base in rows.items())
        with Live(config, weights=True) as live:
            said = {row: kit.expect.response_facts(i) for row, i in picked.items()}
            yield World(live.v1, live.key, own_port, said)


def _first(kit: Kit, kind: str, tag: str, status: int) -> Interaction:
    fits = (
        i
        for i in kit.interactions
        if i["api"] == "openai.chat"
        and i["provider"] == PROVIDER
        and i["kind"] == kind
        and tag in i["tags"]
        and i["response"]["status"] == status
    )
    return min(fits, key=lambda i: str(i["id"]))
