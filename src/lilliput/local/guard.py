"""What may reach the engine: the fields it answers well, in the ranges it stands, and a clear 400 for the rest.

llama.cpp answers some wrong inputs with a 500, and some JSON schemas keep its one loop busy for ever (a least length
above the greatest, thousands of values), which stops every other request too. Pure; the shape of messages and tools
is for `wire` to check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec import Raw

from lilliput.neutral import Problem

MAX_SCHEMA_BYTES = 64 << 10
MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_NODES = 4_000
MAX_PROPERTIES = 256
MAX_ENUM_VALUES = 256
MAX_ENUM_BYTES = 8 << 10
MAX_REPEATS = 2_000
MAX_PATTERN_CHARS = 256
MAX_PATTERN_WAYS = 100
OPEN_WAYS = 5
# An escape, a class, a counted repeat, or one character.
PATTERN_ITEM = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|\{[0-9]+(?:,[0-9]*)?\}|.", re.DOTALL)
MAX_STOPS, MAX_STOP_CHARS = 16, 256
MAX_BIASES = 1_024
MAX_INPUTS = 2_048
SEEDS = 2**32 - 1  # this very number means "no seed" to the engine

# (least, greatest, whole)
RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "min_p": (0, 1, False),
    "top_k": (0, 1_000, True),
    "presence_penalty": (-2, 2, False),
    "frequency_penalty": (-2, 2, False),
    "repeat_penalty": (0.5, 2, False),
    "top_logprobs": (0, 20, True),
    "max_tokens": (1, 2**31 - 1, True),
    "max_completion_tokens": (1, 2**31 - 1, True),
    "seed": (-(2**63), 2**63, True),
}
PASSED = frozenset({
    "model", "messages", "stream", "stream_options", "logprobs", "response_format", "stop", "logit_bias", "n",
    "tools", "tool_choice", "parallel_tool_calls", *RANGES,
})  # fmt: skip
EMBEDDING_FIELDS = frozenset({"model", "input", "encoding_format"})
BOUNDS = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
Check = Callable[[str, object], None]


def chat(fields: Mapping[str, Raw], parallel: int) -> dict[str, Raw]:
    """The fields of a chat request that may go to the engine: those it does not know are left out, as are nulls.

    Raises Problem (400, `param` set) for a value that it cannot take. `parallel` bounds `n`.
    """
    kept = {k: v for k, v in fields.items() if k in PASSED and bytes(v) != b"null"}
    for name, raw in kept.items():
        if name in RANGES:
            _number(name, _value(name, raw), *RANGES[name])
        elif name == "n":
            _number(name, _value(name, raw), 1, parallel, True)
        elif name in CHECKS:
            CHECKS[name](name, _value(name, raw))
    if "seed" in kept:
        kept["seed"] = Raw(b"%d" % (msgspec.json.decode(kept["seed"], type=float | int) % SEEDS))
    return kept


def embeddings(fields: Mapping[str, Raw]) -> dict[str, Raw]:
    """The fields of an embeddings request that may go to the engine. Raises Problem (400, `param` set)."""
    if bytes(fields.get("dimensions", Raw(b"null"))) != b"null":
        raise _wrong("dimensions", "cannot be chosen for a local model; leave it out")
    kept = {k: v for k, v in fields.items() if k in EMBEDDING_FIELDS and bytes(v) != b"null"}
    if "encoding_format" in kept and _value("encoding_format", kept["encoding_format"]) not in ("float", "base64"):
        raise _wrong("encoding_format", "must be 'float' or 'base64'")
    texts = _value("input", kept.get("input", Raw(b"null")))
    rows = texts if isinstance(texts, list) and texts and not isinstance(texts[0], int) else [texts]
    if len(rows) > MAX_INPUTS:
        raise _wrong("input", f"holds {len(rows)} texts; at most {MAX_INPUTS} are taken")
    for row in rows:
        tokens = isinstance(row, list) and row and all(type(t) is int and 0 <= t < 2**31 for t in row)
        if not tokens and not (isinstance(row, str) and row):
            raise _wrong("input", "must be a text, a list of texts, or lists of token numbers, none of them empty")
    return kept


def schema(raw: bytes, param: str = "response_format") -> None:
    """Refuse, with a Problem, a JSON schema that the engine would take too long over or never come back from."""
    if len(raw) > MAX_SCHEMA_BYTES:
        raise _wrong(param, f"has a schema of {len(raw)} bytes; at most {MAX_SCHEMA_BYTES} are taken")
    root = _value(param, Raw(raw))
    if not isinstance(root, dict):
        raise _wrong(param, "needs a schema that is a JSON object")
    properties = values = value_bytes = 0
    for n, (node, depth) in enumerate(_nodes(root)):
        if depth > MAX_SCHEMA_DEPTH or n >= MAX_SCHEMA_NODES:
            raise _wrong(param, f"has a schema deeper than {MAX_SCHEMA_DEPTH} or of over {MAX_SCHEMA_NODES} parts")
        _bounded(param, node)
        listed = node.get("enum")
        if isinstance(listed, list):
            values += len(listed)
            value_bytes += len(msgspec.json.encode(listed))
        named = node.get("properties")
        properties += len(named) if isinstance(named, dict) else 0
    if properties > MAX_PROPERTIES or values > MAX_ENUM_VALUES or value_bytes > MAX_ENUM_BYTES:
        raise _wrong(
            param,
            f"has a schema of {properties} properties and {values} enum values ({value_bytes} bytes); "
            f"at most {MAX_PROPERTIES} and {MAX_ENUM_VALUES} ({MAX_ENUM_BYTES} bytes) are taken",
        )


def _nodes(root: dict[str, object]) -> Iterator[tuple[dict[str, object], int]]:
    """Every object in the schema with its depth."""
    todo: list[tuple[object, int]] = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, dict):
            yield node, depth
            todo.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list):
            todo.extend((child, depth + 1) for child in node)


def _bounded(param: str, node: dict[str, object]) -> None:
    """The counts in one part of a schema are in order and its pattern can be read."""
    for low_name, high_name in BOUNDS:
        low, high = node.get(low_name), node.get(high_name)
        for name, value in ((low_name, low), (high_name, high)):
            # A property may be called minLength: then its value is a schema, not a count.
            if value is not None and not isinstance(value, dict):
                _number(f"{param}.{name}", value, 0, MAX_REPEATS, True)
        if isinstance(low, int) and isinstance(high, int) and low > high:
            raise _wrong(param, f"has a schema whose {low_name} {low} is above its {high_name} {high}")
    least, greatest = node.get("minimum"), node.get("maximum")
    if isinstance(least, int | float) and isinstance(greatest, int | float) and least > greatest:
        raise _wrong(param, f"has a schema whose minimum {least} is above its maximum {greatest}")
    if isinstance(node.get("pattern"), str):
        _readable(param, str(node["pattern"]))


def _readable(param: str, pattern: str) -> None:
    """A pattern is short, is one, and repeats little."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise _wrong(param, f"has a pattern of {len(pattern)} characters; at most {MAX_PATTERN_CHARS} are taken")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as e:
        raise _wrong(param, f"has a pattern that cannot be read ({e}): {pattern!r}") from None
    if _ways(pattern) > MAX_PATTERN_WAYS:
        raise _wrong(param, f"has a pattern with repeats inside repeats that is too slow to follow: {pattern!r}")


def _ways(pattern: str) -> int:
    """How far the counted repeats of a pattern multiply along its nesting; an open repeat counts as `OPEN_WAYS`.

    The engine follows every way at once: 100 take it seconds a token, 1,000 for ever (measured 2026-11-22).
    """
    stack, last = [1], 1
    for item in PATTERN_ITEM.findall(pattern):
        if item == "(":
            stack.append(1)
            last = 1
        elif item == ")" and len(stack) > 1:
            last = stack.pop()
        elif item in ("?", "*", "+"):
            last = max(last, OPEN_WAYS)
        elif item.startswith("{"):
            last *= max(int(n) for n in re.findall("[0-9]+", item))
        else:
            last = 1
        stack[-1] = max(stack[-1], last)
    return max(stack)


def _format(name: str, value: object) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("text", "json_object"):
        return
    inner = value.get("json_schema") if isinstance(value, dict) else None
    found = inner.get("schema") if isinstance(inner, dict) else None
    if kind != "json_schema" or found is None:
        raise _wrong(name, "must have the type text, json_object, or json_schema with json_schema.schema")
    schema(msgspec.json.encode(found), name)


def _stops(name: str, value: object) -> None:
    stops = value if isinstance(value, list) else [value]
    good = all(isinstance(s, str) and 0 < len(s) <= MAX_STOP_CHARS for s in stops)
    if not good or len(stops) > MAX_STOPS:
        raise _wrong(name, f"must be up to {MAX_STOPS} texts of 1 to {MAX_STOP_CHARS} characters")


def _biases(name: str, value: object) -> None:
    if not isinstance(value, dict) or len(value) > MAX_BIASES or not all(k.isdecimal() and len(k) < 8 for k in value):
        raise _wrong(name, f"must map up to {MAX_BIASES} token numbers to a bias")
    for bias in value.values():
        _number(name, bias, -100, 100, False)


def _messages(name: str, value: object) -> None:
    if not isinstance(value, list) or not value:
        raise _wrong(name, "must be a list of at least one message")
    for i, message in enumerate(value):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", "refusal"):
                raise _wrong(f"{name}.{i}.content", f"has a part of the type {kind!r}; this model reads text alone")


def _tools(name: str, value: object) -> None:
    for tool in value if isinstance(value, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        found = function.get("parameters") if isinstance(function, dict) else None
        if found is not None:
            schema(msgspec.json.encode(found), name)


CHECKS: dict[str, Check] = {
    "response_format": _format,
    "stop": _stops,
    "logit_bias": _biases,
    "messages": _messages,
    "tools": _tools,
}


def _value(name: str, raw: Raw) -> object:
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as e:
        raise _wrong(name, f"cannot be read: {e}") from None
    return value


def _number(name: str, value: object, least: float, greatest: float, whole: bool) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if least <= value <= greatest and not (whole and value % 1):
            return
        value = float(value) if abs(value) < 1e300 else "a number of that size"
    kind = "a whole number" if whole else "a number"
    raise _wrong(name, f"must be {kind} from {least:g} to {greatest:g}, not {value!r:.60}")


def _wrong(param: str, say: str) -> Problem:
    return Problem("client", f"{param} {say}", code="invalid_value", param=param)
