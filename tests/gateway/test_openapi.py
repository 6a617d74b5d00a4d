"""The document that lists the routes: complete, true to the table, and sound in itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from tests.gateway.rig import rig, run

from lilliput.gateway.openapi import document
from lilliput.gateway.routes import TABLE

DOCUMENT = document(TABLE)


def walk(node: Any, at: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in the document, with where it stands."""
    if isinstance(node, dict):
        yield at, node
        for key, value in node.items():
            yield from walk(value, f"{at}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from walk(value, f"{at}/{i}")


def test_every_route_is_in_the_document_and_declares_its_permission() -> None:
    listed = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert listed == {(r.method, r.path.replace("{id:path}", "{id}")) for r in TABLE}
    for route in TABLE:
        item = DOCUMENT["paths"][route.path.replace("{id:path}", "{id}")][route.method.lower()]
        assert item["security"] == ([] if route.permission == "open" else [{"key": []}])
        assert ("401" in item["responses"]) == (route.permission != "open")
        assert ("requestBody" in item) == (route.method == "POST")
        assert item["summary"]
        parameters = [p["name"] for p in item.get("parameters", ()) if p["in"] == "path"]
        assert parameters == re.findall(r"\{(\w+)\}", route.path.replace(":path", ""))


def test_routes_that_need_no_key_are_counted() -> None:
    assert {r.path for r in TABLE if r.permission == "open"} == {
        "/",
        "/healthz",
        "/readyz",
        "/version",
        "/openapi.json",
    }


def test_the_document_s_references_resolve() -> None:
    references = [(at, node["$ref"]) for at, node in walk(DOCUMENT) if "$ref" in node]
    assert references
    for at, reference in references:
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, (at, reference)
            place = place[step]
    used = {reference.rpartition("/")[2] for _, reference in references}
    assert used == set(DOCUMENT["components"]["schemas"]), "no schema is left over"


def test_the_document_has_the_shape_of_openapi_3_1() -> None:
    assert re.fullmatch(r"3\.1\.\d", DOCUMENT["openapi"])
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert set(DOCUMENT) <= {"openapi", "info", "paths", "components", "servers", "tags", "security"}
    ids = [item["operationId"] for path in DOCUMENT["paths"].values() for item in path.values()]
    assert len(ids) == len(set(ids))
    for path, item in DOCUMENT["paths"].items():
        assert path.startswith("/")
        for method, operation in item.items():
            assert method in {"get", "post", "delete"}
            assert operation["responses"]
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d|default", status)
                assert response["description"]
                for kind, content in response.get("content", {}).items():
                    assert "/" in kind
                    assert content["schema"]
    names = {"key"}
    assert set(DOCUMENT["components"]["securitySchemes"]) == names
    for at, node in walk(DOCUMENT["components"]["schemas"]):
        if isinstance(node.get("type"), str):
            assert node["type"] in {"object", "array", "string", "number", "integer", "boolean", "null"}, at
        if "required" in node and isinstance(node["required"], list):
            assert set(node["required"]) <= set(node.get("properties", ())), at


def test_the_document_is_what_the_gateway_serves() -> None:
    async def main() -> None:
        async with rig() as r:
            answer = await r.ask("GET", "/openapi.json", None, {"Authorization": None})
            assert answer.json == json.loads(msgspec.json.encode(DOCUMENT))

    run(main())
