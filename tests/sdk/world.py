"""What the SDK tests are told of the gateway they talk to."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

MINI = "lilliput/smollm2-135m"


class World(Struct, frozen=True):
    """The gateway's OpenAI base, a key to it, the port at which a test may play the provider `own`, and what the
    recorded provider of each row said (`expect.response_facts`)."""

    base: str
    key: str
    own_port: int
    said: dict[str, dict[str, Any]]
