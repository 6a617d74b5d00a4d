"""The gateway keeps to its own /openapi.json whatever is sent: no 5xx, no status, type or body that is not in there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.clients.actor import Actor
from tests.conformance.kit import Kit
from tests.conformance.need import need, recordings
from tests.live import Live

from lilliput.gateway.routes import TABLE, Route

pytestmark = pytest.mark.slow

MODEL = "chat/m"
"""Stands for the model's name in half of the requests, since no random name means a model."""
HOLDS = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
LIMITS = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ROUTES = pytest.mark.parametrize("route", TABLE, ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    need(importlib.util.find_spec("schemathesis") is not None, "schemathesis is not installed: make setup")
    with Actor(Kit(recordings()).expect) as actor:
        rows = f'[providers.chat]\nbase = "{actor.base}/v1"\nallow_private = true\n'
        with Live(rows) as live:
            yield live


@pytest.fixture(scope="module")
def schema(live: Live) -> Any:
    import schemathesis  # noqa: PLC0415

    return schemathesis.openapi.from_url(f"{live.base}/openapi.json")


@ROUTES
def test_what_the_document_allows(live: Live, schema: Any, route: Route) -> None:
    assert _statuses(live, schema, route, "positive", 12) != {401}


@ROUTES
def test_what_the_document_forbids(live: Live, schema: Any, route: Route) -> None:
    if route.method == "GET" and "{" not in route.path:
        pytest.skip("nothing can be wrong with it")
    assert _statuses(live, schema, route, "negative", 12) != {401}


@ROUTES
def test_without_a_key(live: Live, schema: Any, route: Route) -> None:
    statuses = _statuses(live, schema, route, "positive", 2, keyed=False)
    assert (statuses == {401}) is (route.permission == "key")


def _statuses(live: Live, schema: Any, route: Route, mode: str, examples: int, *, keyed: bool = True) -> set[int]:
    """The statuses of so many answers, each of which held to the document."""
    from schemathesis import GenerationMode, checks  # noqa: PLC0415

    seen: set[int] = set()
    kept = [checks.not_a_server_error, *map(checks.CHECKS.get_one, HOLDS)]
    headers = {"Authorization": f"Bearer {live.key}"} if keyed else {}
    operation = schema[route.path.replace("{id:path}", "{id}")][route.method]

    def ask(case: Any, known: bool) -> None:
        if known and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = MODEL
        if known and "id" in (case.path_parameters or ()):
            case.path_parameters["id"] = MODEL
        answer = case.call(headers=headers, timeout=30)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=kept)

    cases = operation.as_strategy(generation_mode=GenerationMode(mode))
    settings(LIMITS, max_examples=examples)(given(cases, st.booleans())(ask))()
    return seen
