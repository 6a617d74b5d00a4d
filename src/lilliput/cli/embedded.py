"""The embedded models as the gateway sees them: which there are, their weights, and the engines that start when called.

Between `local` (which knows engines and files) and the catalogue's row `lilliput`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from msgspec import structs

from lilliput.catalogue.load import EMBEDDED
from lilliput.catalogue.rows import ModelPatch
from lilliput.config import Config, Home
from lilliput.neutral import Problem, Target

DEFAULT = "smollm2-135m"


def known(config: Config) -> Mapping[str, ModelPatch]:
    """What is served as `lilliput/<name>`: our default and the configuration's own."""
    own = {name: ModelPatch(title=name, input=("text",), output=("text",)) for name in config.local.models}
    served = {**EMBEDDED, **own}
    return {name: structs.replace(patch, context_tokens=config.local.context_tokens) for name, patch in served.items()}


def fetch(place: Home, config: Config, err: TextIO) -> None:
    """Puts the default weights in place if they are missing; a failure is told and the gateway starts without them."""


class Mini:
    """The engine behind the row `lilliput`; `fault` says why it cannot serve."""

    def __init__(self, place: Home, config: Config) -> None:
        self.fault: str | None = None

    async def wake(self, target: Target, operation: str) -> Target:
        raise Problem("server", "no engine", 503)

    async def stop(self) -> None:
        pass
