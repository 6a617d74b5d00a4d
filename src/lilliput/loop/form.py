"""What a student reads and what it writes: short, so that little is trained and little decoded. Pure.

Prompt and target are tokenised apart. A label is written as one token; an extraction of a flat schema as the values
that are there, each behind a letter for its field, in the schema's order (`|a 222|d Chicago`); other schemas as JSON.
After all but labels the tokenizer's end token is to follow.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from lilliput.loop import gbnf
from lilliput.neutral import Problem
from lilliput.tasks import Kind

CODES = tuple(f" {c}" for c in string.ascii_uppercase + string.ascii_lowercase)
"""Each is one token of byte-pair tokenizers when it follows the prompt's end (checked with SmolLM2's, 2026-11-23)."""
KEYS = string.ascii_letters
"""What a flat schema's fields are called, in their order. A small model that must know by its place which field comes
next mistakes it where many are empty (US addresses, 60 steps: field F1 0.66, and 0.75 with letters)."""
ASK = "\n="
# What tokenizers read as control tokens when it stands in a text: <|im_end|>, <file_sep>, </s>.
CONTROL = re.compile(r"<(?=/?\|?[a-z_]+\|?>)")
ESCAPES = {"\\": "\\\\", "|": "\\p", "\n": "\\n", "\r": "\\r"}
UNESCAPES = {v: k for k, v in ESCAPES.items()}
EMPTY, NULL = "\\e", "\\0"
ESCAPED = re.compile(r"\\.", re.DOTALL)
GRAMMAR = {
    "string": 'char+ | "\\\\e"',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": '"-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,9})?',
    "boolean": '"true" | "false"',
}
CHAR = r'char ::= [^|\\\r\n] | "\\" [\\pnr]' + "\n"
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


class Field(Struct, frozen=True):
    """A value of a flat schema. What it stands for that nothing is written ("" below): the field's absence where it may
    be absent, else null where it may be null, else the empty string."""

    name: str
    type: str
    choices: tuple[str, ...] = ()
    required: bool = False
    nullable: bool = False

    def write(self, values: Mapping[str, Any]) -> str:
        """Raises Problem for a value that the schema does not allow."""
        value = values.get(self.name)
        if self.name not in values:
            if self.required:
                raise _unfit(f"the field {self.name!r} is missing")
            return ""
        if value is None and self.nullable:
            return "" if self.required else NULL
        wrong = not isinstance(value, TYPES[self.type]) or (isinstance(value, bool) and self.type != "boolean")
        if wrong or (self.choices and value not in self.choices):
            raise _unfit(f"the field {self.name!r} is {value!r:.60}")
        if value == "" and isinstance(value, str):
            return "" if self.required and not self.nullable else EMPTY
        return _escaped(value) if isinstance(value, str) else json.dumps(value)

    def read(self, written: str, into: dict[str, Any]) -> bool:
        """Put the value in its place; False when it is none."""
        if written == "":
            if not self.required:
                return True
            if not self.nullable and self.type != "string":
                return False
            into[self.name] = None if self.nullable else ""
        elif written == NULL:
            if not self.nullable:
                return False
            into[self.name] = None
        elif self.type == "string":
            into[self.name] = "" if written == EMPTY else ESCAPED.sub(lambda m: UNESCAPES.get(m[0], m[0]), written)
        else:
            try:
                into[self.name] = value = json.loads(written)
            except ValueError:
                return False
            return isinstance(value, TYPES[self.type]) and isinstance(value, bool) == (self.type == "boolean")
        return not self.choices or into[self.name] is None or into[self.name] in self.choices

    def rule(self, key: str) -> str:
        """What may be written for it, as GBNF."""
        ways = " | ".join(gbnf.quoted(_escaped(v) or EMPTY) for v in self.choices) or GRAMMAR[self.type]
        if self.nullable and not self.required:
            ways += f" | {gbnf.quoted(NULL)}"
        needed = (
            self.required and not self.nullable and (self.type != "string" or (self.choices and "" not in self.choices))
        )
        return f'("|{key} " ({ways})){"" if needed else "?"}'


class _Schema(Struct):
    """What is read of a JSON schema, here and in `gbnf`, as it must be."""

    type: str | list[str] = ""
    properties: dict[str, _Schema | bool] = {}
    required: list[str] = []
    enum: list[Any] = []
    anyOf: list[_Schema | bool] = []
    items: _Schema | bool | list[Any] = True
    minItems: int = 0
    maxItems: int = 0


class Form(Struct, frozen=True, kw_only=True):
    """The form of one task. `fields` are those of a flat schema; `schema` is set where answers are JSON."""

    kind: Kind
    labels: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    schema: Raw | None = None

    def prompt(self, text: str) -> str:
        """What the student reads. Whoever has a budget of tokens cuts the text before.

        It begins with a space, as answers do: byte-pair tokenizers cut " 222" and "222" into other tokens, and a small
        model copies best what it has read (US addresses, one pass: no house number was right without it).
        """
        return " " + CONTROL.sub("< ", text.strip()) + ASK

    def target(self, answer: str) -> str:
        """What it is to write; raises Problem for an answer that does not belong to the task."""
        if self.kind == "label":
            if answer.strip() not in self.labels:
                raise _unfit(f"{answer!r:.60} is none of the labels")
            return CODES[self.labels.index(answer.strip())]
        if self.kind == "text":
            return " " + answer.strip()
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            raise _unfit(f"{answer!r:.60} is no JSON") from None
        if not isinstance(value, dict):
            raise _unfit("it is no JSON object")
        if self.schema is not None:
            return gbnf.written(_ordered(value, json.loads(bytes(self.schema))))
        if unknown := value.keys() - {f.name for f in self.fields}:
            raise _unfit(f"the schema has no field {min(unknown)!r}")
        places = zip(KEYS, [f.write(value) for f in self.fields], strict=False)
        return "".join(f"|{key} {place}" for key, place in places if place)

    def answer(self, written: str) -> str | None:
        """The answer in what was written; None when that is not well formed (or was cut short)."""
        if self.kind == "label":
            index = CODES.index(written) if written in CODES else len(self.labels)
            return self.labels[index] if index < len(self.labels) else None
        if self.kind == "text":
            return written.strip() or None
        if self.schema is not None:
            try:
                value = json.loads(written)
            except (ValueError, RecursionError):
                return None
            return gbnf.written(value) if isinstance(value, dict) else None
        start, *places = written.split("|")
        told = {place[0]: place[2:] for place in places if place[1:2] == " " and place[2:]}
        keys = KEYS[: len(self.fields)]
        if start or len(told) < len(places) or list(told) != [key for key in keys if key in told]:
            return None
        found: dict[str, Any] = {}
        whole = all(f.read(told.get(key, ""), found) for key, f in zip(keys, self.fields, strict=True))
        return gbnf.written(found) if whole else None

    def codes(self) -> tuple[str, ...]:
        """What stands for each label, in their order."""
        return CODES[: len(self.labels)]

    def grammar(self) -> str:
        """GBNF of all that may be written; "" where anything may, or where `schema` is one for the engine to read."""
        if self.kind == "label":
            return f"root ::= {' | '.join(map(gbnf.quoted, self.codes()))}\n"
        if self.schema is not None:
            return gbnf.of_schema(json.loads(bytes(self.schema)))
        if not self.fields:
            return ""
        rules = [f.rule(key) for key, f in zip(KEYS, self.fields, strict=False)]
        return f"root ::= {' '.join(rules)}\n{CHAR}"


def form(kind: Kind, labels: tuple[str, ...] = (), schema: Raw | None = None) -> Form:
    """The form of a task; raises Problem where its labels or its schema are none that a student can write."""
    if kind == "label":
        if not 2 <= len(labels) <= len(CODES) or len(set(labels)) != len(labels):
            say = f"a student tells 2 to {len(CODES)} different labels apart, and these are {len(labels)}"
            raise Problem("client", say, param="labels")
        return Form(kind=kind, labels=labels)
    if kind == "text":
        return Form(kind=kind)
    if schema is None:
        raise Problem("client", "a task of the kind extract needs the JSON schema of its answers", param="schema")
    try:
        msgspec.json.decode(schema, type=_Schema)
    except msgspec.DecodeError as e:
        raise Problem("client", f"the schema cannot be read: {e}", param="schema") from None
    value = msgspec.json.decode(schema)
    if not value.get("properties"):
        raise Problem("client", "the schema must be of an object with properties", param="schema")
    fields = _flat(value)
    return Form(kind=kind, fields=fields) if 0 < len(fields) <= len(KEYS) else Form(kind=kind, schema=schema)


def _flat(schema: dict[str, Any]) -> tuple[Field, ...]:
    """The fields of a schema of plain values; none where it holds more than that."""
    if schema.keys() - {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}:
        return ()
    if schema.get("additionalProperties") not in (None, False):
        return ()
    required, fields = schema.get("required", []), []
    for name, each in schema["properties"].items():
        if not isinstance(each, dict) or each.keys() - {"type", "enum", "title", "description"}:
            return ()
        types = each.get("type", "string")
        types = [types] if isinstance(types, str) else list(types)
        plain = [t for t in types if t != "null"]
        choices = each.get("enum", [])
        if len(plain) != 1 or plain[0] not in TYPES or (choices and plain[0] != "string"):
            return ()
        if not all(isinstance(c, str) for c in choices):
            return ()
        fields.append(Field(name, plain[0], tuple(choices), name in required, "null" in types))
    return tuple(fields)


def _ordered(value: Any, schema: Any) -> Any:
    """The value with the keys of its objects in the schema's order, as the engine will write them."""
    if isinstance(value, list) and isinstance(schema, dict):
        return [_ordered(v, schema.get("items")) for v in value]
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return value
    inner = schema.get("properties", {})
    names = [n for n in inner if n in value] + [n for n in value if n not in inner]
    return {n: _ordered(value[n], inner.get(n)) for n in names}


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(c, c) for c in text)


def _unfit(why: str) -> Problem:
    return Problem("client", f"the answer does not belong to the task: {why}; correct it or leave the row out")
