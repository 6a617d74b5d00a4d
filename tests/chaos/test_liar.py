"""The lying provider with nothing in between: a gateway that hides no lie is found out, and honest answers pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lilliput.chaos import rows
from lilliput.chaos.client import Door
from lilliput.chaos.cuts import LEAST_BYTES, cuts, points
from lilliput.chaos.drive import Driver, Result, Way
from lilliput.chaos.liar import Liar
from lilliput.chaos.scenario import Scenario
from lilliput.chaos.speech import PATHS, Dialect


def bare(scenarios: Sequence[Scenario], *, hangs_s: float = 2.0) -> list[Result]:
    """The cells of clients that talk to the provider itself."""

    async def main() -> list[Result]:
        async with Liar() as liar:
            door = Door(f"http://127.0.0.1:{liar.port}", "liar", "sk-x")
            return await Driver(liar, hangs_s=hangs_s).run(scenarios, [Way(d, d, door) for d in PATHS])

    return asyncio.run(main())


def grades(results: Sequence[Result]) -> dict[str, str]:
    """Each scenario's worst grade."""
    order = ("pass", "partial", "fail")
    found: dict[str, str] = {}
    for r in results:
        found[r.scenario.name] = max(found.get(r.scenario.name, "pass"), r.verdict.grade, key=order.index)
    return found


NOT_FOR_EVERY_CLIENT = {"finish, end mark missing", "more after the end", "reset after the end"}


def test_odd_answers_are_good_ones() -> None:
    results = bare([s for s in rows.ODD_BUT_GOOD if s.name not in NOT_FOR_EVERY_CLIENT and not s.stream.reads_slowly])
    assert [(r.scenario.name, r.way, r.verdict) for r in results if r.verdict.grade != "pass"] == []


def test_what_a_pipe_lets_through_is_found_out() -> None:
    """Every fault is a fault: without a gateway no such cell passes, in any dialect, streamed or not."""
    results = bare((*rows.CUT, *rows.GARBAGE, *rows.HEALS))
    assert [(r.scenario.name, r.way, r.stream) for r in results if r.verdict.grade == "pass"] == []


def test_silence_hangs() -> None:
    results = bare([s for s in rows.SILENCE if s.name != "stalls after the end"], hangs_s=0.5)
    assert {r.verdict.why[:5] for r in results} == {"hangs"}


def test_refusals_of_a_pipe_show_keys_and_blame_callers() -> None:
    found = grades(bare(rows.REFUSALS))
    assert found["429 with Retry-After"] == "pass"
    assert found["401, the gateway's key"] == found["500 with a secret in it"] == found["502 as a web page"] == "fail"


def test_who_leaves_is_seen_to_leave() -> None:
    assert set(grades(bare(rows.LEAVES)).values()) == {"pass"}


def test_a_call_too_many_is_counted() -> None:
    good = rows.ODD_BUT_GOOD[0]
    mode = replace(good.stream, calls=0)
    (verdict,) = {r.verdict for r in bare([replace(good, stream=mode, unary=replace(good.unary, calls=0))])}
    assert verdict == ("partial", "the provider was called 1 times")


def test_a_second_deployment_has_a_path_of_its_own() -> None:
    async def main() -> list[Result]:
        async with Liar() as liar:
            doors = [Door(f"http://127.0.0.1:{liar.port}{path}", "liar") for path in ("", "/second")]
            ways = [Way(door.base[-7:], "chat", door) for door in doors]
            return await Driver(liar, hangs_s=0.5).run(rows.FAILOVER, ways)

    for r in asyncio.run(main()):
        assert (r.verdict.grade == "pass") == (r.way == "/second"), r


@pytest.mark.parametrize("dialect", PATHS)
def test_a_cut_stream_is_over_only_once_its_finish_came(dialect: Dialect) -> None:
    last = points(dialect)[-1]
    assert last.at >= LEAST_BYTES or dialect != "chat"
    over = next(p.at for p in points(dialect) if p.is_over)
    assert over > last.at * 0.5
    assert points(dialect)[0].text == ""


def test_a_pipe_passes_no_cut_but_the_last() -> None:
    sample = [*cuts(every=97), *list(cuts())[-3:]]
    results = [r for r in bare(sample) if r.stream and r.way == "chat"]
    *cut, whole = results
    assert whole.verdict.grade == "pass"
    assert {r.verdict.grade for r in cut[:-2]} == {"fail"}


def test_there_are_scenarios_enough() -> None:
    names = [s.name for s in rows.SCENARIOS]
    assert len(names) == len(set(names))
    assert len([s for s in rows.SCENARIOS if s.second is None]) * 2 * len(PATHS) >= 240
