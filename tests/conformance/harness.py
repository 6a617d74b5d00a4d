"""Runs the cases: one replay server, one gateway, many at once; each case yields one Result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct, field
from tests.conformance import cases as table
from tests.conformance import judge
from tests.conformance.cases import Case, Row
from tests.conformance.client import Heard, post
from tests.conformance.kit import Kit, Player
from tests.live import Live

AT_ONCE = 32
PATH = "/v1/chat/completions"
CHECKS = ("answer", "split", "request", "verbatim", "broken")
"""The answer whole; the same cut into small pieces; the request as it arrives, made from facts; the recorded request's
own bytes, and their answer; and answers that the provider does not finish."""


class Result(Struct, frozen=True):
    """What one interaction showed: per check, what is wrong with it, "" where nothing is. Checks that do not apply are
    absent. `note` is the case's."""

    id: str
    api: str
    wrong: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def passed(self) -> bool:
        return not any(self.wrong.values())


class Run:
    """One gateway over one replay server: `judge` sends one case through every row that it has."""

    def __init__(self, kit: Kit, player: Player, live: Live) -> None:
        self.kit, self.player, self.key = kit, player, live.key
        self.port = urlsplit(live.base).port or 0
        self.places = asyncio.Semaphore(AT_ONCE)

    async def judge(self, case: Case) -> Result:
        async with self.places:
            wrong = await self._checks(case)
        return Result(case.id, case.api, wrong, case.note)

    async def _checks(self, case: Case) -> dict[str, str]:
        wrong: dict[str, str] = {}
        heard, arrived = await self._send(case.plain, case.body)
        wrong["answer"] = judge.answer(self.kit, case, heard)
        wrong["request"] = judge.request(self.kit, case, arrived)
        heard, arrived = await self._send(case.split, case.body)
        wrong["split"] = judge.answer(self.kit, case, heard)
        if case.verbatim is not None:
            heard, arrived = await self._send(case.plain, case.verbatim)
            wanted = (case.verbatim.get("stream_options") or {}).get("include_usage") or case.kind != "stream"
            wrong["verbatim"] = judge.verbatim(case, arrived) or judge.answer(self.kit, case, heard, usage=wanted)
        for row in case.hurt:
            heard, _ = await self._send(row, case.body)
            found = judge.broken(case, heard)
            wrong["broken"] = wrong.get("broken") or (f"{row.fault}: {found}" if found else "")
        return wrong

    async def _send(self, row: Row, body: dict[str, Any]) -> tuple[Heard, list[dict[str, Any]]]:
        """The answer through this row, and what arrived at the provider for it."""
        model = body.get("model") or "m"
        data = json.dumps({**body, "model": f"{row.name}/{model}"}).encode("utf-8")
        try:
            heard = await post(self.port, PATH, self.key, data)
        except (OSError, ValueError) as e:
            heard = Heard(0, {}, f"{type(e).__name__}: {e}".encode(), False)
        return heard, self.player.taken(row.plays)


def run(folder: Path, *, api: str | None = None, only: Sequence[str] = ()) -> list[Result]:
    """Every judged interaction of `folder` (of dialect `api`, or those named in `only`) through a gateway."""
    kit = Kit(folder)
    chosen = [i for i in kit.interactions if table.judged(i, api) and (not only or i["id"] in only)]
    built = [table.case(kit, i) for i in chosen]
    made = [i for _, extra in built for i in extra]
    return asyncio.run(_run(kit, [c for c, _ in built], Player(kit, chosen + made)))


async def _run(kit: Kit, cases: list[Case], player: Player) -> list[Result]:
    replay = await player.open()
    try:
        with Live(table.config(cases, replay)) as live:
            run = Run(kit, player, live)
            return list(await asyncio.gather(*map(run.judge, cases)))
    finally:
        await player.close()
