"""OpenAI's own Node SDK against the gateway: `node --test` over `tests/sdk/node`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sdk import npm
from tests.sdk.world import MINI, World


@pytest.mark.slow
def test_the_node_sdk(world: World) -> None:
    told = {
        "LILLIPUT_BASE": world.base,
        "LILLIPUT_KEY": world.key,
        "LILLIPUT_MODEL": MINI,
        "LILLIPUT_OWN_PORT": str(world.own_port),
        "LILLIPUT_SAID": json.dumps(world.said),
    }
    assert npm.passed(Path(__file__).parent / "node", "openai.test.mjs", told) >= 10
