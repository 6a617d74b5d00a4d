"""Faults of our own: whatever fails inside, the caller is told or cut, the loop lives, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from typing import Any

import pytest
from msgspec import Raw, structs
from tests.gateway.rig import CHAT, Answered, ask, mounted, read_one, request, rig, run, until

from lilliput.catalogue.rows import Model
from lilliput.gateway.server import Limits
from lilliput.gateway.visit import Visit
from lilliput.neutral import Problem, Target

INTERNAL = (500, "internal")


def fails(*_: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


def told(answer: Answered) -> tuple[int, str]:
    return answer.status, str(answer.error["code"])


@pytest.mark.parametrize("broken", ["target", "clock"])
def test_a_fault_inside_is_told_and_logged(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            good = getattr(r.gate, broken)
            setattr(r.gate, broken, fails)
            for stream in (False, True):
                writer.write(ask(stream=stream))
                assert told(await read_one(reader)) == INTERNAL
            setattr(r.gate, broken, good)
            writer.write(ask())
            assert (await read_one(reader)).status == 200, "the same connection serves on"
            writer.close()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "ZeroDivisionError" in caplog.text
    assert "lil_test" not in caplog.text


@pytest.mark.parametrize("broken", ["find_key", "request_id"])
def test_a_fault_at_the_door_closes_the_connection(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rig() as r:
            good = getattr(r.gate, broken)
            setattr(r.gate, broken, fails)
            assert await r.raw(ask()) == b""
            setattr(r.gate, broken, good)
            assert (await r.chat()).status == 200
            await until(lambda: not r.listener.conns)

    with caplog.at_level(logging.ERROR):
        run(main())


def test_a_fault_in_a_cold_route(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            r.gate.models = fails
            for front in (r, m):
                assert told(await front.ask("GET", "/v1/models")) == INTERNAL
                assert (await front.ask("GET", "/healthz")).status == 200

    with caplog.at_level(logging.CRITICAL):
        run(main())


def test_a_problem_in_a_cold_route() -> None:
    def closed() -> Any:
        raise Problem("server", "the catalogue is closed", code="closed")

    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            r.gate.models = closed
            for front in (r, m):
                assert told(await front.ask("GET", "/v1/models")) == (503, "closed")
                assert told(await front.ask("GET", "/v1/models/q/none")) == (503, "closed")

    run(main())


def test_no_second_answer_is_begun(caplog: pytest.LogCaptureFixture) -> None:
    async def twice(visit: Visit) -> None:
        visit.reply(200, b"", b"first")
        visit.reply(200, b"", b"second")

    async def main() -> None:
        async with rig() as r:
            good, r.listener.serve = r.listener.serve, twice
            reader, writer = await r.connect()
            writer.write(ask())
            assert (await read_one(reader)).body == b"first"
            r.listener.serve = good
            writer.write(ask())
            assert (await read_one(reader)).json["choices"], "nothing of the second stands between"
            writer.close()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "a second answer" in caplog.text


def test_an_answer_that_cannot_be_ended_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async def half(visit: Visit) -> None:
        visit.start(200, b"")
        visit.write(b"some")
        await asyncio.sleep(0.01)
        fails()

    async def forgets(visit: Visit) -> None:
        visit.start(200, b"")
        visit.write(b"some")
        await asyncio.sleep(0.01)

    async def main() -> None:
        async with rig() as r:
            for serve in (half, forgets):
                r.listener.serve = serve
                try:
                    data = await r.raw(ask())
                except ConnectionError:
                    data = b""
                assert not data.endswith(b"0\r\n\r\n"), "never a clean end"

    with caplog.at_level(logging.ERROR):
        run(main())


def test_the_sweepers_survive_a_fault() -> None:
    """One connection that cannot be swept must not leave all the others without time limits."""

    async def main() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        async with rig(limits=Limits(idle_timeout_s=0.5)) as r:
            for at, name in ((r.listener, "limits"), (r.gate.upstream, "_pools")):
                _, writer = await r.connect()
                await until(lambda: r.listener.conns)
                good, count = getattr(at, name), len(faults)
                setattr(at, name, None)
                await until(lambda: len(faults) > count)  # noqa: B023
                setattr(at, name, good)
                writer.close()
            reader, writer = await r.connect()
            assert await asyncio.wait_for(reader.read(), 10) == b"", "time limits hold again"
            writer.close()

    run(main())


def test_an_idle_connection_holds_no_body() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(ask(user="u" * 100_000))
            assert (await read_one(reader)).status == 200
            gc.collect()
            assert [len(v.body) for v in gc.get_objects() if type(v) is Visit and v.body] == []
            writer.close()

    run(main())


def test_a_thousand_requests_leave_nothing_behind() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()

            async def hundred() -> int:
                for i in range(100):
                    writer.write(ask(stream=bool(i % 2)))
                    await read_one(reader)
                gc.collect()
                return len(gc.get_objects())

            await hundred()
            before = await hundred()
            for _ in range(8):
                after = await hundred()
            assert after - before < 500
            assert len(asyncio.all_tasks()) < 10
            writer.close()

    run(main())


class Engine:
    """A provider on this machine (`gates.Here`): started when it is called, at an address of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.woken: list[str] = []

    def fit(self, operation: str, fields: dict[str, Raw]) -> dict[str, Raw]:
        if "n" in fields:
            raise Problem("client", "n is not known here", code="unsupported", param="n")
        return {**fields, "fitted": Raw(b"true")}

    async def wake(self, target: Target) -> Target:
        if not self.port:
            raise Problem("server", "the weights are missing; run `lilliput pull`", code="no_weights")
        self.woken.append(target.id)
        return structs.replace(target, base=f"http://127.0.0.1:{self.port}/v1")


def test_a_provider_on_this_machine_is_woken_first() -> None:
    async def main() -> None:
        async with rig(base="http://127.0.0.1:1/v1") as r:
            engine = Engine(r.provider.port)
            r.gate.here = {"p": engine}
            assert (await r.chat()).status == 200
            assert (await r.chat(stream=True)).status == 200
            assert (await r.ask("POST", "/v1/embeddings", {"model": "p/m", "input": "x"})).status == 200
            assert engine.woken == ["p/m"] * 3
            assert all(json.loads(body)["fitted"] for body in r.provider.bodies)
            assert told(await r.chat(n=2)) == (400, "unsupported")
            engine.port = 0
            answer = await r.chat()
            assert told(answer) == (503, "no_weights")

    run(main())


def test_models_are_shown() -> None:
    known = [Model(id="p/m", maker="p", context_tokens=8), Model(id="p/secret", maker="p")]

    async def main() -> None:
        async with rig() as r:
            r.gate.models = lambda: known
            listed = (await r.ask("GET", "/v1/models")).json
            assert listed["object"] == "list"
            assert [m["id"] for m in listed["data"]] == ["p/m", "p/secret"]
            one = (await r.ask("GET", "/openai/v1/models/p/m")).json
            assert one == {"id": "p/m", "object": "model", "created": 0, "owned_by": "p", "context_window": 8, **one}
            assert one == listed["data"][0]

    run(main())


def test_a_body_on_a_get_is_read_and_left_alone() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            writer.write(request("GET", "/healthz", b"x" * 1000) + request("POST", CHAT, b"{}"))
            assert (await read_one(reader)).status == 200
            assert (await read_one(reader)).status == 400
            writer.close()

    run(main())
