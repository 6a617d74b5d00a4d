"""Runs scenarios against a gateway: each is a cell for every way in, all cells at once up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from lilliput.chaos import client
from lilliput.chaos.client import Door
from lilliput.chaos.judge import Verdict, judge, judge_leaving, worst
from lilliput.chaos.liar import Cell, Liar, mark
from lilliput.chaos.scenario import Mode, Scenario
from lilliput.chaos.speech import Dialect

AT_ONCE = 16
HANGS_S = 12.0
_FIRST_WORD = b"one "


class Way(NamedTuple):
    """A way into the gateway: the caller's dialect, and the model asked for; `title` heads its columns."""

    title: str
    dialect: Dialect
    door: Door


class Result(NamedTuple):
    """`calls` are the dialects in which the provider was asked, a call each."""

    scenario: Scenario
    way: str
    stream: bool
    verdict: Verdict
    calls: tuple[Dialect, ...]


@dataclass
class Driver:
    """`ours` demands our own error codes too; `hangs_s` is how long an answer may take before it counts as hung."""

    liar: Liar
    ours: bool = False
    hangs_s: float = HANGS_S
    at_once: int = AT_ONCE

    def __post_init__(self) -> None:
        self._numbers = count(1)

    async def run(
        self, scenarios: Iterable[Scenario], ways: Sequence[Way], modes: tuple[bool, ...] = (True, False)
    ) -> list[Result]:
        """All cells, in the order of the scenarios, for callers that stream (True) and that do not."""
        slots = asyncio.Semaphore(self.at_once)

        async def one(scenario: Scenario, way: Way, stream: bool) -> Result:
            async with slots:
                return await self.cell(scenario, way, stream)

        cells = ((s, way, stream) for s in scenarios for way in ways for stream in modes)
        return list(await asyncio.gather(*(one(*cell) for cell in cells)))

    async def cell(self, scenario: Scenario, way: Way, stream: bool) -> Result:
        mode = scenario.stream if stream else scenario.unary
        second = scenario.second[0 if stream else 1] if scenario.second else None
        number = next(self._numbers)
        cell = self.liar.cells[number] = Cell(number, mode.acts, second)
        prompt = f"Say what you like. {mark(number)}"
        verdicts = [
            await self._leaving(way, stream, prompt, mode, cell)
            if mode.leaves
            else await self._answer(way, stream, prompt, mode)
        ]
        if len(cell.calls) > mode.calls:
            verdicts.append(Verdict("partial", f"the provider was called {len(cell.calls)} times"))
        if not cell.calls:
            verdicts.append(Verdict("fail", "the provider was not called"))
        if cell.followed:
            verdicts.append(Verdict("fail", "followed a redirect"))
        del self.liar.cells[number]
        return Result(scenario, way.title, stream, worst(verdicts), tuple(cell.calls))

    async def _answer(self, way: Way, stream: bool, prompt: str, mode: Mode) -> Verdict:
        seen = await client.call(way.door, way.dialect, stream, prompt, self.hangs_s, reads_slowly=mode.reads_slowly)
        failed = any(act.status == 500 for act in mode.acts)
        return judge(way.dialect, stream, seen, mode.exact, ours=self.ours, failed=failed)

    async def _leaving(self, way: Way, stream: bool, prompt: str, mode: Mode, cell: Cell) -> Verdict:
        after = _FIRST_WORD if mode.leaves == "mid" else b""
        try:
            gone_s = await client.leave(
                way.door, way.dialect, stream, prompt, self.hangs_s / 2, cell.came.wait, cell.gone.wait, after
            )
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return Verdict("fail", "nothing came before the caller could leave")
        return judge_leaving(gone_s)
