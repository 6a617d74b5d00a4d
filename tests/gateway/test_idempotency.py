"""`Idempotency-Key` through the gateway: one call for many askings, the same answer to each, and safe to send again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.replaying import MATE, MINE, OTHER, replaying
from tests.gateway.rig import (
    ASK,
    CHAT,
    KEY,
    STREAM,
    STREAM_HEAD,
    Answered,
    Rig,
    answering,
    by_wish,
    framed,
    json_answer,
    run,
    until,
    whole,
)

from lilliput.gateway.idempotency import Idempotency
from lilliput.gateway.limits import Limiter
from lilliput.gateway.replays import Replays
from lilliput.gateway.till import Till
from lilliput.limits_config import Caps, Limits
from lilliput.store.counters import LocalCounters
from lilliput.store.replays import SqliteClaims
from lilliput.store.sqlite import SqliteStore

DOWN = answering(json_answer(b'{"error":{"message":"down"}}', 500))


async def once(r: Rig, key: str = "a", path: str = CHAT, who: Any = MINE, **fields: Any) -> Answered:
    return await r.ask("POST", path, {**ASK, **fields}, {**who, "Idempotency-Key": key})


def later(release: asyncio.Event) -> Any:
    """A good provider that answers when told to."""

    async def script(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
        await release.wait()
        await by_wish(provider, body, reader, writer)

    return script


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_sent_again_is_answered_alike(stream: bool, cache: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=cache) as (r, clock):
            first, again = await once(r, stream=stream), await once(r, stream=stream)
            assert first.status == again.status == 200
            assert again.is_whole
            assert first.body == again.body
            assert "idempotent-replayed" not in first.headers
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["content-type"] == first.headers["content-type"]
            clock.more = 86_390
            assert (await once(r, stream=stream)).body == first.body
            assert len(r.provider.bodies) == 1
            clock.more = 86_410
            assert "idempotent-replayed" not in (await once(r, stream=stream)).headers

    run(main())


def test_a_key_is_its_api_keys_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=False) as (r, _):
            for who in (MINE, OTHER, MATE):
                assert "idempotent-replayed" not in (await once(r, who=who)).headers
            assert len(r.provider.bodies) == 3

    run(main())


def test_another_body_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        release = asyncio.Event()
        async with replaying(tmp_path, later(release), cache=False) as (r, _):
            first = asyncio.create_task(once(r))
            await until(lambda: r.provider.bodies)
            for _ in range(2):  # while it is under way, and after
                for got in (await once(r, temperature=1), await once(r, path="/v1/completions", prompt="x")):
                    assert (got.status, got.error["code"]) == (422, "idempotency_key_reused")
                release.set()
                await first
            assert len(r.provider.bodies) == 1

    run(main())


def test_many_at_once_share_one_call(tmp_path: Path) -> None:
    async def main() -> None:
        release = asyncio.Event()
        async with replaying(tmp_path, later(release), cache=False) as (r, _):
            tasks = [asyncio.create_task(once(r, stream=True)) for _ in range(200)]
            await until(lambda: r.provider.bodies)
            release.set()
            bodies = {got.body for got in await asyncio.gather(*tasks)}
            assert len(bodies) == 1
            assert len(r.provider.bodies) == 1

    run(main())


def test_who_waits_tries_itself_when_the_first_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        release = asyncio.Event()
        async with replaying(tmp_path, later(release), cache=False) as (r, _):
            _, writer = await r.connect()
            data = json.dumps(ASK).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {KEY}\r\nidempotency-key: a\r\n"
            writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            await until(lambda: r.provider.bodies)
            waiting = asyncio.create_task(once(r))
            await asyncio.sleep(0.02)
            assert len(r.provider.bodies) == 1
            writer.close()
            await until(lambda: len(r.provider.bodies) == 2)
            release.set()
            assert (await waiting).status == 200

    run(main())


OUTCOMES: list[tuple[str, Any, dict[str, Any], int, bool]] = [
    ("an error after it went out", DOWN, {}, 502, True),
    ("a stream that breaks", answering(STREAM_HEAD + framed(*STREAM[:3])), {"stream": True}, 200, True),
    ("a refusal by the provider", answering(json_answer(b'{"error":{"message":"x"}}', 400)), {}, 400, False),
    ("a limit of the provider", answering(json_answer(b'{"error":{"message":"x"}}', 429)), {}, 429, False),
    ("a body that is none", by_wish, {"messages": 3}, 400, False),
    ("a model that is not known", by_wish, {"model": "x/y"}, 404, False),
]


@pytest.mark.parametrize(
    ("script", "fields", "status", "is_kept"), [o[1:] for o in OUTCOMES], ids=[o[0] for o in OUTCOMES]
)
def test_an_error_stands_once_the_request_had_gone_out(
    script: Any, fields: dict[str, Any], status: int, is_kept: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        async with replaying(tmp_path, script, cache=False) as (r, _):
            first = await once(r, **fields)
            assert first.status == status
            r.provider.script = by_wish
            again = await once(r, **fields)
            assert ("idempotent-replayed" in again.headers) is is_kept
            assert ((again.status, again.body) == (first.status, first.body)) is (is_kept or script is by_wish)

    run(main())


def test_a_provider_out_of_reach_may_be_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=False, base="http://127.0.0.1:9/v1") as (r, _):
            for _ in range(2):
                got = await once(r)
                assert (got.status, got.error["code"]) == (502, "upstream_unreachable")
                assert "idempotent-replayed" not in got.headers

    run(main())


def test_a_request_that_a_limit_kept_out_may_be_sent_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=False) as (r, clock):
            limiter = Limiter(Limits(key=Caps(requests_per_minute=0)), LocalCounters())
            r.gate.till = Till(limiter=limiter, clock=clock)
            assert (await once(r)).status == 429
            r.gate.till = None
            assert (await once(r)).status == 200

    run(main())


def test_a_hit_of_the_cache_stands_for_the_key_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path) as (r, clock):
            filled = await r.chat()
            got = await once(r)
            assert (got.headers["x-lilliput-cache"], got.body) == ("hit", filled.body)
            clock.more = 1000  # the cache has let go of it
            again = await once(r)
            assert (again.headers["idempotent-replayed"], again.body) == ("true", filled.body)
            assert "x-lilliput-cache" not in again.headers

    run(main())


def test_an_answer_too_long_to_keep_is_not_asked_for_twice(tmp_path: Path) -> None:
    async def main() -> None:
        script = answering(json_answer(whole("x" * 3000)))
        async with replaying(tmp_path, script, cache=False, most_bytes=2000) as (r, _):
            assert (await once(r)).status == 200
            got = await once(r)
            assert (got.status, got.error["code"]) == (409, "idempotency_answer_not_kept")
            assert len(r.provider.bodies) == 1

    run(main())


def test_a_key_has_a_length(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=False) as (r, _):
            for key, status in (("x" * 255, 200), ("x" * 256, 400), ("", 400)):
                got = await once(r, key)
                assert got.status == status, len(key)
            assert got.error["code"] == "idempotency_key_invalid"

    run(main())


def test_another_process_says_so_until_the_first_is_done_or_dead(tmp_path: Path) -> None:
    async def main() -> None:
        release = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            one, _ = await stack.enter_async_context(replaying(tmp_path, later(release), cache=False, lease_s=0.3))
            two, _ = await stack.enter_async_context(replaying(tmp_path, cache=False))
            first = asyncio.create_task(once(one))
            await until(lambda: one.provider.bodies)
            await asyncio.sleep(0.5)  # its lease is renewed
            got = await once(two)
            assert (got.status, got.error["code"], got.headers["retry-after"]) == (409, "idempotency_in_progress", "1")
            assert (await once(two, temperature=1)).status == 422
            release.set()
            answer = await first
            again = await once(two)
            assert (again.body, again.headers["idempotent-replayed"]) == (answer.body, "true")
            assert two.provider.bodies == []

    run(main())


def test_a_process_that_dies_leaves_a_key_that_may_be_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(tmp_path / "l.db")
        dead = Idempotency(SqliteClaims(store), keep_s=86_400, most_bytes=1000)
        async with replaying(tmp_path, cache=False) as (r, clock):
            ours = r.gate.replays
            r.gate.replays = Replays(dead, None, clock)
            r.provider.script = lambda *_: asyncio.sleep(60)
            lost = asyncio.create_task(once(r))
            await until(lambda: r.provider.bodies)
            await dead.close()  # nothing renews its lease any more, as if it had been killed
            r.gate.replays, r.provider.script = ours, by_wish
            assert (await once(r)).error["code"] == "idempotency_in_progress"
            clock.more = 31
            assert (await once(r)).status == 200
            assert (await once(r)).headers["idempotent-replayed"] == "true"
            lost.cancel()
        await store.close()

    run(main())


def test_a_form_is_the_same_under_another_boundary(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=False) as (r, _):
            replayed = []
            for boundary, sound in (("aaa", "x"), ("bbb", "x"), ("ccc", "y")):
                parts = ['Content-Disposition: form-data; name="model"\r\n\r\np/m']
                parts.append(f'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n{sound}')
                form = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
                headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Idempotency-Key": "a"}
                got = await r.ask("POST", "/v1/audio/transcriptions", form.encode(), headers)
                replayed.append((got.status, "idempotent-replayed" in got.headers))
            assert replayed[1:] == [(replayed[0][0], True), (422, False)]

    run(main())


def test_a_store_that_is_down_says_so_and_nothing_goes_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with replaying(tmp_path, cache=False) as (r, clock):
            closed = SqliteStore(tmp_path / "other.db")
            await closed.close()
            r.gate.replays = Replays(Idempotency(SqliteClaims(closed), keep_s=1, most_bytes=9), None, clock)
            for _ in range(2):
                assert (await once(r)).status == 503
            assert (await r.chat()).status == 200, "without the header nobody asks it"
            assert len(r.provider.bodies) == 1

    run(main())


def test_a_stream_that_the_gateways_end_cut_may_be_tried_again(tmp_path: Path) -> None:
    async def slow(provider: Any, body: bytes, reader: Any, writer: Any) -> None:
        writer.write(STREAM_HEAD + framed(*STREAM[:3], end=False))
        await reader.read()

    async def main() -> None:
        async with replaying(tmp_path, slow, cache=False) as (r, _):
            asking = asyncio.create_task(once(r, stream=True))
            await until(lambda: r.provider.bodies)
            await asyncio.sleep(0.05)
            await r.listener.close(0.0)
            assert "server_shutdown" in (await asking).body.decode()
        with contextlib.closing(sqlite3.connect(tmp_path / "l.db")) as db:
            assert db.execute("SELECT count(*) FROM idempotency_key").fetchone() == (0,)

    run(main())
