"""Names that stand for several deployments: failover through the gateway, wishes in the body, one retry budget."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from msgspec import structs
from tests.gateway.rig import KEY, Rig, Script, answering, by_wish, json_answer, rig, run

from lilliput.catalogue.rows import Model, Provider, Status
from lilliput.gateway.routing import Routing
from lilliput.neutral import Key, Target
from lilliput.router.attempts import Budget
from lilliput.router.plan import World
from lilliput.router.routes import Deployment, Route

DOWN = answering(json_answer(b'{"error":{"message":"down"}}', 500))
LIMITED = answering(json_answer(b'{"error":{"message":"slow"}}', 429))
CLIENT = answering(json_answer(b'{"error":{"message":"no such thing"}}', 422))


class Two:
    """A catalogue of two providers, p and q, that both have any model."""

    def __init__(self, p: Rig, q: Rig) -> None:
        self._ports = {"p": p.provider.port, "q": q.provider.port}
        self._known: dict[str, Target] = {}

    def target(self, name: str) -> Target:
        provider, _, model = name.partition("/")
        base = f"http://127.0.0.1:{self._ports[provider]}/v1"
        found = self._known.get(name) or Target(provider=provider, model=model, base=base, allow_private=True)
        return self._known.setdefault(name, found)

    def model(self, id: str) -> Model | None:
        return Model(id=id, output=("text",))

    def models(self) -> tuple[Model, ...]:
        return ()

    def providers(self) -> tuple[Status, ...]:
        return tuple(Status(name, Provider(title=name), True, "") for name in self._ports)


ROUTE = Route(policy="priority", deployments=(Deployment(model="p/m", priority=0), Deployment(model="q/m", priority=1)))


@contextlib.asynccontextmanager
async def two(first: Script, second: Script = by_wish, **routes: Route) -> AsyncIterator[tuple[Rig, Rig]]:
    """A gateway with the route `fast` over both providers."""
    async with rig(first) as r, rig(second) as other:
        world = World(Two(r, other), {"fast": ROUTE, **routes}, {"gpt": "fast"})
        r.gate.routing = Routing(world, time.time, lambda: 0.0)
        yield r, other


def test_a_dead_deployment_is_left_for_the_next() -> None:
    async def main() -> None:
        async with two(DOWN) as (r, other):
            got = await r.chat(model="fast")
            assert (got.status, got.headers["x-lilliput-route"]) == (200, "q/m; tries=3; why=priority")
            assert [len(x.provider.bodies) for x in (r, other)] == [2, 1], "once more in the same place"
            assert json.loads(other.provider.bodies[0])["model"] == "m"

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
