"""What is sent: which recordings can be judged, through which row of the configuration, with which body.

A dialect is a line in WAYS. Nothing is sent or judged here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from tests.conformance.corrections import corrected
from tests.conformance.kit import Cuts, Facts, Interaction, Kit


class Way(Struct, frozen=True):
    """How recordings of one `api` are reached: the row's `dialect`, the path between the replay and the adapter, and
    how the adapter's own paths end. What was recorded elsewhere is played all the same, and noted."""

    dialect: str
    prefix: str
    ends: tuple[str, ...]


_CHAT = ("/chat/completions",)
_GENERATE = (":generateContent", ":streamGenerateContent")
_VERTEX = "/v1/projects/p/locations/l/publishers"
WAYS: dict[str, Way] = {
    "openai.chat": Way("openai_chat", "/v1", _CHAT),
    "openai.responses": Way("openai_responses", "/v1", ("/responses",)),
    "openai.completions": Way("openai_completions", "/v1", ("/completions",)),
    "anthropic.messages": Way("anthropic", "", ("/messages",)),
    "gemini.generate": Way("gemini", "/v1beta", _GENERATE),
    "bedrock.converse": Way("bedrock", "", ("/converse", "/converse-stream")),
    "bedrock.invoke": Way("bedrock_invoke", "", ("/invoke", "/invoke-with-response-stream")),
    "cohere.v2": Way("cohere", "", ("/v2/chat",)),
    "cohere.v1": Way("cohere_v1", "", ("/v1/chat",)),
    "ollama.chat": Way("ollama", "", ("/api/chat",)),
    "ollama.generate": Way("ollama_generate", "", ("/api/generate",)),
}
OWN_WAYS: dict[tuple[str, str], Way] = {
    ("openai.chat", "azure"): Way("azure", "", _CHAT),
    ("openai.chat", "mistral"): Way("mistral", "/v1", _CHAT),
    ("anthropic.messages", "vertex"): Way(
        "anthropic_vertex", f"{_VERTEX}/anthropic", (":rawPredict", ":streamRawPredict")
    ),
    ("gemini.generate", "vertex"): Way("gemini", f"{_VERTEX}/google", _GENERATE),
}
"""Providers that are reached in a way of their own, by `api` and name."""
_MODEL = re.compile(r"/(?:model|models|deployments)/([^/:]+)")
OUR_KEY = (401, 403)
"""A provider refuses the gateway's key: the caller's own key is fine, and so it is told 502 `provider_auth`."""
KINDS = ("chat", "stream", "completion")
CUTS_OF_A_STREAM = 2
"""How many places a stream is cut at, each with a reset and with an early end."""
STOPPED_LATE = ("anthropic.messages",)
"""Dialects whose streams say how they finish in one event and that they are over in a later one."""


class Row(Struct, frozen=True):
    """One provider row: `name` in the configuration, `plays` the interaction it reaches, `fault` how that is hurt."""

    name: str
    plays: str
    options: str = ""
    fault: str = ""


class Case(Struct, frozen=True, kw_only=True):
    """One interaction to be judged: the facts that are right, and the rows to send it through.

    `asked` is None where the recorded request cannot be told in OpenAI's terms. `verbatim` is the recorded body, for
    a provider of the client's own dialect. `note` says what is meant to differ from the recording.
    """

    id: str
    api: str
    kind: str
    provider: str
    plain: Row
    split: Row
    hurt: tuple[Row, ...]
    said: Facts
    asked: Facts | None
    body: dict[str, Any]
    verbatim: dict[str, Any] | None = None
    note: str = ""

    @property
    def way(self) -> Way:
        return way(self.api, self.provider)

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.plain, self.split, *self.hurt)

    @property
    def is_stream(self) -> bool:
        """Whether a stream is asked for, which a provider may refuse with an answer that is none."""
        return bool(self.body.get("stream"))


def way(api: str, provider: str) -> Way:
    return OWN_WAYS.get((api, provider)) or WAYS[api]


def judged(interaction: Interaction, api: str | None = None) -> bool:
    """True for what has a request to send and an answer to expect, of a dialect that is known here."""
    return (
        interaction["api"] in WAYS
        and api in (None, interaction["api"])
        and interaction["kind"] in KINDS
        and not interaction["wire"].startswith("body-only")
    )


def case(kit: Kit, interaction: Interaction) -> tuple[Case, list[Interaction]]:
    """The case of one interaction, and the interactions made for it that the replay server must know."""
    name, api, provider = interaction["id"], interaction["api"], interaction["provider"]
    recorded = kit.request(interaction)
    status = interaction["response"]["status"]
    path = urlsplit(interaction["request"]["url"]).path
    asked: Facts | None = kit.expect.request_facts(interaction)
    if asked is None:
        said = str((recorded or {}).get("prompt") or "hi")
        named = _MODEL.search(path)
        model = unquote(named[1]) if named else str((recorded or {}).get("model") or "m")
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": said}]}
        if interaction["kind"] == "stream" or path.endswith("stream"):
            body |= {"stream": True, "stream_options": {"include_usage": True}}
    else:
        if status < 400:
            asked["stream"] = interaction["kind"] == "stream"
        if not asked["params"].get("stop", True):
            del asked["params"]["stop"]  # an empty list asks for nothing
        body = kit.expect.to_openai_request(asked)
        body["model"] = asked["model"] or "m"
        if kit.expect.compare(asked, kit.expect.facts_of("openai.chat", "", body)):
            asked = None  # OpenAI's form cannot carry this request, whoever sends it
    note = ""
    if status in OUR_KEY:
        note = "the provider refused the gateway's key: the caller gets 502 provider_auth"
    elif not path.endswith(way(api, provider).ends):
        note = f"recorded at {path}, played at the dialect's path"
    any_path = "~anypath=1" if note.startswith("recorded") else ""
    rows, made = _hurt(kit, interaction, any_path) if status < 400 else ([], [])
    return Case(
        id=name,
        api=api,
        kind=interaction["kind"],
        provider=provider,
        plain=Row(f"r-{name}", name, any_path),
        split=Row(f"r-{name}-split", name, f"{any_path}~split=17"),
        hurt=tuple(rows),
        said=corrected(kit, interaction),
        asked=asked if asked is None or not asked["server_tools"] else None,
        body=body,
        verbatim=recorded,
        note=note,
    ), made


def _hurt(kit: Kit, interaction: Interaction, any_path: str) -> tuple[list[Row], list[Interaction]]:
    """Rows where the answer is cut by a reset or ends early, anywhere and (streams) right after its finish reason,
    and (streams) where it ends half-way in good order."""
    name = interaction["id"]
    dice = random.Random(name)  # the same places in every run
    if interaction["kind"] != "stream":
        return _broken_off(name, [f"{dice.uniform(0.1, 0.9):.3f}"], any_path), []
    cuts = Cuts(kit, interaction)
    places = [f"{dice.uniform(0.1, 0.9):.3f}" for _ in range(CUTS_OF_A_STREAM)]
    places = [p for p in places if not cuts.is_over(int(float(p) * len(cuts.raw)))]
    halves = {"half": min(cuts.finish, max(1, int(len(cuts.ends) * dice.uniform(0.1, 0.9))))}
    if cuts.finish < len(cuts.ends) and not cuts.is_over(finish := cuts.ends[cuts.finish]):
        places.append(str(finish))
        if interaction["api"] in STOPPED_LATE:
            halves["late"] = cuts.finish + 1
    made = [cuts.halved(events, f"{name}-{which}") for which, events in halves.items() if events]
    rows = [Row(f"r-{i['id']}", i["id"], any_path, f"ends in good order ({i['id']})") for i in made]
    return [*_broken_off(name, places, any_path), *rows], made


def _broken_off(name: str, places: list[str], any_path: str) -> list[Row]:
    return [
        Row(f"r-{name}-{f}-{i}", name, f"{any_path}~{f}={p}", f"{f}={p}")
        for i, p in enumerate(places)
        for f in ("cut", "eof")
    ]


class Placed(Protocol):
    """What the configuration has rows for."""

    @property
    def provider(self) -> str: ...
    @property
    def way(self) -> Way: ...
    @property
    def rows(self) -> tuple[Row, ...]: ...


def config(placed: Iterable[Placed], replay: str) -> str:
    """The gateway's configuration: a provider for every row, at `replay`, the replay server's address."""
    lines = []
    for p in placed:
        for row in p.rows:
            lines += [
                f'[providers."{row.name}"]',
                f'dialect = "{p.way.dialect}"',
                f'base = "{replay}/{p.provider}/{row.plays}{row.options}{p.way.prefix}"',
                "allow_private = true",
            ]
    return "\n".join(lines) + "\n"
