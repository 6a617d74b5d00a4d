"""The embedded models as the gateway sees them: which there are, their weights, and the engines that start when called.

Between `local` (which knows engines and files) and the catalogue's row `lilliput`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

from msgspec import Raw, structs

from lilliput.catalogue.load import EMBEDDED
from lilliput.catalogue.rows import ModelPatch
from lilliput.cli.output import say_error
from lilliput.cli.pull import progress
from lilliput.config import Config, Home
from lilliput.local import guard, weights
from lilliput.local.engine import Engine
from lilliput.local.settings import Settings
from lilliput.neutral import Problem, Target

DEFAULT = weights.DEFAULT


def known(config: Config) -> Mapping[str, ModelPatch]:
    """What is served as `lilliput/<name>`: our default and the configuration's own."""
    own = {name: ModelPatch(title=name, input=("text",), output=("text",)) for name in config.local.models}
    served = {**EMBEDDED, **own}
    return {name: structs.replace(patch, context_tokens=config.local.context_tokens) for name, patch in served.items()}


def fetch(place: Home, config: Config, err: TextIO) -> None:
    """Puts the default weights in place if they are missing; a failure is told, and the gateway starts without them."""
    if DEFAULT in config.local.models or weights.find(DEFAULT, place.weights) is not None:
        return
    print(f"fetching the weights of {DEFAULT}, once", file=err, flush=True)
    try:
        with progress(DEFAULT, err) as told:
            weights.pull(DEFAULT, place.weights, progress=told, env=os.environ)
    except Problem as problem:
        say_error(problem, err)


class Mini:
    """The engines behind the row `lilliput`, one for each model, started at its first call."""

    def __init__(self, place: Home, config: Config) -> None:
        self._place, self._config = place, config
        self._engines: dict[str, Engine] = {}
        self._targets: dict[str, Target] = {}

    @property
    def fault(self) -> str | None:
        """Why the default model cannot be served, None when it can."""
        source = self._config.local.models.get(DEFAULT, DEFAULT)
        try:
            found = weights.find(source, self._place.weights)
        except Problem as problem:
            return problem.say
        return None if found is not None else f"its weights are not here; fetch them with `lilliput pull {DEFAULT}`"

    def fit(self, operation: str, fields: dict[str, Raw]) -> dict[str, Raw]:
        """The fields that the engine takes; raises Problem (400) for what it would not stand."""
        if operation == "embeddings":
            return guard.embeddings(fields)
        return guard.chat(fields, self._config.local.parallel)

    async def wake(self, target: Target) -> Target:
        """The target with its engine's address of now; raises Problem (503) when the engine cannot run."""
        engine = self._engines.get(target.model)
        if engine is None:
            engine = self._engines[target.model] = self._engine(target.model)
        base = await engine.address()
        awake = self._targets.get(target.model)
        if awake is None or awake.base != base:
            awake = self._targets[target.model] = structs.replace(target, base=base, key=engine.key)
        return awake

    async def stop(self) -> None:
        for engine in self._engines.values():
            await engine.stop()

    def _engine(self, name: str) -> Engine:
        """The engine of one model, not yet started; raises Problem (503) when its weights are not here."""
        source, local = self._config.local.models.get(name, name), self._config.local
        path = weights.find(source, self._place.weights)
        if path is None:
            say = f"the weights of {name!r} are not here; fetch them with `lilliput pull {source}`"
            raise Problem("server", say, code="weights_missing")
        settings = Settings(
            threads=local.threads,
            context_tokens=local.context_tokens,
            parallel=local.parallel,
            memory_bytes=local.memory_bytes,
        )
        sha256 = weights.pinned(source, self._place.weights)
        return Engine(path, weights.tuned(settings, source), alias=name, sha256=sha256)
