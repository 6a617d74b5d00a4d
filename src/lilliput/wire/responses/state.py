"""A thread of responses, so that `previous_response_id` works whoever answered before: turns taken apart and joined.

Values only: where turns are kept is the store's business, whose they are the gateway's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from lilliput.neutral import Problem

MOST_TURNS = 512
MOST_ITEMS = 256
"""Of one answer, that can be named by their ids."""
MOST_BYTES = 10 * 1024 * 1024
NULL = (b"", b"null")
_KEPT = ("completed", "incomplete")


class Turn(Struct, frozen=True):
    """One request and its answer. `input` is the request's own items, a JSON array; `response` the Response object.

    `previous` is the id of the turn before it, None for the first of a thread.
    """

    id: str
    input: bytes
    response: bytes
    previous: str | None = None


class _Response(Struct):
    id: str | None = None
    status: str | None = None
    output: list[Raw] = []


class _Head(Struct):
    type: object = None
    id: object = None
    encrypted_content: object = None
    summary: object = None
    content: object = None


pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Turn).decode

_response = msgspec.json.Decoder(_Response).decode
_head = msgspec.json.Decoder(_Head).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def turn(fields: dict[str, Raw], response: bytes) -> Turn | None:
    """The turn to keep of a request's own `fields` (before `join`) and the whole Response object that answered it.

    None where nothing is to be kept: the caller said `store: false`, or the answer did not come to an end.
    """
    if bytes(fields.get("store", b"")) == b"false":
        return None
    try:
        r = _response(response)
        for item in r.output:
            _head(item)  # what could not be joined again is not kept
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not r.id or r.status not in _KEPT:
        return None
    return Turn(r.id, _encode(_items(fields.get("input"))), response, previous(fields))


def previous(fields: dict[str, Raw]) -> str | None:
    """The `previous_response_id` of a request, which `check` has found to be text."""
    raw = bytes(fields.get("previous_response_id", b""))
    return None if raw in NULL else _string(raw)


def join(fields: dict[str, Raw], turns: Sequence[Turn]) -> dict[str, Raw]:
    """`fields` with the items of `turns`, the oldest first, before its own input, and no `previous_response_id`.

    Instructions of earlier turns are not carried over (OpenAI API reference, `instructions`). Raises Problem (400)
    for a thread that is too long to be sent.
    """
    items: list[Raw] = []
    for t in turns:
        items += _raws(t.input)
        items += [_carried(item) for item in _response(t.response).output if _says(item)]
    items += _items(fields.get("input"))
    joined = Raw(_encode(items))
    if len(bytes(joined)) > MOST_BYTES:
        raise too_long(f"over {MOST_BYTES} bytes")
    out = {name: raw for name, raw in fields.items() if name != "previous_response_id"}
    out["input"] = joined
    return out


def references(fields: dict[str, Raw]) -> list[str]:
    """The ids of earlier items that a request's input names instead of repeating them."""
    raw = fields.get("input")
    if raw is None or b'"item_reference"' not in bytes(raw):
        return []
    heads = [_head(item) for item in _items(raw)]
    return [str(h.id) for h in heads if h.type == "item_reference"]


def resolve(fields: dict[str, Raw], known: dict[str, Raw]) -> dict[str, Raw]:
    """`fields` with the `known` items, by id, in the places of the references to them."""
    out: list[Raw] = []
    for item in _items(fields.get("input")):
        head = _head(item)
        if head.type != "item_reference":
            out.append(item)
        elif _says(known[str(head.id)]):
            out.append(_carried(known[str(head.id)]))
    return fields | {"input": Raw(_encode(out))}


def items(t: Turn) -> dict[str, Raw]:
    """The items of a turn's answer that have an id, by it."""
    found = ((_head(item).id, item) for item in _response(t.response).output)
    return {id: item for id, item in found if isinstance(id, str)}


def too_long(what: str) -> Problem:
    say = f"the thread before this request has {what}; start a new one, with a summary of what matters"
    return Problem("client", say, code="context_length_exceeded", param="previous_response_id")


def _items(raw: Raw | None) -> list[Raw]:
    """A request's input as items; plain text is the user's message."""
    if raw is None or bytes(raw) in NULL:
        return []
    if bytes(raw)[:1] == b"[":
        return _raws(raw)
    return [Raw(_encode({"type": "message", "role": "user", "content": raw}))]


def _says(item: Raw) -> bool:
    """False for reasoning that holds nothing: neither text nor seal, only an id that means nothing elsewhere."""
    head = _head(item)
    return head.type != "reasoning" or bool(head.encrypted_content or head.summary or head.content)


def _carried(item: Raw) -> Raw:
    """An item of an answer as one of a request: without its id, which only the provider that stored it would know."""
    fields = _fields(item)
    if _head(item).type in ("message", "reasoning", "function_call", "custom_tool_call"):
        fields.pop("id", None)
        fields.pop("status", None)
    return Raw(_encode(fields))
