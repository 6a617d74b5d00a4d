"""`lilliput route explain`: where a request would go, in what order, what is left out, what it would cost, and why."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from lilliput.cli import here
from lilliput.cli.models import dollars
from lilliput.cli.output import one_line, show_json, show_table
from lilliput.gateway.able import fitted
from lilliput.neutral import Format, Media, Message, Part, Problem, Request, Text, Tool
from lilliput.router.difficulty import guess
from lilliput.router.plan import Facts, Plan, World, plan
from lilliput.router.wish import read_wish

CHARACTERS_A_TOKEN = 4
BODY_LIMIT_BYTES = 64 << 20
HEAD = ("", "deployment", "cost", "why")


def explain(env: Mapping[str, str], config_file: Path | None, file: str, as_json: bool) -> None:
    """Print the plan of the chat request in `file`, `-` for standard input; nothing is sent anywhere.

    What only a running gateway knows (breakers, speeds, calls under way) counts as unmeasured.
    """
    _, config = here.settings(env, config_file)
    catalogue = here.catalogue(env, *here.settings(env, config_file))
    world = World(
        catalogue,
        config.routes,
        config.aliases,
        config.terms,
    )
    fields = _fields(file)
    request = _request(fields)
    wish, further = read_wish(fields)
    text = "\n".join(p.text for m in request.messages for p in m.parts if isinstance(p, Text))
    hard = guess(text, len(request.messages), len(request.tools))
    facts = Facts(
        prompt_tokens=len(text) // CHARACTERS_A_TOKEN,
        answer_tokens=request.max_tokens or 0,
        lack=lambda model: _lack(model, request),
        session=request.user or text[:1000],
        difficulty=hard.score,
        fields=tuple(fields),
    )
    made = plan((request.model, *further), facts, world, time.time(), random.random, wish=wish)
    document = _document(made, facts, hard.parts)
    if as_json:
        show_json(document, sys.stdout)
    else:
        _print(document)


def _document(made: Plan, facts: Facts, parts: Mapping[str, float]) -> dict[str, Any]:
    return {
        "model": made.name,
        "policy": made.policy,
        "prompt_tokens": facts.prompt_tokens,
        "difficulty": round(facts.difficulty, 3),
        "difficulty_parts": {name: round(value, 2) for name, value in parts.items()},
        "plan": [
            {"deployment": c.target.id, "cost_usd": None if c.cost_nusd is None else dollars(c.cost_nusd), "why": c.why}
            for c in made.chosen
        ],
        "excluded": [{"deployment": e.id, "filter": e.stage, "why": one_line(e.why)} for e in made.excluded],
    }


def _print(document: dict[str, Any]) -> None:
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in document["difficulty_parts"].items()) or "nothing told"
    print(f"model       {one_line(document['model'])}")
    print(f"policy      {document['policy']}")
    print(f"prompt      about {document['prompt_tokens']} tokens")
    print(f"difficulty  {document['difficulty']} ({parts})")
    rows = [(str(i), p["deployment"], p["cost_usd"] or "unknown", p["why"]) for i, p in enumerate(document["plan"], 1)]
    rows += [("-", e["deployment"], "", f"{e['filter']}: {e['why']}") for e in document["excluded"]]
    show_table(HEAD, rows, sys.stdout)


def _lack(model: Any, request: Request) -> Problem | None:
    try:
        fitted(model, request)
    except Problem as problem:
        return problem
    return None


def _fields(file: str) -> dict[str, Raw]:
    if file == "-":
        body = sys.stdin.buffer.read(BODY_LIMIT_BYTES + 1)
    else:
        with open(file, "rb") as f:
            body = f.read(BODY_LIMIT_BYTES + 1)
    if len(body) > BODY_LIMIT_BYTES:
        raise Problem("client", f"the request is over {BODY_LIMIT_BYTES >> 20} MiB")
    try:
        return msgspec.json.decode(body, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        say = f"{'standard input' if file == '-' else file} is no JSON object: {e}"
        raise Problem("client", f"{say}; give the body of a chat request") from e


class _Asked(msgspec.Struct):
    """What of a chat body the plan depends on."""

    model: str
    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    user: str | None = None


def _request(fields: dict[str, Raw]) -> Request:
    try:
        asked = msgspec.json.decode(msgspec.json.encode(fields), type=_Asked)
    except msgspec.ValidationError as e:
        raise Problem("client", f"this is no chat request: {e}") from e
    shape = (asked.response_format or {}).get("type")
    return Request(
        model=asked.model,
        messages=tuple(Message("user", tuple(_parts(m.get("content")))) for m in asked.messages),
        tools=tuple(Tool(str(t.get("type"))) for t in asked.tools or ()),
        format=Format("schema") if shape == "json_schema" else None,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        user=asked.user,
    )


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)]
    parts: list[Part] = []
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            parts.append(Text(str(part.get("text", ""))))
        elif kind == "image_url":
            parts.append(Media("image"))
        elif kind == "input_audio":
            parts.append(Media("audio"))
    return parts
