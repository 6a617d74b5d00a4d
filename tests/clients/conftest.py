"""One gateway for all clients: its providers are played (`actor.py`), recorded, or the built-in model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.clients.actor import Actor
from tests.conformance.kit import Interaction, Kit
from tests.conformance.need import recordings
from tests.live import Live
from tests.sdk.played import replaying

PLAYED = {
    "chat": ("openai_chat", "/v1"),
    "claude": ("anthropic", ""),
    "gemini": ("gemini", "/v1beta"),
    "responder": ("openai_responses", "/v1"),
}
"""Row of the configuration -> its dialect, and where that begins."""
RECORDED = {
    "openai": ("openai.chat", "openai_chat", "/v1"),
    "anthropic": ("anthropic.messages", "anthropic", ""),
    "gemini": ("gemini.generate", "gemini", "/v1beta"),
}
"""Provider of recordings -> the dialect there and here, and the path's beginning."""
KINDS = {"chat": "whole", "stream": "stream"}


@pytest.fixture(scope="session")
def told() -> Iterator[dict[str, str]]:
    """What the clients' processes are told in LILLIPUT_WORLD: where the gateway is, a key, and what was recorded."""
    folder = recordings()
    kit = Kit(folder)
    picked = {f"{name}-{KINDS[kind]}": _first(kit, name, kind) for name in RECORDED for kind in KINDS}
    with replaying(folder, RECORDED) as played, Actor(kit.expect) as actor:
        rows = [(name, dialect, actor.base + path) for name, (dialect, path) in PLAYED.items()]
        for row, it in picked.items():
            _, dialect, path = RECORDED[it["provider"]]
            rows.append((row, dialect, f"{played}/{it['provider']}/{it['id']}{path}"))
        config = "".join(
            f'[providers.{row}]\ndialect = "{dialect}"\nbase = "{base}"\nkey_env = ""\nallow_private = true\n'
            for row, dialect, base in rows
        )
        config += "".join(f'[models."{row}/other"]\nsent = "{row}/other"\n' for row in PLAYED)
        with Live(config, weights=True) as live:
            world = {
                "base": live.base,
                "key": live.key,
                "actor": actor.base,
                "said": {row: kit.expect.response_facts(i) for row, i in picked.items()},
            }
            yield {"LILLIPUT_WORLD": json.dumps(world, default=str)}


def _first(kit: Kit, provider: str, kind: str) -> Interaction:
    """The recording of several tool calls at once that comes first by id."""

    def fits(i: Interaction) -> bool:
        facts: dict[str, Any]
        if (i["provider"], i["kind"], i["api"]) != (provider, kind, RECORDED[provider][0]):
            return False
        if not {"parallel_tool_calls", "tool_call"} <= set(i["tags"]) or "server_tools" in i["tags"]:
            return False
        facts = kit.expect.response_facts(i)
        return facts["error"] is None and len(facts["tool_calls"]) > 1

    return min(filter(fits, kit.interactions), key=lambda i: str(i["id"]))
