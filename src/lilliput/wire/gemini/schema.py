"""Google's own schema language, a subset of OpenAPI 3.0, as JSON Schema for everyone else."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

_UNDERSCORE = re.compile(r"_([a-z])")
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_MOST_DEPTH = 64


def json_schema(raw: Raw) -> Raw:
    """`raw` with JSON Schema's words: types in lower case, `nullable` as a type, counts as numbers."""
    return Raw(msgspec.json.encode(_schema(msgspec.json.decode(raw), 0)))


def _schema(value: object, depth: int) -> object:
    if not isinstance(value, dict) or depth > _MOST_DEPTH:
        return value
    out: dict[str, object] = {}
    for key, inner in value.items():
        name = _UNDERSCORE.sub(lambda m: m[1].upper(), key)
        if name == "properties" and isinstance(inner, dict):
            out[name] = {k: _schema(v, depth + 1) for k, v in inner.items()}
        elif name == "anyOf" and isinstance(inner, list):
            out[name] = [_schema(v, depth + 1) for v in inner]
        elif name == "type" and isinstance(inner, str):
            out[name] = inner.lower()
        elif name in _COUNTS and isinstance(inner, str) and inner.isdecimal():
            out[name] = int(inner)
        elif name not in ("nullable", "propertyOrdering"):
            out[name] = _schema(inner, depth + 1)
    if value.get("nullable") is True:
        if isinstance(out.get("type"), str):
            out["type"] = [out["type"], "null"]
        if isinstance(enum := out.get("enum"), list) and None not in enum:
            out["enum"] = [*enum, None]
    return out
