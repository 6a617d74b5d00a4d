"""Runs the cases: one replay server, one gateway, many at once; each case yields a Result for each door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, field
from tests.conformance import cases as table
from tests.conformance import judge, operations
from tests.conformance.cases import Case, Row
from tests.conformance.client import Heard, post
from tests.conformance.doors import DOORS, Body, Door
from tests.conformance.kit import Facts, Kit, Player
from tests.conformance.operations import Work
from tests.live import Live

AT_ONCE = 32
AT_A_TIME = 600
"""Most interactions that one gateway is configured for."""
WITHOUT = ("seed:", "stop:", "max_tokens:", "temperature:")
"""What the facts of a request through another door may lack or (Messages' limits) differ in."""
ALL_DOORS = tuple(DOORS)
LAST_HURTS = 4
"""How many of the ways to hurt a stream are tried at doors other than the first, the last ones of them."""
CHECKS = ("answer", "split", "request", "verbatim", "broken")
"""The answer whole; the same cut into small pieces; the request as it arrives, made from facts; the recorded request's
own bytes, and their answer; and answers that the provider does not finish."""


class Result(Struct, frozen=True):
    """What one interaction showed through one door: per check, what is wrong with it, "" where nothing is. Checks that
    do not apply are absent. `note` is the case's."""

    id: str
    api: str
    wrong: dict[str, str] = field(default_factory=dict)
    note: str = ""
    door: str = "chat"

    @property
    def passed(self) -> bool:
        return not any(self.wrong.values())


class Run:
    """One gateway over one replay server: `judge` sends one case through every row that it has, door after door."""

    def __init__(self, kit: Kit, player: Player, live: Live, doors: Sequence[str]) -> None:
        self.kit, self.player, self.key, self.doors = kit, player, live.key, doors
        self.port = urlsplit(live.base).port or 0
        self.places = asyncio.Semaphore(AT_ONCE)

    async def judge(self, case: Case) -> list[Result]:
        async with self.places:  # one door after the other: what arrives is told apart by the interaction alone
            return [Result(case.id, case.api, await self._checks(case, d), case.note, d) for d in self.doors]

    async def _checks(self, case: Case, door: str) -> dict[str, str]:
        kit, way = self.kit, DOORS[door]
        wrong: dict[str, str] = {}
        same = case.way.dialect in way.same
        body, asked = doors_body(kit, case, door)
        heard, arrived = await self._send(case, case.plain, door, body)
        if _refused_before(case, heard, arrived):
            return {"answer": ""}
        wrong["answer"] = judge.answer(kit, case, heard, door, same=same)
        wrong["request"] = judge.request(kit, case, arrived, asked)
        if case.kind == "stream" or door == "chat":
            heard, _ = await self._send(case, case.split, door, body)
            wrong["split"] = judge.answer(kit, case, heard, door, same=same)
        if same and case.verbatim is not None and not way.own & set(case.verbatim):
            sent = case.verbatim | ({"stream": True} if door == "messages" and case.is_stream else {})
            heard, arrived = await self._send(case, case.plain, door, sent)
            if _refused_before(case, heard, arrived):
                return wrong
            usage = (sent.get("stream_options") or {}).get("include_usage") or case.kind != "stream" or door != "chat"
            wrong["verbatim"] = judge.verbatim(case, arrived, sent, way.ours) or judge.answer(
                kit, case, heard, door, same=True, usage=usage
            )
        for row in case.hurt if door == "chat" else case.hurt[-LAST_HURTS:]:
            heard, _ = await self._send(case, row, door, body)
            found = judge.broken(kit, case, heard, door)
            wrong["broken"] = wrong.get("broken") or (f"{row.fault}: {found}" if found else "")
        return wrong

    async def work(self, w: Work) -> Result:
        """The Result of an operation that is no chat."""
        async with self.places:
            wrong: dict[str, str] = {}
            for check, row in (("answer", w.plain), ("split", w.split)):
                body, kind = w.asked.body(f"{row.name}/{w.model}")
                heard = await self._post(operations.OPERATIONS[w.api].path, DOORS["chat"], body, kind)
                arrived = self.player.taken(row.plays)
                wrong[check] = operations.answer(self.kit, w, heard, bool(arrived))
                if check == "answer" and not (heard.status == 400 and not arrived):
                    wrong["request"] = operations.request(w, arrived)
        return Result(w.id, w.api, wrong, w.note, "-")

    async def _send(self, case: Case, row: Row, door: str, body: Body) -> tuple[Heard, list[Facts]]:
        """The answer through this row, and what arrived at the provider for it."""
        way = DOORS[door]
        model = f"{row.name}/{body.get('model') or case.body['model']}"
        sent = {**body, "model": model} if way.has_model_in_body() else body
        heard = await self._post(way.url(model, case.is_stream), way, json.dumps(sent).encode())
        return heard, self.player.taken(row.plays)

    async def _post(self, path: str, door: Door, body: bytes, kind: str = "application/json") -> Heard:
        try:
            return await post(self.port, path, f"{door.key}{self.key}\r\n{door.headers}", body, kind)
        except (OSError, ValueError) as e:
            return Heard(0, {}, f"{type(e).__name__}: {e}".encode(), False)


def _refused_before(case: Case, heard: Heard, arrived: list[Facts]) -> bool:
    """True when the gateway itself refuses, in its own words, what the provider refused as well."""
    return not arrived and heard.status == 400 == (case.said["error"] or {}).get("status")


def doors_body(kit: Kit, case: Case, door: str) -> tuple[Body, Facts | None]:
    """The body to send through a door and the facts that it asks; a plain body and None where the dialect has no
    place for the turns, the tools or the media of this request."""
    way = DOORS[door]
    body = way.write(case.body)
    if case.asked is None or door == "chat":
        return body, case.asked
    asked = kit.expect.facts_of(way.api, way.url(case.body["model"], case.is_stream), body)
    lost = [d for d in kit.expect.compare(case.asked, asked) if not d.startswith(WITHOUT)]
    if not lost:
        return body, asked
    plain = {"messages": [{"role": "user", "content": "hi"}]}
    return way.write({k: v for k, v in case.body.items() if k not in ("messages", "tool_choice")} | plain), None


def run(
    folder: Path,
    *,
    api: str | None = None,
    ids: Sequence[str] = (),
    doors: Sequence[str] = ALL_DOORS,
    is_strict: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Result]:
    """Every judged interaction of `folder` (of dialect `api`, or those named in `ids`) through a gateway's `doors`."""
    kit = Kit(folder, is_strict)
    wanted = [i for i in kit.interactions if not ids or i["id"] in ids]
    chosen = [i for i in wanted if table.judged(i, api)]
    works = [w for i in wanted if operations.judged(i, api) and (w := operations.work(kit, i))]
    results: list[Result] = []
    for start in range(0, max(len(chosen), 1), AT_A_TIME):
        some = chosen[start : start + AT_A_TIME]
        built = [table.case(kit, i) for i in some]
        played = [*some, *(i for _, made in built for i in made), *(w.interaction for w in works)]
        results += asyncio.run(_run(kit, [c for c, _ in built], works, Player(kit, played), doors, tell))
        tell(f"{start + len(some)} of {len(chosen)} chats, {len(works)} others")
        works = []
    return results


async def _run(
    kit: Kit,
    cases: list[Case],
    works: list[Work],
    player: Player,
    doors: Sequence[str],
    tell: Callable[[str], None],
) -> list[Result]:
    replay = await player.open()
    try:
        with Live(table.config([*cases, *works], replay)) as live:
            run = Run(kit, player, live, doors)
            results, others = await asyncio.gather(
                asyncio.gather(*map(run.judge, cases)), asyncio.gather(*map(run.work, works))
            )
            if "Traceback" in live.printed:
                tell(live.printed)
            return [*(r for several in results for r in several), *others]
    finally:
        await player.close()
