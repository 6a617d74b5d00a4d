"""A JSON Schema as Anthropic's structured outputs and strict tools take it.

They refuse many keywords and want every object closed. What they do not take moves into the description, as
Anthropic's own SDK does it (platform.claude.com/docs/en/build-with-claude/structured-outputs, checked 2026-11-22).
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

_NESTED = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf")
_TAKEN = frozenset(
    {
        *("type", "enum", "const", "default", "description", "title", "$ref", "items", "required", "examples"),
        *("additionalProperties", "$schema", "$id", *_NESTED, *_LISTS),
    }
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)


def narrowed(schema: Raw) -> Raw:
    """`schema` without what Anthropic refuses; the very same where there is nothing to change."""
    try:
        given: object = msgspec.json.decode(schema)
        ours = _narrowed(given)
    except (ValueError, RecursionError):
        return schema
    return schema if ours == given else Raw(msgspec.json.encode(ours))


def _narrowed(schema: object) -> object:
    if not isinstance(schema, dict):
        return schema
    out: dict[str, object] = {}
    told: list[str] = []
    for name, value in schema.items():
        if name == "oneOf":
            out["anyOf"] = _each(value)
        elif name in _NESTED and isinstance(value, dict):
            out[name] = {key: _narrowed(inner) for key, inner in value.items()}
        elif name in _LISTS:
            out[name] = _each(value)
        elif name == "items":
            out[name] = _narrowed(value)
        elif name in _TAKEN or (name == "format" and value in _FORMATS) or (name == "minItems" and value in (0, 1)):
            out[name] = value
        else:
            told.append(f"{name}: {msgspec.json.encode(value).decode()}")
    if told:
        said = out.get("description")
        out["description"] = "\n\n".join(
            filter(None, (said if isinstance(said, str) else "", f"{{{', '.join(told)}}}"))
        )
    if out.get("type") == "object" or "properties" in out:
        out.setdefault("additionalProperties", False)
    return out


def _each(value: object) -> object:
    return [_narrowed(inner) for inner in value] if isinstance(value, list) else value
