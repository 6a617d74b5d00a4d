"""One decision, whichever door is used: header, alias, method, server in front."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.calls import calls, code
from tests.gateway.rig import ASK, CHAT, KEY, Rig, mounted, parse, rig, run

from lilliput.gateway.routes import Route, Routes
from lilliput.neutral import Key, Problem

Headers = dict[str, str | None]
NONE: Headers = {"Authorization": None}


def by(name: str, token: str) -> Headers:
    return {**NONE, name: token}


def carriers(token: str) -> list[Headers]:
    """Every way to carry one key."""
    return [
        by("Authorization", f"Bearer {token}"),
        by("authorization", f"bearer {token}"),
        by("AUTHORIZATION", f"BEARER  {token} "),
        by("x-api-key", token),
        by("X-API-Key", token),
        by("x-goog-api-key", token),
    ]


HOSTILE = [
    "",
    " ",
    "x",
    KEY + "x",
    KEY[:-1],
    KEY.upper(),
    f"{KEY}, {KEY}",
    "Bearer",
    "' OR 1=1 --",
    "\xff\xfe",
    "lil_" + "a" * 9000,
]
WITHOUT: list[Headers] = [
    NONE,
    by("Authorization", KEY),
    by("Authorization", "Bearer"),
    by("Authorization", f"Basic {KEY}"),
    by("Authorization", f"Token {KEY}"),
    by("Authorization", f"Bearer\t{KEY}"),
    by("Cookie", f"key={KEY}"),
    by("api-key", KEY),
    by("x-api-key", f"Bearer {KEY}"),
    by("Proxy-Authorization", f"Bearer {KEY}"),
    {"Authorization": "Bearer wrong", "x-api-key": KEY},
]
OTHERWISE = {
    **dict.fromkeys(("response", "delete_response", "usage", "credits"), 404),
    **dict.fromkeys(("tasks", "create_task", "task", "delete_task", "task_state", "task_student", "forget"), 404),
    **dict.fromkeys(("task_feedback", "add_task_rows", "task_rows", "task_audits", "task_savings"), 404),
    "metrics": 403,
    **dict.fromkeys(("rerank", "transcription", "translation", "speech", "images", "moderation"), 502),
}
"""What a good key gets where the scripted provider has no good answer, or nothing is kept."""


async def decide(r: Rig, route: Route, path: str, body: Any, headers: Headers) -> tuple[int, str | None]:
    answer = await r.ask(route.method, path, body, headers)
    return answer.status, code(answer)


@pytest.mark.parametrize("front", ["raw", "asgi"])
def test_a_good_key_is_good_however_it_comes(front: str) -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            for route, path, body, more in calls():
                decisions = [
                    await decide(r if front == "raw" else m, route, path, body, {**more, **headers})
                    for headers in carriers(KEY)
                ]
                assert len({status for status, _ in decisions}) == 1, (path, decisions)
                name = route.operation.name if route.operation else route.name
                assert decisions[0][0] == OTHERWISE.get(name, 200), (path, decisions[0])

    run(main())


@pytest.mark.parametrize("front", ["raw", "asgi"])
def test_a_bad_key_is_bad_however_it_comes(front: str) -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            for route, path, body, more in calls():
                words = ("invalid_api_key", "authentication_error", "UNAUTHENTICATED")
                expected = {(401, word) for word in words} if route.permission != "open" else {(200, None)}
                bad = [*WITHOUT, *(h for token in HOSTILE for h in carriers(token)[::2])]
                for headers in bad if route.operation or front == "raw" else bad[::4]:
                    got = await decide(r if front == "raw" else m, route, path, body, {**more, **headers})
                    assert got in expected, (path, headers)
            assert r.provider.bodies == []

    run(main())


def test_a_key_that_stands_twice_is_no_key() -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            for front in (r, m):
                for first, second in ((KEY, "other"), ("other", KEY)):
                    lines = f"Authorization: Bearer {first}\r\nAuthorization: Bearer {second}\r\n"
                    head = f"GET /v1/models HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{lines}\r\n"
                    answer = parse(await front.raw(head.encode()))
                    assert (answer.status, answer.error["code"]) == (400, "bad_request")

    run(main())


def test_a_query_or_a_spelling_changes_no_decision() -> None:
    """What is decided on is the path that is served: no other spelling of it is let in without a key."""
    spellings = [
        f"{CHAT}?key={KEY}",
        f"{CHAT}?api_key={KEY}",
        CHAT.replace("chat", "c%68at"),
        f"http://t{CHAT}",
        f"http://t{CHAT}?x=/healthz",
        f"{CHAT}#/healthz",
        f"{CHAT}/../../../healthz",
        f"/healthz/..{CHAT}",
        f"/healthz?{CHAT}",
        f"/healthz%3f{CHAT}",
        f"/%2e%2e{CHAT}",
        CHAT + "%00",
        CHAT + "/",
        CHAT.upper(),
        CHAT + ";x=1",
        CHAT.replace("/", "%2f"),
    ]

    async def main() -> None:
        async with rig() as r:
            for path in spellings:
                answer = await r.ask("POST", path, ASK, NONE)
                assert answer.status in (400, 401, 404, 405), path
            for method in ("GET", "PUT", "PATCH", "OPTIONS", "HEAD"):
                answer = await r.ask(method, CHAT, ASK, {**NONE, "X-HTTP-Method-Override": "POST"})
                assert answer.status == 405
            assert r.provider.bodies == []
            for path in (
                "/v1/models/p/m",
                "/v1/models/p%2Fm",
                "/v1/models/p%2fm",
                "http://t/v1/models/p/m",
                "/v1/models/p/m?x",
            ):
                answer = await r.ask("GET", path)
                assert (answer.status, answer.json["id"]) == (200, "p/m"), path

    run(main())


@pytest.mark.parametrize("front", ["raw", "asgi"])
def test_scope_is_the_same_by_every_door(front: str) -> None:
    async def main() -> None:
        async with rig() as r, mounted(r) as m:
            r.gate.find_key = lambda token: Key(id="k", models=("p/other",)) if token == KEY else None
            for route, path, body, more in calls():
                if route.permission == "open" or route.name in (
                    *("models", "response", "delete_response", "usage", "credits", "tasks"),
                ):
                    continue
                for headers in carriers(KEY):
                    got = await decide(r if front == "raw" else m, route, path, body, {**more, **headers})
                    words = {"model_not_allowed", "permission_error", "PERMISSION_DENIED"}
                    words |= {"metrics_not_allowed", "tasks_not_allowed"}
                    assert got in {(403, word) for word in words}, (path, headers)
            assert r.provider.bodies == []

    run(main())


def test_a_revoked_key_stops_at_the_next_request_of_an_open_connection() -> None:
    async def main() -> None:
        async with rig() as r:
            reader, writer = await r.connect()
            from_now: dict[str, Key | None] = {KEY: Key(id="k")}
            r.gate.find_key = from_now.get
            for status in (b"200", b"401"):
                writer.write(f"GET /v1/models HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 " + status)
                from_now.clear()
                await reader.readuntil(b"\r\n\r\n")
                await reader.read(1000)
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nowhere", "not_found"),
        ("DELETE", "/v1/models", "method_not_allowed"),
        ("GET", "/v1/models/", "not_found"),
    ],
)
def test_what_no_route_serves(method: str, path: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        Routes().find(method, path)
    assert caught.value.code == code
