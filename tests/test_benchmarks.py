"""The benchmark's arithmetic, goals and tables: what it says of others must be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from benchmarks import figures, peers, translation
from benchmarks.__main__ import TARGETS, arguments, chosen_targets, listing
from benchmarks.checks import needed
from benchmarks.engine import verdict
from benchmarks.figures import Figure, Record
from benchmarks.measure import ANTHROPIC, METRICS, OPENAI, PATHS, Load, Memory, Sample
from benchmarks.prepare import bodies
from benchmarks.processes import Failed
from benchmarks.report import Check, Machine, Result, Server, against_peers, cell, goals, number, render, table
from benchmarks.targets import OURS

from lilliput.neutral import Began, Counted, Ended, Event, Request, Said, Usage
from lilliput.wire import dialects

NOTHING = Load(**dict.fromkeys(Load.__struct_fields__, 0))


def sample(cpu_share: float = 0.0, others_share: float = 0.0, **load: float) -> Sample:
    return Sample(msgspec.structs.replace(NOTHING, **load), cpu_share, others_share)


def records(metric: str, **targets: list[Sample]) -> list[Record]:
    """One record a round for each target, named with _ for -."""
    rows = [(n, t.replace("_", "-"), s) for t, samples in targets.items() for n, s in enumerate(samples, 1)]
    return [Record(n, t, metric, s) for n, t, s in rows]


def cpu(*us: float) -> list[Sample]:
    """Samples of that many CPU us a request."""
    return [sample(cpu_share=u / 1e6 * 1000, per_s=1000) for u in us]


def p50(*us: float) -> list[Sample]:
    return [sample(p50_us=u, per_s=1000) for u in us]


# A machine that halves its speed in round 2 moves every time and no ratio.
DRIFT = records("c64", nginx=cpu(20, 40, 20), lilliput=cpu(30, 60, 40))
BARE = records("c1", direct=p50(20, 40, 20), nginx=p50(100, 200, 100), lilliput=p50(140, 280, 180))

ARITHMETIC: list[tuple[str, Callable[[], Figure | None], Figure | None]] = [
    (
        "the median is of rounds",
        lambda: figures.over_rounds(DRIFT, "lilliput", "c64", figures.cpu_us),
        Figure(40, 30, 60, 3),
    ),
    (
        "a ratio pairs rounds",
        lambda: figures.ratio(DRIFT, "lilliput", "nginx", "c64", figures.cpu_us),
        Figure(1.5, 1.5, 2, 3),
    ),
    (
        "added is a difference of pairs",
        lambda: figures.added(BARE, "nginx", "c1", figures.p50_us),
        Figure(80, 80, 160, 3),
    ),
    (
        "added ratio pairs rounds too",
        lambda: figures.added_ratio(BARE, "lilliput", "nginx", "c1", figures.p50_us),
        Figure(1.5, 1.5, 2, 3),
    ),
    ("an unknown target has no figure", lambda: figures.over_rounds(DRIFT, "none", "c64", figures.cpu_us), None),
    ("nor an unmeasured metric", lambda: figures.ratio(DRIFT, "lilliput", "nginx", "c1", figures.cpu_us), None),
    ("even counts lie between", lambda: figures.figure([4, 1, 3, 2]), Figure(2.5, 1, 4, 4)),
]


@pytest.mark.parametrize(("name", "found", "expected"), ARITHMETIC, ids=[row[0] for row in ARITHMETIC])
def test_arithmetic(name: str, found: Callable[[], Figure | None], expected: Figure | None) -> None:
    got = found()
    if expected is None or got is None:
        assert got is expected
    else:
        assert msgspec.structs.astuple(got) == pytest.approx(msgspec.structs.astuple(expected))


def test_rounds_without_an_answer_do_not_count() -> None:
    rows = records("c64", nginx=cpu(20, 20), lilliput=[*cpu(40), sample(cpu_share=1, per_s=0)])
    ratio = figures.ratio(rows, "lilliput", "nginx", "c64", figures.cpu_us)
    assert ratio is not None
    assert ratio.rounds == 1


def test_rounds_in_which_the_baseline_adds_nothing_are_left_out() -> None:
    rows = records("c1", direct=p50(20, 20), nginx=p50(20, 30), lilliput=p50(40, 40))
    assert figures.added_ratio(rows, "lilliput", "nginx", "c1", figures.p50_us) == Figure(2, 2, 2, 1)


CPU_OF = [
    ("a request", sample(cpu_share=0.5, per_s=10_000), 50),
    ("a chunk where they are the load", sample(cpu_share=0.5, per_s=50, chunks_per_s=5000), 100),
    ("nothing came", sample(cpu_share=0.5), 0),
]


@pytest.mark.parametrize(("name", "one", "us"), CPU_OF, ids=[row[0] for row in CPU_OF])
def test_cpu_per_what(name: str, one: Sample, us: float) -> None:
    assert one.cpu_us == pytest.approx(us)


NUMBERS = [
    (0.0, "0"),
    (0.00126, "0.0013"),
    (0.123, "0.12"),
    (9.99, "9.99"),
    (12.34, "12.3"),
    (123.4, "123"),
    (47_123.4, "47,123"),
    (-86.9, "-86.9"),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_cell_shows_the_spread_only_where_there_is_one() -> None:
    assert cell(Figure(1, 0.5, 2, 3), spread=True) == "1.00 [0.50-2.00]"
    assert cell(Figure(1, 1, 1, 1), spread=True) == "1.00"
    assert cell(None, spread=True) == "-"


def test_table_is_markdown_of_even_width() -> None:
    lines = table(["", "a"], [["long name", "1"], ["x", "1,000"]]).splitlines()
    assert lines == ["|           |     a |", "| --------- | ----: |", "| long name |     1 |", "| x         | 1,000 |"]


GOALS = [
    ("met", cpu(20, 20), cpu(30, 30), True),
    ("met on the line", cpu(20), cpu(40), True),
    ("missed", cpu(20, 20), cpu(50, 50), False),
]


@pytest.mark.parametrize(("name", "base", "own", "met"), GOALS, ids=[row[0] for row in GOALS])
def test_cpu_goal(name: str, base: list[Sample], own: list[Sample], met: bool) -> None:
    (check,) = goals(records("c64", nginx=base, lilliput=own))
    assert check.met is met


def test_upper_goals() -> None:
    rows = records("paced", nginx=cpu(20), lilliput=cpu(36)) + BARE
    assert [(c.goal, c.met) for c in goals(rows)] == [("<= 1.6", True), ("<= 1.7", False)]


CROSSED_GOALS = [
    ("openai-anthropic", "nginx-anthropic", cpu(80), cpu(44), (True, True)),
    ("openai-anthropic", "nginx-anthropic", cpu(81), cpu(45), (False, False)),
    ("anthropic-openai", "nginx", cpu(80), cpu(44), (True, True)),
]


@pytest.mark.parametrize(("target", "base", "request_cpu", "chunk_cpu", "met"), CROSSED_GOALS)
def test_cross_dialect_goals_are_to_the_same_upstream_traffic(
    target: str, base: str, request_cpu: list[Sample], chunk_cpu: list[Sample], met: tuple[bool, bool]
) -> None:
    """The other nginx, which passes other traffic, costs so little that it would fail any."""
    rows: list[Record] = []
    for name, us in (("nginx", cpu(1)), ("nginx-anthropic", cpu(1)), (base, cpu(20))):
        rows = [r for r in rows if r.target != name]
        rows += [*records("c64", **{name: us}), *records("paced", **{name: us})]
    rows += [*records("c64", **{target: request_cpu}), *records("paced", **{target: chunk_cpu})]
    checks = [c for c in goals(rows) if target in c.what]
    assert tuple(c.met for c in checks) == met
    assert TARGETS[target].baseline == base


def test_translation_is_timed_for_chunks_alone() -> None:
    for provider, client in ((OPENAI, ANTHROPIC), (ANTHROPIC, OPENAI)):
        writer = dialects.client(provider).writer(Request(model="m", messages=(), include_usage=True), "id", 0)
        told: list[Event] = [
            Began("id", "m"),
            *(Said(f"@{i}") for i in range(10)),
            Ended("stop"),
            Counted(Usage(input=1, output=10)),
        ]
        stream = b"".join([*(writer(e) for e in told), writer.end()])
        assert translation.decode_us(provider, stream) > 0
        assert 0 < translation.chunk_us(provider, client, stream) < 1000


def run_result(**more: list[Record]) -> Result:
    rows = [r for part in more.values() for r in part]
    memory_mb = Memory(40.0, 30.0)
    servers = [
        Server(name="direct", about="bare"),
        Server(name="nginx", about="proxy", version="1", start_s=0.02, idle=memory_mb, after=memory_mb),
        Server(name="lilliput", about="ours", version="2", start_s=0.5, idle=memory_mb, after=memory_mb),
        Server(name="smg", about="Rust", version="3", peer=True, start_s=1, idle=memory_mb, after=Memory(62.0, 60.0)),
    ]
    machine = Machine("a cpu", 2, 24.0, "6.1", "3.11.7")
    return Result(
        when="2026-11-22 12:00 UTC", machine=machine, rounds=2, full=False, took_s=9, servers=servers, records=rows
    )


def test_peer_is_beaten_only_where_it_is() -> None:
    rows = records("c64", direct=p50(10), lilliput=p50(20), smg=p50(15))
    (check,) = against_peers(run_result(a=rows))
    # Ahead on memory only: req/s are equal, which is not ahead.
    assert (check.what, check.met) == ("ahead of smg", False)
    assert check.measured == "1 of 3"
    assert check.note == "not ahead on req/s at c64 1,000 to 1,000, added p50 at c64 10.0 to 5.00"


def test_render_says_what_spoils_the_figures() -> None:
    rows = records("c64", nginx=cpu(20), lilliput=[sample(0.5, 0.4, per_s=1000, failed=7, bad_status=502)])
    noted = [Check("x", "1 MB", "<= 2", True, note="but")]
    result = msgspec.structs.replace(run_result(a=rows), left_out={"litellm": "not installed"}, checks=noted)
    text = render(result)
    for said in (
        "- x: but",
        "litellm left out: not installed",
        "lilliput c64: 7 requests failed (502)",
        "in 1 of 2 windows something else",
        "| lilliput | ",
        "2026-11-22 12:00 UTC, a cpu, 2 cores",
    ):
        assert said in text


def test_result_survives_its_file() -> None:
    result = msgspec.structs.replace(run_result(a=DRIFT), checks=[Check("x", "1 MB", "<= 2", True)])
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


def test_engine_verdict_pairs_turns() -> None:
    check = verdict("decode", [100.0, 50.0, 99.0], [100.0, 50.0, 110.0])
    assert (check.met, check.measured) == (True, "1.00 [0.90-1.00]; 99.0 to 100 tokens/s")
    assert verdict("decode", [90.0], [100.0]).met is False


BODY_BYTES = [("chat", 990, 1500), ("chat20k", 19_000, 22_000), ("chat500k", 495_000, 505_000)]


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(("kind", "low", "high"), BODY_BYTES)
def test_bodies_are_of_the_size_they_say_and_always_the_same(dialect: str, kind: str, low: int, high: int) -> None:
    body = bodies("any", dialect)[kind]
    assert low <= len(body) <= high
    assert json.loads(body)["model"] == "any"
    assert bodies("any", dialect)[kind] == body


@pytest.mark.parametrize("kind", bodies("any"))
def test_both_dialects_ask_the_same(kind: str) -> None:
    ours, theirs = (dialects.client(d).read_request(bodies("any", d)[kind], PATHS[d]) for d in PATHS)
    same = ("messages", "temperature", "top_p", "max_tokens", "stream")
    assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]


def test_every_metric_and_quick_form_names_what_there_is() -> None:
    assert {m.body for m in METRICS.values()} <= set(bodies("any"))
    assert all(set(t.quick) <= set(METRICS) for t in TARGETS.values())
    assert all(name in listing() for name in [*TARGETS, *METRICS])


CHOICES = [
    (["smg"], False, ["direct", "nginx", "smg"]),
    (["openai-anthropic"], False, ["direct", "nginx-anthropic", "openai-anthropic"]),
    ([], False, [t.name for t in OURS]),
    ([], True, list(TARGETS)),
]


@pytest.mark.parametrize(("names", "full", "expected"), CHOICES)
def test_baselines_come_along(names: list[str], full: bool, expected: list[str]) -> None:
    assert [t.name for t in chosen_targets(names, full=full)] == expected


@pytest.mark.parametrize("words", [["nonesuch"], ["--only", "c1,nonesuch"], ["--rounds", "0"], ["--quick", "--full"]])
def test_wrong_arguments_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert "error" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="--install-peers nonesuch"):
        peers.installed("nonesuch", "bin/x")


def test_needed_walks_all_the_way_and_leaves_one_out() -> None:
    found = needed("starlette", set(), "idna")
    assert "anyio" in found
    assert "idna" not in found
