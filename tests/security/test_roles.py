"""Who may do what: every route of the table for every kind of key, and everybody's objects for everybody else.

The matrix is made from the route table. A route whose permission is not spelt out here, or with an id whose owner is
not, fails the build.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.gateway import calls
from tests.gateway.rig import STREAM_HEAD, Answered, Provider, Rig, chunk, framed, json_answer, request, rig, run, until

from lilliput.gateway.routes import TABLE, Permission, Route
from lilliput.store.keys import KeyRing, allows, mint, open_ring
from lilliput.store.open import open_store

ROLES = ("nobody", "noise", "unknown", "expired", "revoked", "scoped", "good", "local")
REFUSED = dict.fromkeys(("nobody", "noise", "unknown", "expired", "revoked"), 401)
MATRIX: dict[str, dict[str, int | None]] = {
    "open": dict.fromkeys(ROLES, None),
    "key": {**REFUSED, "scoped": 403, "good": None, "local": None},
    "metrics": {**REFUSED, "scoped": 403, "good": 403, "local": None},
}
"""Permission -> role -> the status that it is refused with, None for no refusal; `scoped` may call other models."""
UNSCOPED = ("models", "response", "delete_response", "usage", "credits", "tasks")
"""Routes that touch no model beyond what the key may see: a scope narrows what is listed, not whether it is asked."""
OWNERS = {
    "model": "a key sees the models of its scope",
    "response": "the key that made it",
    "delete_response": "the key that made it",
    "files": "the provider's account: a key with a scope of models is refused",
    **dict.fromkeys(("generate", "embeddings", "count_generate"), "a model, by the key's scope"),
    **dict.fromkeys(("task", "task_audits", "task_savings"), "a task, by the key's scope"),
    "task_feedback": "a task, by the key's scope; of its rows, the key that asked",
    **dict.fromkeys(("delete_task", "task_state", "task_student"), "keys without a scope"),
    **dict.fromkeys(("task_rows", "add_task_rows"), "keys without a scope"),
}
"""Whose the `{id}` of a route's path is, by what answers it."""
FORMS = {
    "authorization": lambda token: {"Authorization": f"Bearer {token}"},
    "x-api-key": lambda token: {"Authorization": None, "X-Api-Key": token},
    "x-goog-api-key": lambda token: {"Authorization": None, "X-Goog-Api-Key": token},
}


def answerer(route: Route) -> str:
    return route.operation.name if route.operation is not None else route.name


class House:
    """A gateway with real keys, a token for each role, and its ring."""

    def __init__(self, r: Rig, ring: KeyRing, tokens: dict[str, str]) -> None:
        self.r, self.ring, self.tokens = r, ring, tokens

    async def ask(self, role: str, route: Route, path: str, body: Any, more: dict[str, Any], form: str) -> Answered:
        token = self.tokens[role]
        lines = FORMS[form](token) if token else {"Authorization": None}
        return await self.r.ask(route.method, path, body, {**more, **lines})


@contextlib.asynccontextmanager
async def house(folder: Path, **more: Any) -> AsyncIterator[House]:
    now = [time.time()]
    opened = await open_store("", folder / "data" / "lilliput.db")
    ring = await open_ring(opened.store, folder / "keys" / "pepper", lambda: now[0])
    tokens = {"nobody": "", "noise": "lil_noise", "unknown": mint()[0].reveal()}
    for role in ("revoked", "good", "other"):
        tokens[role] = (await ring.create(role))[1].reveal()
    tokens["expired"] = (await ring.create("expired", expires_at=now[0] + 60))[1].reveal()
    tokens["scoped"] = (await ring.create("scoped", models=("elsewhere/*",)))[1].reveal()
    tokens["local"] = (await ring.create("local", local=True))[1].reveal()
    await ring.revoke("revoked")
    now[0] += 61
    async with rig(**more) as r:
        r.gate.find_key, r.gate.allows, r.gate.threads = ring.find, allows, opened.responses
        r.gate.key_epoch = opened.store.epoch
        r.gate.scrapers = ()
        yield House(r, ring, tokens)
    await opened.store.close()


def test_every_permission_is_spelt_out() -> None:
    assert set(get_args(Permission)) == set(MATRIX)
    assert {r.permission for r in TABLE} == set(MATRIX)
    assert all(set(row) == set(ROLES) for row in MATRIX.values())
    with pytest.raises(TypeError, match="permission"):
        Route("GET", "/new")  # type: ignore[call-arg]


def test_what_is_open_to_all_is_little() -> None:
    found = {r.path for r in TABLE if r.permission == "open"}
    assert found == {"/", "/healthz", "/readyz", "/version", "/openapi.json"}


def test_every_id_has_an_owner() -> None:
    assert {answerer(r) for r in TABLE if "{id" in r.path} == set(OWNERS)


def refused(answer: Answered) -> int | None:
    return answer.status if answer.status in (401, 403) else None


@pytest.mark.parametrize("role", ROLES)
def test_the_matrix(role: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            for route, path, body, more in calls.calls():
                got = await h.ask(role, route, path, body, more, "authorization")
                due = MATRIX[route.permission][role]
                if role == "scoped" and answerer(route) in UNSCOPED:
                    due = None
                assert refused(got) == due, f"{role} at {route.method} {path}: {got.status} {got.body[:200]!r}"
            if role in REFUSED or role == "scoped":
                assert h.r.provider.connections == 0, "nothing was asked of a provider"

    run(main())


@pytest.mark.parametrize("form", FORMS)
def test_no_header_and_no_alias_changes_the_decision(form: str, tmp_path: Path) -> None:
    """Each route by each form that a key may have: the same refusal, with the same code, as by the first."""

    async def main() -> None:
        async with house(tmp_path) as h:
            for role in ("noise", "revoked", "expired", "scoped"):
                seen: dict[str, set[tuple[int | None, str | None]]] = {}
                for route, path, body, more in calls.calls():
                    got = await h.ask(role, route, path, body, more, form)
                    if answerer(route) in ("model",):
                        continue  # told in the dialect of the header, code and all
                    told = (refused(got), _word(got) if refused(got) else None)
                    plain = path.removeprefix("/openai").removeprefix("/anthropic")
                    seen.setdefault(f"{route.method} {plain} {answerer(route)}", set()).add(told)
                    due = None if role == "scoped" and answerer(route) in UNSCOPED else MATRIX[route.permission][role]
                    assert refused(got) == due, f"{role} by {form} at {path}: {got.status}"
                assert [at for at, told in seen.items() if len(told) > 1 and answerer_is_one(at)] == []
            assert h.r.provider.connections == 0

    run(main())


def answerer_is_one(at: str) -> bool:
    """Lists of models are told in the dialect of their mount."""
    return not at.endswith(" models")


def _word(got: Answered) -> str | None:
    error = json.loads(got.body)["error"]
    word: str | None = error.get("code") if "param" in error else error.get("status") or error.get("type")
    return word


def reference(id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": id}


TURN = {"model": "p/m", "input": "my secret plan"}
RESPONSE = {
    "id": "resp_up", "object": "response", "created_at": 1, "status": "completed", "model": "up",
    "output": [{"type": "message", "id": "msg_up", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "hello", "annotations": []}]}],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}  # fmt: skip


def test_an_object_is_found_by_its_owner_alone(tmp_path: Path) -> None:
    """For everybody else a response is as one that never was, by every way that names it."""

    async def answers(provider: Provider, body: bytes, reader: Any, writer: Any) -> None:
        writer.write(json_answer(json.dumps(RESPONSE).encode()))

    async def main() -> None:
        async with house(tmp_path, script=answers, dialect="openai_responses") as h:

            async def ask(role: str, method: str, path: str, body: Any = None) -> Answered:
                return await h.r.ask(method, path, body, {"Authorization": f"Bearer {h.tokens[role]}"})

            made = await ask("good", "POST", "/v1/responses", TURN)
            assert made.status == 200, made.body
            id, item = made.json["id"], made.json["output"][0]["id"]
            for method in ("GET", "DELETE"):
                for role in ("other", "local", "scoped"):
                    theirs = await ask(role, method, f"/v1/responses/{id}")
                    nobodys = await ask(role, method, "/v1/responses/resp_none")
                    assert theirs.status == nobodys.status == 404
                    assert theirs.body.replace(id.encode(), b"resp_none") == nobodys.body
            went = len(h.r.provider.bodies)
            for named, none in (
                ({"previous_response_id": id}, {"previous_response_id": "resp_none"}),
                ({"input": [reference(item)]}, {"input": [reference("x")]}),
            ):
                theirs = await ask("other", "POST", "/v1/responses", TURN | named)
                nobodys = await ask("other", "POST", "/v1/responses", TURN | none)
                assert (theirs.status, theirs.error["code"]) == (nobodys.status, nobodys.error["code"])
                assert theirs.status in (400, 404)
            assert len(h.r.provider.bodies) == went, "nothing of another's thread went out"
            assert (await ask("good", "GET", f"/v1/responses/{id}")).status == 200
            assert (await ask("good", "DELETE", f"/v1/responses/{id}")).status == 200

    run(main())


def test_a_foreign_models_name_is_not_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            for path in ("/v1/models", "/openai/v1/models", "/v1beta/models", "/anthropic/v1/models"):
                got = await h.r.ask("GET", path, None, {"Authorization": f"Bearer {h.tokens['scoped']}"})
                assert got.status == 200
                assert b"p/m" not in got.body

    run(main())


async def talks(provider: Provider, body: bytes, reader: Any, writer: Any) -> None:
    """A provider that begins to stream and says no more until it is left."""
    if json.loads(body).get("stream"):
        writer.write(STREAM_HEAD + framed(chunk({"content": "hello"}), end=False))
    await reader.read()
    provider.gone.set()
    raise ConnectionError


@pytest.mark.parametrize("stream", [True, False])
def test_revoking_a_key_ends_what_it_has_open(stream: bool, tmp_path: Path) -> None:
    """Within a second the caller is told, the connection is closed and the provider is left; others go on."""

    async def main() -> None:
        async with house(tmp_path, script=talks) as h:
            opened = {}
            for role in ("good", "other"):
                reader, writer = await h.r.connect()
                body = {**calls.BODIES["chat"], "stream": stream}
                lines = {"Authorization": f"Bearer {h.tokens[role]}"}
                writer.write(request("POST", "/v1/chat/completions", body, lines))
                if stream:
                    await reader.readuntil(b"hello")
                opened[role] = reader
            await until(lambda: len(h.r.provider.bodies) == 2)
            began = time.monotonic()
            await h.ring.revoke("good")
            rest = await opened["good"].read()
            assert b"invalid_api_key" in rest
            assert b"[DONE]" not in rest
            assert rest.endswith(b"0\r\n\r\n") if stream else rest.startswith(b"HTTP/1.1 401 ")
            await h.r.provider.gone.wait()
            assert time.monotonic() - began < 2, "twice a second open streams are looked at"
            assert h.r.upstreams == 1, "the other's stream goes on"

    run(main())
