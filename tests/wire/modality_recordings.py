"""The recordings of the operations that are no chat, and how a client of OpenAI's form would have asked for them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.conformance.kit import Facts, Interaction, Kit
from tests.conformance.need import recordings

from lilliput.neutral import Secret, Target
from lilliput.wire.operations import modality

DIALECTS = {
    "azure": "azure",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "deepgram": "deepgram",
    "gemini": "gemini",
    "mistral": "mistral",
    "ollama": "ollama",
    "vertex": "gemini",
    "voyage": "voyage",
}
"""What a provider of the recordings speaks, where that is not openai_chat."""


@functools.cache
def kit() -> Kit:
    return Kit(recordings())


def recorded(api: str) -> list[Interaction]:
    """The interactions of one kind whose request was recorded too."""
    return [i for i in kit().interactions if i["api"] == api and not i["wire"].startswith("body-only")]


def body(i: Interaction) -> bytes:
    return kit().body(i)


def request(i: Interaction) -> bytes:
    return bytes(kit().expect.body_bytes(i["request"]))


def header(i: Interaction) -> modality.Header:
    """The headers of the recorded answer."""
    given = {name.lower().encode(): value.encode() for name, value in i["response"]["headers"].items()}
    return given.get


def no_header(name: bytes) -> None:
    """An answer that has no header."""


def target(i: Interaction) -> Target:
    """The deployment that the recorded call went to, its base cut where the dialect's path begins."""
    url = urlsplit(i["request"]["url"])
    where, dialect = f"{url.scheme}://{url.netloc}", DIALECTS.get(i["provider"], "openai_chat")
    path = unquote(url.path)
    if dialect == "azure" and "/deployments/" not in path:
        dialect = "openai_chat"  # the newer kind of endpoint, which is OpenAI's
    model = json.loads(request(i) or b"{}").get("model") if _is_json(i) else dict(parse_qsl(url.query)).get("model")
    if dialect == "azure":
        model = path.split("/")[3]
    elif dialect == "bedrock":
        model = path.split("/")[2]
    elif dialect == "gemini":
        before, _, name = path.rpartition("/models/")
        where, model = where + before, name.partition(":")[0]
    elif dialect == "deepgram":
        model = dict(parse_qsl(url.query))["model"]
    elif dialect not in ("cohere", "ollama"):
        where += next((before for before in ("/api/v1", "/openai/v1", "/v1") if path.startswith(before)), "")
    query = url.query if dialect == "azure" else ""
    return Target(
        provider=i["provider"], model=model or "a-model", dialect=dialect, base=where, query=query, key=Secret("k")
    )


def _is_json(i: Interaction) -> bool:
    return request(i)[:1] == b"{"


def client_body(i: Interaction) -> dict[str, Any]:
    """A JSON body in OpenAI's form that asks what the recorded one asked."""
    given = {k: v for k, v in json.loads(request(i)).items() if v is not None}
    return {"model": "the-model", **_FORMS.get((i["api"], i["provider"]), dict)(given)}


def _renamed(**names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda given: {names.get(name, name): value for name, value in given.items()}


def _cohere(given: dict[str, Any]) -> dict[str, Any]:
    given.pop("embedding_types", None)
    return _renamed(texts="input", inputText="input", output_dimension="dimensions")(given)


def _gemini(given: dict[str, Any]) -> dict[str, Any]:
    asks = given["requests"]
    made = {"input": ["\n".join(p["text"] for p in ask["content"]["parts"] if "text" in p) for ask in asks]}
    more = {"dimensions": asks[0].get("outputDimensionality"), "input_type": asks[0].get("taskType")}
    return made | {name: value for name, value in more.items() if value}


def _vertex(given: dict[str, Any]) -> dict[str, Any]:
    asks = given["instances"]
    return {"input": [ask["content"] for ask in asks], "input_type": asks[0]["task_type"]}


_FORMS: dict[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("embeddings", "bedrock"): _cohere,
    ("embeddings", "cohere"): _cohere,
    ("embeddings", "gemini"): _gemini,
    ("embeddings", "ollama"): _renamed(prompt="input"),
    ("embeddings", "vertex"): _vertex,
    ("embeddings", "voyage"): _renamed(output_dimension="dimensions"),
    ("rerank", "voyage"): _renamed(top_k="top_n"),
    ("rerank", "bedrock"): lambda given: {name: value for name, value in given.items() if name != "api_version"},
    ("speech", "deepgram"): _renamed(text="input"),
}


def said(i: Interaction) -> Facts:
    """What the recorded answer said, by `expect.py`."""
    facts: Facts = kit().expect.response_facts(i)
    return facts


def facts(i: Interaction, answer: bytes, api: str | None = None) -> Facts:
    """What our answer says, by the same judge."""
    return kit().answer_facts(api or i["api"], i["kind"], 200, answer)


def converted(
    i: Interaction, operation: modality.Operation[Any], asks: bytes, content_type: str = modality.JSON
) -> modality.Answer:
    """The recorded answer as our client gets it, who asked with `asks`; raises the Problem that it says."""
    where = target(i)
    asked = operation.check(asks, content_type)
    adapter = operation.adapters[where.dialect]
    return adapter.read(i["response"]["status"], body(i), header(i), asked, where)
