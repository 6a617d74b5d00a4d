"""When two answers count as the same, and how near one comes to another: the scorers of `tasks.Scorer`.

Pure. Vectors and judges are models: whoever has one hands in `ask`, which holds two answers against each other and
gives a number from 0 to 1.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from lilliput.neutral import Problem
from lilliput.tasks import Scorer

Ask = Callable[[str, str], float]
Leaf = tuple[str, str, object]
"""Where it is, of what type, and what."""
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": int | float,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def agrees(scorer: Scorer, a: str, b: str, *, schema: Raw | None = None, ask: Ask | None = None) -> bool:
    """Whether `a` says what `b` says. By `fields`, every field; by `f1`, `embedding` and `judge`, `least` of it."""
    least = scorer.least if scorer.by in ("f1", "embedding", "judge") else 1.0
    return score(scorer, a, b, schema=schema, ask=ask) >= least


def score(scorer: Scorer, a: str, b: str, *, schema: Raw | None = None, ask: Ask | None = None) -> float:
    """0 to 1; `b` is the reference, where it matters (`schema`: the form that `a` must have)."""
    match scorer.by:
        case "exact":
            return float(plain(a) == plain(b))
        case "fields":
            return fields_f1(a, b)
        case "pattern":
            found = re.findall(scorer.pattern, a)
            return float(bool(found) and found == re.findall(scorer.pattern, b))
        case "schema":
            return float(_has_form(a, b, schema))
        case "f1":
            return token_f1(a, b)
        case "embedding" | "judge":
            if ask is None:
                raise Problem(
                    "client",
                    f"scorer {scorer.by!r} needs the model {scorer.model!r}, and none is at hand here: "
                    "choose 'exact', 'fields', 'pattern', 'schema' or 'f1'",
                    param="scorer",
                )
            return ask(a, b)


def plain(text: str) -> str:
    """One Unicode form, white space collapsed; case is kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def squad(text: str) -> list[str]:
    """Tokens as SQuAD compares them: lower case, no punctuation, no articles (Rajpurkar et al. 2016)."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact_match(a: str, b: str) -> bool:
    """SQuAD's."""
    return squad(a) == squad(b)


def token_f1(a: str, b: str) -> float:
    """SQuAD's; two empty answers are the same."""
    return _f1(Counter(squad(a)), Counter(squad(b)))


def fields_f1(a: str, b: str) -> float:
    """F1 over the JSON's filled fields, each with its place; null, "" and absent are the same. 0 of what is no JSON."""
    mine, theirs = _counted(a), _counted(b)
    return 0.0 if mine is None or theirs is None else _f1(mine, theirs)


def field_counts(a: str, b: str) -> tuple[int, int, int]:
    """Fields right, given and wanted: summed over items they give the micro F1."""
    mine, theirs = (_counted(text) or Counter() for text in (a, b))
    return (mine & theirs).total(), mine.total(), theirs.total()


def is_json(text: str) -> bool:
    return _counted(text) is not None


def _counted(text: str) -> Counter[Leaf] | None:
    try:
        return Counter(_leaves(msgspec.json.decode(text)))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _f1(mine: Counter[Any], theirs: Counter[Any]) -> float:
    if not mine or not theirs:
        return float(mine == theirs)
    return 2.0 * (mine & theirs).total() / (mine.total() + theirs.total())


def _leaves(value: object, at: str = "") -> Iterator[Leaf]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{at}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{at}/{i}")
    elif isinstance(value, str):
        if kept := plain(value):
            yield at, "string", kept
    elif isinstance(value, bool):
        yield at, "boolean", value
    elif value is not None:
        yield at, "number", value


def _has_form(a: str, b: str, schema: Raw | None) -> bool:
    """Whether `a` fits the schema or, without one, has the fields and types of `b`."""
    try:
        mine = msgspec.json.decode(a)
        if schema is not None:
            return fits(mine, msgspec.json.decode(schema))
        return _shape(mine) == _shape(msgspec.json.decode(b))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def fits(value: Any, schema: Any) -> bool:
    """Whether a value fits a JSON schema, as far as the schema speaks of `type`, `enum`, `const`, `properties`,
    `required`, `additionalProperties` as a truth value, `items` and `anyOf`; other words are passed over."""
    if not isinstance(schema, dict):
        return schema is not False
    if "anyOf" in schema and not any(fits(value, each) for each in schema["anyOf"]):
        return False
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return False
    types = schema.get("type", [])
    if types and not any(_is(value, name) for name in ([types] if isinstance(types, str) else types)):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if not set(schema.get("required", ())) <= value.keys():
            return False
        if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
            return False
        return all(fits(inner, known.get(name, True)) for name, inner in value.items())
    return not isinstance(value, list) or all(fits(inner, schema.get("items", True)) for inner in value)


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES.get(name, ()))
