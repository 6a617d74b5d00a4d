"""What is sent: which recordings can be judged, through which row of the configuration, with which body.

A dialect is a line in WAYS. Nothing is sent or judged here.
"""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from tests.conformance.kit import Facts, Interaction, Kit, finish_bytes, halved


class Way(Struct, frozen=True):
    """How recordings of one `api` are reached: the row's `dialect`, and the path between the replay and the adapter."""

    dialect: str
    prefix: str = ""


WAYS: dict[str, Way] = {
    "openai.chat": Way("openai_chat", "/v1"),
}
OWN_WAYS: dict[str, Way] = {
    "openai.chat azure": Way("azure"),
    "openai.chat mistral": Way("mistral", "/v1"),
}
"""Providers that have a dialect of their own for an `api` of WAYS."""
ENDS = {"openai.chat": "/chat/completions"}
"""How a dialect's paths end. What was recorded elsewhere is played all the same, and noted."""
OUR_KEY = (401, 403)
"""A provider refuses the gateway's key: the caller's own key is fine, and so it is told 502 `provider_auth`."""
KINDS = ("chat", "stream")
CUTS_OF_A_STREAM = 2
"""How many places a stream is cut at, each with a reset and with an early end."""


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
    name, api = interaction["id"], interaction["api"]
    recorded = kit.request(interaction)
    asked: Facts | None = kit.expect.request_facts(interaction)
    is_stream = interaction["kind"] == "stream"
    if asked is None:
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    else:
        asked["stream"] = is_stream
        body = kit.expect.to_openai_request(asked)
        body["model"] = asked["model"] or "m"
        if kit.expect.compare(asked, kit.expect.facts_of("openai.chat", "", body)):
            asked = None  # OpenAI's form cannot carry this request, whoever sends it
    status = interaction["response"]["status"]
    rows, made = _hurt(kit, interaction) if status < 400 else ([], [])
    note = ""
    if status in OUR_KEY:
        note = "the provider refused the gateway's key: the caller gets 502 provider_auth"
    elif not urlsplit(interaction["request"]["url"]).path.endswith(ENDS.get(api, "")):
        note = f"recorded at {urlsplit(interaction['request']['url']).path}, played at the dialect's path"
    return Case(
        id=name,
        api=api,
        kind=interaction["kind"],
        provider=interaction["provider"],
        plain=Row(f"r-{name}", name),
        split=Row(f"r-{name}-split", name, "~split=17"),
        hurt=tuple(rows),
        said=kit.expect.response_facts(interaction),
        asked=asked if asked is None or not asked["server_tools"] else None,
        body=body,
        verbatim=recorded if api == "openai.chat" else None,
        note=note,
    ), made


def _hurt(kit: Kit, interaction: Interaction) -> tuple[list[Row], list[Interaction]]:
    """Rows where the answer is cut by a reset or ends early, anywhere and (streams) right after its finish reason,
    and (streams) where it ends half-way in good order."""
    name, raw = interaction["id"], kit.body(interaction)
    dice = random.Random(name)  # the same places in every run
    is_stream = interaction["kind"] == "stream"
    places = [f"{dice.uniform(0.1, 0.9):.3f}" for _ in range(CUTS_OF_A_STREAM if is_stream else 1)]
    places = [p for p in places if b"[DONE]" not in raw[: int(float(p) * len(raw))]]
    after = finish_bytes(kit, interaction) if is_stream else None
    if after is not None:
        places.append(str(after))
    rows = [
        Row(f"r-{name}-{f}-{i}", name, f"~{f}={p}", f"{f}={p}") for i, p in enumerate(places) for f in ("cut", "eof")
    ]
    half = halved(kit, interaction, dice.uniform(0.1, 0.9)) if is_stream else None
    if half is None:
        return rows, []
    rows.append(Row(f"r-{name}-half", half["id"], "", "ends half-way in good order"))
    return rows, [half]


def config(cases: list[Case], replay: str) -> str:
    """The gateway's configuration: a provider for every row, at `replay`, the replay server's address."""
    lines = []
    for c in cases:
        way = OWN_WAYS.get(f"{c.api} {c.provider}") or WAYS[c.api]
        any_path = "~anypath=1" if c.note.startswith("recorded") else ""
        for row in (c.plain, c.split, *c.hurt):
            lines += [
                f'[providers."{row.name}"]',
                f'dialect = "{way.dialect}"',
                f'base = "{replay}/{c.provider}/{row.plays}{any_path}{row.options}{way.prefix}"',
                "allow_private = true",
            ]
    return "\n".join(lines) + "\n"
