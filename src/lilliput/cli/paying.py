"""The till of one worker, made from the configuration: its limits, its counters, its ledger."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping

from lilliput import __version__
from lilliput.catalogue.find import Catalogue
from lilliput.config import Config
from lilliput.gateway.limits import Limiter
from lilliput.gateway.till import Till
from lilliput.limits_config import Counters, Limits
from lilliput.money import Ledger
from lilliput.neutral import Problem
from lilliput.store.counters import LocalCounters

SWEEP_S = 30.0
log = logging.getLogger("lilliput")


@contextlib.asynccontextmanager
async def till(
    config: Config, env: Mapping[str, str], ledger: Ledger | None, catalogue: Catalogue, counters: LocalCounters | None
) -> AsyncIterator[Till | None]:
    """The worker's till, None where nothing is limited and no ledger is kept; expired holds are swept while it is open.

    `counters` are those that were made before the workers were forked, None for a single process.
    """
    counts = _counters(config, env, counters) if config.limits != Limits() else None
    if ledger is None and counts is None:
        yield None
        return
    limiter = None
    if counts is not None:
        limiter = Limiter(config.limits, counts, lambda key: (key.team,) if key.team else ())
    sweeping = asyncio.create_task(_sweep(ledger)) if ledger is not None else None
    try:
        yield Till(
            limiter=limiter,
            ledger=ledger,
            price=catalogue.price,
            model=catalogue.model,
            snapshot=f"lilliput {__version__}",
            clock=time.time,
            goes_on=config.ledger.when_down == "local",
        )
    finally:
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.wait({sweeping})
        if counts is not None:
            await counts.close()


def _counters(config: Config, env: Mapping[str, str], local: LocalCounters | None) -> Counters:
    url = env.get(config.shared.url_env, "").strip()
    if not url:
        return local or LocalCounters()
    from lilliput.store.shared import Shared, SharedCounters

    alone = (local or LocalCounters()) if config.shared.when_down == "local" else None
    return SharedCounters(Shared(url, timeout_s=config.shared.timeout_s), local=alone)


async def _sweep(ledger: Ledger) -> None:
    """Ends holds whose process died; a database that cannot answer is asked again."""
    while True:
        try:
            swept = await ledger.sweep()
            if swept:
                log.warning("%d holds were left by a process that died; they are settled at what they held", swept)
        except Problem as problem:
            log.warning("holds could not be swept: %s", problem.say)
        await asyncio.sleep(SWEEP_S)
