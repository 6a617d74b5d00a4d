"""Names that stand for several deployments: failover through the gateway, wishes in the body, one retry budget."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs
from tests.gateway.rig import (
    KEY,
    STREAM_HEAD,
    Provider,
    Rig,
    Script,
    answering,
    by_wish,
    chunk,
    framed,
    json_answer,
    rig,
    run,
)

from lilliput.catalogue.rows import Model, Status
from lilliput.catalogue.rows import Provider as Row
from lilliput.gateway.hedge import guarded
from lilliput.gateway.routing import Routing
from lilliput.neutral import Key, Secret, Target
from lilliput.router.attempts import Budget
from lilliput.router.keys import Rotation
from lilliput.router.plan import World
from lilliput.router.routes import Deployment, Route

DOWN = answering(json_answer(b'{"error":{"message":"down"}}', 500))
LIMITED = answering(json_answer(b'{"error":{"message":"slow"}}', 429))
CLIENT = answering(json_answer(b'{"error":{"message":"no such thing"}}', 422))


class Two:
    """A catalogue of two providers, p and q, that both have any model."""

    def __init__(self, p: Rig, q: Rig, windows: tuple[int, int]) -> None:
        self.windows = dict(zip("pq", windows, strict=True))
        self._ports = {"p": p.provider.port, "q": q.provider.port}
        self._known: dict[str, Target] = {}

    def target(self, name: str) -> Target:
        provider, _, model = name.partition("/")
        base = f"http://127.0.0.1:{self._ports[provider]}/v1"
        found = self._known.get(name) or Target(provider=provider, model=model, base=base, allow_private=True)
        return self._known.setdefault(name, found)

    def model(self, id: str) -> Model | None:
        return Model(id=id, output=("text",), context_tokens=self.windows[id[0]])

    def models(self) -> tuple[Model, ...]:
        return ()

    def providers(self) -> tuple[Status, ...]:
        return tuple(Status(name, Row(title=name), True, "") for name in self._ports)


BOTH = Route(deployments=(Deployment(model="p/m"), Deployment(model="q/m")))
TOO_LONG_ANTHROPIC = "prompt is too long: 210000 tokens > 200000 maximum"
TOO_LONG_GEMINI = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
ROUTE = Route(policy="priority", deployments=(Deployment(model="p/m", priority=0), Deployment(model="q/m", priority=1)))


@contextlib.asynccontextmanager
async def two(
    first: Script, second: Script = by_wish, windows: tuple[int, int] = (0, 0), **routes: Route
) -> AsyncIterator[tuple[Rig, Rig]]:
    """A gateway with the route `fast` over both providers."""
    async with rig(first) as r, rig(second) as other:
        world = World(Two(r, other, windows), {"fast": ROUTE, **routes}, {"gpt": "fast"})
        r.gate.routing = Routing(world, time.time, random.Random(1).random, guard=guarded)
        yield r, other


def test_a_dead_deployment_is_left_for_the_next() -> None:
    async def main() -> None:
        async with two(DOWN) as (r, other):
            got = await r.chat(model="fast")
            assert (got.status, got.headers["x-lilliput-route"]) == (200, "q/m; tries=2; why=priority")
            assert [len(x.provider.bodies) for x in (r, other)] == [1, 1], (
                "few retries are left: the next place at once"
            )
            assert json.loads(other.provider.bodies[0])["model"] == "m"

    run(main())


def test_with_retries_saved_up_the_same_place_is_asked_once_more() -> None:
    async def main() -> None:
        async with two(DOWN) as (r, other):
            assert r.gate.routing is not None
            r.gate.routing.budget.left = 50.0
            assert (await r.chat(model="fast")).headers["x-lilliput-route"] == "q/m; tries=3; why=priority"
            assert [len(x.provider.bodies) for x in (r, other)] == [2, 1]

    run(main())


def test_nobody_is_told_of_a_deployment_that_is_dead_from_the_start() -> None:
    """One after the other, and all at once: what the retries lack, other requests earn."""

    async def main() -> None:
        async with two(DOWN, both=BOTH) as (r, other):
            for _ in range(8):
                assert (await r.chat(model="fast")).status == 200
            assert len(r.provider.bodies) <= 2
        async with two(DOWN, both=BOTH) as (r, other):
            left = iter(range(300))

            async def caller() -> list[int]:
                return [(await r.chat(model="both")).status for _ in left]

            got = [s for told in await asyncio.gather(*(caller() for _ in range(32))) for s in told]
            assert got == [200] * 300
            assert len(r.provider.bodies) + len(other.provider.bodies) <= 300 * 1.2 + 3

    run(main())


def test_keys_take_turns_and_one_that_is_limited_is_put_aside() -> None:
    """`p` has two keys; the second is limited: it is asked once, and nobody notices."""

    async def script(p: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"sk-two" in p.heads[-1]:
            writer.write(json_answer(b'{"error":{"message":"slow"}}', 429, "retry-after: 30\r\n"))
        else:
            await by_wish(p, body, reader, writer)

    async def main() -> None:
        async with two(script) as (r, other):
            routing = r.gate.routing
            assert routing is not None
            keyed: dict[str, tuple[Target, ...]] = {}

            def keys(t: Target) -> tuple[Target, ...]:
                both = tuple(structs.replace(t, key=Secret(k)) for k in ("sk-one", "sk-two"))
                return keyed.setdefault(t.id, both) if t.provider == "p" else ()

            routing.keys = Rotation(keys)
            for name in ("fast", "p/m"):
                before = len(r.provider.heads)
                assert [(await r.chat(model=name)).status for _ in range(6)] == [200] * 6
                used = [b"sk-two" in head for head in r.provider.heads[before:]]
                assert used == ([False, True] + [False] * 5 if name == "fast" else [False] * 6)
            assert other.provider.bodies == []
            assert len([way for way in r.gate.ways.values() if way.target.provider == "p"]) == 2, "made once for each"

    run(main())


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("openai_chat", {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        ("anthropic", {"type": "error", "error": {"type": "invalid_request_error", "message": TOO_LONG_ANTHROPIC}}),
        ("gemini", {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": TOO_LONG_GEMINI}}),
    ],
)
def test_a_prompt_too_long_goes_to_a_larger_declared_window(dialect: str, said: dict[str, Any]) -> None:
    """However the provider says it, by route and by alias, streamed or not; to one that is no larger it goes not."""

    async def main() -> None:
        async with two(answering(json_answer(json.dumps(said).encode(), 400)), windows=(8_000, 90_000)) as (r, other):
            assert r.gate.routing is not None
            places = r.gate.routing.world.catalogue
            places._known["p/m"] = structs.replace(places.target("p/m"), dialect=dialect)  # type: ignore[attr-defined]
            for fields in ({"model": "fast"}, {"model": "gpt", "stream": True}):
                got = await r.chat(**fields)
                assert got.status == 200, got.body
                assert got.headers["x-lilliput-route"].startswith("q/m; tries=2")
            places.windows = {"p": 8_000, "q": 8_000}  # type: ignore[attr-defined]
            got = await r.chat(model="fast")
            assert (got.status, got.error["code"]) == (400, "context_length_exceeded")
            assert len(other.provider.bodies) == 2

    run(main())


def test_speeds_are_noted_and_the_fastest_is_asked() -> None:
    many = {"usage": {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43}}

    async def slow(p: Provider, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        end = chunk({}, "stop"), b"data: " + json.dumps({"id": "c", "choices": [], **many}).encode() + b"\n\n"
        writer.write(STREAM_HEAD + framed(chunk({"content": "a"}), end=False))
        await asyncio.sleep(0.05)
        writer.write(framed(*end, b"data: [DONE]\n\n"))

    async def main() -> None:
        route = structs.replace(BOTH, policy="fastest")
        async with two(slow, both=route) as (r, other):
            assert r.gate.routing is not None
            for name in ("p/m", "q/m", "both", "both"):
                assert (await r.chat(model=name, stream=True)).events[-1] == "[DONE]"
            assert [len(x.provider.bodies) for x in (r, other)] == [1, 3]
            d = r.gate.routing.world.health.of("p/m")
            assert d.first_token_s is not None
            assert d.tokens_per_s is not None
            assert d.first_token_s >= 0.1
            assert 50 < d.tokens_per_s < 40 / 0.04

    run(main())


def test_a_stream_fails_over_too_and_so_does_another_dialect() -> None:
    async def main() -> None:
        async with two(LIMITED) as (r, _):
            got = await r.chat(model="gpt", stream=True)
            assert got.events[-1] == "[DONE]"
            body: dict[str, Any] = {"model": "fast", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
            assert (await r.ask("POST", "/v1/messages", body)).status == 200

    run(main())


def test_a_caller_s_own_mistake_moves_nowhere() -> None:
    async def main() -> None:
        async with two(CLIENT) as (r, other):
            assert (await r.chat(model="fast")).status == 422
            assert other.provider.bodies == []

    run(main())


def test_wishes_are_ours_and_do_not_go_upstream() -> None:
    async def main() -> None:
        async with two(by_wish) as (r, other):
            got = await r.chat(model="fast", provider={"only": ["q"]})
            assert got.headers["x-lilliput-route"].startswith("q/m;")
            assert set(json.loads(other.provider.bodies[0])) == {"model", "messages"}
            got = await r.chat(model="fast", provider={"only": ["nobody"]})
            assert got.status in (400, 503)
            got = await r.chat(model="fast", provider={"sort": "nonsense"})
            assert got.status == 400

    run(main())


def test_a_model_named_with_its_provider_is_asked_for_there_alone() -> None:
    """Its breaker is not asked, and what its body says is the provider's to read."""

    async def main() -> None:
        async with two(DOWN) as (r, other):
            for _ in range(9):
                assert (await r.chat(model="p/m", provider={"order": ["x"]})).status == 502
            assert json.loads(r.provider.bodies[0])["provider"] == {"order": ["x"]}
            assert other.provider.bodies == []

    run(main())


def test_after_some_failures_the_dead_one_is_not_asked() -> None:
    async def main() -> None:
        async with two(DOWN) as (r, _):
            assert r.gate.routing is not None
            r.gate.routing = Routing(r.gate.routing.world, time.time, lambda: 0.0, Budget(10))
            for _ in range(12):
                assert (await r.chat(model="fast")).status == 200
            assert len(r.provider.bodies) < 9

    run(main())


def test_an_outage_is_not_multiplied() -> None:
    async def main() -> None:
        async with two(DOWN, DOWN) as (r, other):
            for _ in range(60):
                assert (await r.chat(model="fast")).status in (502, 503)
            assert len(r.provider.bodies) + len(other.provider.bodies) <= 60 * 1.2 + 3

    run(main())


def test_a_key_s_scope_holds_for_every_target() -> None:
    async def main() -> None:
        async with two(DOWN) as (r, other):
            key = Key(id="k", models=("p/m",))
            r.gate.find_key = lambda token: key if token == KEY else None
            assert (await r.chat(model="fast")).status == 502
            assert other.provider.bodies == []
            r.gate.find_key = lambda token: structs.replace(key, models=("x/y",))
            assert (await r.chat(model="fast")).status == 403

    run(main())
