"""GBNF of JSON as a student writes it: no free white space, keys in the schema's order, none beside them. Pure.

The engine makes grammars of schemas itself, and lets a model write line breaks until its tokens are used up, and any
key that a schema does not forbid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

ASIDE = {"title", "description", "default", "examples", "$schema", "$id", "$comment"}
"""Keywords that allow and forbid nothing."""
PLAIN = {
    "string": r'"\"" ([^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": '"-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,9})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
KNOWN = {
    "object": {"type", "properties", "required", "additionalProperties"},
    "array": {"type", "items", "minItems", "maxItems"},
}


def of_schema(schema: Mapping[str, Any]) -> str:
    """The rules of a schema; "" where it holds more than is known here."""
    rules: dict[str, str] = {}
    found = _ways(schema, rules)
    return "".join(f"{name} ::= {body}\n" for name, body in {"root": found, **rules}.items()) if found else ""


def quoted(text: str) -> str:
    """A literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'


def written(value: Any) -> str:
    """JSON as these grammars have it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _ways(schema: Any, rules: dict[str, str]) -> str:
    """What stands for a value of the schema; its parts are added to `rules`."""
    if not isinstance(schema, Mapping):
        return ""
    given, types = schema.keys() - ASIDE, schema.get("type", "object" if "properties" in schema else ())
    if "enum" in given and given <= {"type", "enum"}:
        return " | ".join(quoted(written(v)) for v in schema["enum"])
    if given == {"anyOf"}:
        parts = [_ways(each, rules) for each in schema["anyOf"]]
    else:
        types = [types] if isinstance(types, str) else types
        if given - {"type"}.union(*(KNOWN.get(t, set()) for t in types)):
            return ""
        ways = {"object": _object, "array": _array}
        parts = [ways[t](schema, rules) if t in ways else PLAIN.get(t, "") for t in types]
    return " | ".join(parts) if all(parts) else ""


def _object(schema: Mapping[str, Any], rules: dict[str, str]) -> str:
    """Each property at most once; built from the last, so that each rule is what may stand behind the one before."""
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    if schema.get("additionalProperties", False) is not False or not properties or required - properties.keys():
        return ""
    starts, rest = list[str](), ""
    for name, each in reversed(properties.items()):
        if not (ways := _ways(each, rules)):
            return ""
        here = _named(f"{quoted(written(name) + ':')} ({ways})", rules)
        starts = [f"{here} {rest}", *(starts if name not in required else ())]
        rest = _named(f'("," {here}){"" if name in required else "?"} {rest}', rules)
    return f'"{{" ({" | ".join(starts)}){"" if required else "?"} "}}"'


def _array(schema: Mapping[str, Any], rules: dict[str, str]) -> str:
    ways, least, most = _ways(schema.get("items"), rules), schema.get("minItems", 0), schema.get("maxItems")
    if not ways or most == 0:
        return ""
    item = _named(ways, rules)
    more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
    return f'"[" ({item} {more}){"" if least else "?"} "]"'


def _named(body: str, rules: dict[str, str]) -> str:
    name = f"r{len(rules)}"
    rules[name] = body
    return name
