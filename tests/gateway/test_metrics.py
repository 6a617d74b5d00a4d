"""`GET /metrics`: what is counted, in which form, for whom; and that no number goes back when a worker dies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families
from tests.gateway.rig import (
    ASK,
    CHAT,
    STREAM,
    STREAM_HEAD,
    Provider,
    Rig,
    ask,
    framed,
    json_answer,
    rig,
    run,
    until,
    whole,
)

from lilliput.cli.publishing import Shelf, meter, used
from lilliput.config import Config
from lilliput.gateway.metrics import BOUNDS_S, Meter
from lilliput.gateway.metrics_page import FAMILIES, Page
from lilliput.gateway.observe import Record
from lilliput.neutral import Problem, Target, Usage

DOC = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
OPEN_ONLY = {"accept": "application/openmetrics-text; version=1.0.0"}


async def by_model(provider: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if b'"hang"' in body:
        writer.write(STREAM_HEAD + framed(*STREAM[:2], end=False))
    elif b'"bad"' in body:
        writer.write(json_answer(b'{"error":{"message":"no"}}', 400))
    elif b'"once"' in body and len(provider.bodies) == 1:
        writer.write(json_answer(b"{}", 500))
    elif b'"stream":true' in body:
        writer.write(STREAM_HEAD + framed(*STREAM))
    else:
        writer.write(json_answer(whole()))


async def leaves(r: Rig) -> None:
    reader, writer = await r.connect()
    writer.write(ask(stream=True, user="hang"))
    await reader.readuntil(b"hel")
    writer.close()
    await until(lambda: r.gate.meter.book.series)


OK, NONE = {"operation": "chat", "provider": "p", "model": "m"}, {"provider": "none", "model": "none"}
SEEN: list[tuple[str, dict[str, Any], dict[str, str], list[tuple[str, dict[str, str], float]]]] = [
    ("a whole answer", {}, {}, [
        ("lilliput_requests_total", {**OK, "outcome": "ok", "status": "2xx"}, 1),
        ("lilliput_tokens_total", {**OK, "kind": "input"}, 3), ("lilliput_tokens_total", {**OK, "kind": "output"}, 2),
        ("lilliput_request_duration_seconds_count", OK, 1), ("lilliput_first_token_seconds_count", OK, 0),
        ("lilliput_upstream_calls_total", {"provider": "p", "model": "m", "outcome": "ok"}, 1),
    ]),
    ("a stream", {"stream": True}, {}, [
        ("lilliput_requests_total", {**OK, "outcome": "ok"}, 1), ("lilliput_first_token_seconds_count", OK, 1),
        ("lilliput_tokens_total", {**OK, "kind": "output"}, 2),
    ]),
    ("one in Anthropic's form, which is translated", {"path": "/v1/messages", "stream": True, "max_tokens": 9}, {}, [
        ("lilliput_requests_total", {**OK, "operation": "messages", "outcome": "ok"}, 1),
        ("lilliput_first_token_seconds_count", {**OK, "operation": "messages"}, 1),
    ]),
    ("a try that failed", {"user": "once"}, {}, [
        ("lilliput_requests_total", {"outcome": "ok"}, 1), ("lilliput_retries_total", {}, 1),
        ("lilliput_upstream_calls_total", {"outcome": "ok"}, 1), ("lilliput_failovers_total", {}, 0),
        ("lilliput_upstream_calls_total", {"outcome": "provider"}, 1),
    ]),
    ("the provider says no", {"user": "bad"}, {}, [
        ("lilliput_requests_total", {"outcome": "client", "status": "4xx", "provider": "p", "model": "other"}, 1),
        ("lilliput_upstream_calls_total", {"outcome": "client", "model": "other"}, 1),
        ("lilliput_upstream_calls_total", {}, 1),
    ]),
    ("no such model", {"model": "nowhere"}, {}, [
        ("lilliput_requests_total", {**NONE, "operation": "chat", "outcome": "missing", "status": "4xx"}, 1),
        ("lilliput_upstream_calls_total", {}, 0),
    ]),
    ("no such key", {}, {"Authorization": "Bearer lil_canary"}, [
        ("lilliput_requests_total", {**NONE, "operation": "none", "outcome": "auth", "status": "4xx"}, 1),
    ]),
    ("the caller leaves", {"leaves": True}, {}, [
        ("lilliput_requests_total", {"outcome": "left", "status": "none"}, 1),
        ("lilliput_upstream_calls_total", {"outcome": "left"}, 1), ("lilliput_first_token_seconds_count", {}, 1),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "headers", "samples"), SEEN, ids=[s[0] for s in SEEN])
def test_what_is_counted(
    name: str, fields: dict[str, Any], headers: Mapping[str, str], samples: list[tuple[str, dict[str, str], float]]
) -> None:
    async def main() -> None:
        async with rig(by_model) as r:
            if fields.get("leaves"):
                await leaves(r)
            else:
                body = {**ASK, **{k: v for k, v in fields.items() if k != "path"}}
                await r.ask("POST", fields.get("path", CHAT), body, headers)
            for family, labels, value in samples:
                assert r.counted(family, **labels) == value, (family, labels)
            assert r.counted("lilliput_requests_total") == 1
            page, _ = Page(r.gate).text("")
            assert b"k1" not in page
            assert b"req_" not in page
            assert b"canary" not in page

    run(main())


def test_both_forms_are_as_their_readers_expect() -> None:
    async def main() -> None:
        async with rig(by_model) as r:
            r.gate.scrapers = None
            await r.chat(model='p/"quoted\\ name')
            await r.chat(stream=True)
            plain = await r.ask("GET", "/metrics", headers={"Authorization": None})
            assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert {f.name for f in plain_families(plain.body.decode())} <= {f.name for f in FAMILIES}
            told = await r.ask("GET", "/metrics", headers={"Authorization": None, **OPEN_ONLY})
            assert told.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            families = {f.name: f for f in open_families(told.body.decode())}
            for family in FAMILIES:
                if family.name in families:
                    assert families[family.name].type == family.kind
                    for sample in families[family.name].samples:
                        assert set(sample.labels) - {"le"} == set(family.labels), sample
            assert {s.labels["model"] for s in families["lilliput_requests"].samples} == {"m", '"quoted\\ name'}
            buckets = [s for s in families["lilliput_request_duration_seconds"].samples if s.labels["model"] == "m"]
            assert [s.value for s in buckets][-3] == 1
            assert len(buckets) == len(BOUNDS_S) + 3

    run(main())


WHO: list[tuple[str, tuple[str, ...] | None, str | None, int]] = [
    ("open, no key", None, None, 200),
    ("no key", (), None, 401),
    ("a bad key", ("k1",), "Bearer lil_no", 401),
    ("any key", (), "Bearer lil_test", 403),
    ("a key that may", ("k1",), "Bearer lil_test", 200),
]


@pytest.mark.parametrize(("name", "scrapers", "carried", "status"), WHO, ids=[w[0] for w in WHO])
def test_who_may_read_them(name: str, scrapers: tuple[str, ...] | None, carried: str | None, status: int) -> None:
    async def main() -> None:
        async with rig() as r:
            r.gate.scrapers = scrapers
            assert (await r.ask("GET", "/metrics", headers={"Authorization": carried})).status == status

    run(main())


def ended(served: str = "p/m", took_s: float = 0.05, **more: Any) -> Record:
    return Record(
        request_id=b"r", operation="chat", key_id="k", began_at=0.0, ended_at=took_s, served_by=served,
        tries=1, usage=Usage(input=1, cache_write_1h=2, image_out=3), **more,
    )  # fmt: skip


def test_only_so_many_models_are_told_apart_and_none_that_never_answered() -> None:
    m = Meter(models=2)
    no = Problem("provider", "no")
    for i in range(1000):
        m.note(ended(f"p/bad{i}", problem=no))
        m.failed(Target(provider="p", model=f"bad{i}"), no)
    for i in range(50):
        m.note(ended(f"p/m{i}"))
    m.note(ended("p/m0", problem=no))
    assert set(m.book.series) == {("chat", "p/m0"), ("chat", "p/m1"), ("chat", "p/other")}
    assert {served for served, _ in m.book.calls} == {"p/other"}
    assert sum(s.ok for s in m.book.series.values()) == 50


@pytest.mark.parametrize(("took_s", "bucket"), [(-5.0, 0), (0.0, 0), (0.01, 0), (0.011, 1), (81.92, 13), (1e6, 14)])
def test_a_duration_falls_into_its_bucket(took_s: float, bucket: int) -> None:
    m = Meter()
    m.note(ended(took_s=took_s))
    (series,) = m.book.series.values()
    assert series.durations.index(1) == bucket
    assert series.duration_s >= 0.0, "a clock that jumps back takes nothing away"
    assert series.tokens == [1, 0, 0, 2, 0, 0, 0, 0, 3]


def test_workers_are_one_page_and_no_number_goes_back_when_one_dies(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig() as r, rig() as other:
            shelves = [Shelf(tmp_path, n) for n in range(2)]
            pages = [Page(one.gate, used, shelf) for one, shelf in zip((r, other), shelves, strict=True)]
            for _ in range(2):
                await r.chat()
            await other.chat()
            other.gate.load.lag_s, r.gate.load.lag_s = 0.25, 0.0
            pages[1].publish()
            text = pages[0].text("")[0].decode()
            assert re.search(r'lilliput_requests_total\{.*outcome="ok",status="2xx"\} 3$', text, re.M)
            assert "\nlilliput_workers 2.0\n" in text
            assert "\nlilliput_event_loop_lag_seconds 0.25\n" in text, "the latest counts, not the sum"
            cpu_s = cpu_of(text)
            r.gate.meter = meter(Config(), shelves[1])  # a worker that takes the place of the second
            r.gate.load.shed = r.gate.meter.book.shed
            await r.chat()
            again = Page(r.gate, used, shelves[1], cpu_s=lambda: 0.0).text("")[0].decode()
            assert re.search(r'lilliput_requests_total\{.*outcome="ok",status="2xx"\} 4$', again, re.M)
            assert "\nlilliput_workers 2.0\n" in again
            assert cpu_of(again) >= cpu_s

    run(main())


def cpu_of(text: str) -> float:
    found = re.search(r"^process_cpu_seconds_total (.+)$", text, re.M)
    assert found is not None
    return float(found[1])


def test_docs_show_the_table() -> None:
    rows = [
        f"| `{f.name}{'_total' if f.kind == 'counter' else ''}` | {f.kind} | "
        f"{', '.join(f'`{name}`' for name in f.labels)} | {f.unit} | {f.about} |"
        for f in FAMILIES
    ]
    shown = [line for line in DOC.read_text().splitlines() if line.startswith(("| `lilliput_", "| `process_"))]
    assert shown == rows, "docs/metrics.md is to hold these rows:\n" + "\n".join(rows)
