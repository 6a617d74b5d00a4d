"""What makes two requests the same: digests of all that an answer depends on, and of who may share it.

Pure. What is kept under them is for `cache` and `idempotency` to say.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

import msgspec
from msgspec import Raw

from lilliput.gateway.exchange import Ask, Operation, Visit
from lilliput.neutral import Key

Share = Literal["key", "team"]

HEADERS = (b"anthropic-version", b"anthropic-beta")
"""Headers of a request that change its answer."""
UNSEEN = {"openai_chat": frozenset(("metadata", "prompt_cache_key"))}
"""Fields that no model sees and no answer repeats, by dialect. `user` is not among them: whoever tells its users apart
with it wants them apart here too; a Response object repeats its metadata."""

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_pack = msgspec.msgpack.Encoder().encode


def digest(domain: str, *parts: object) -> bytes:
    """SHA-256 of the parts in a form that can be read back (MessagePack), so that different parts never look the same,
    nor do digests of different domains."""
    return sha256(_pack((domain, parts))).digest()


def tenant(key: Key, share: Share) -> str:
    """Whose answers a key may be given: its own, or its team's."""
    return f"team:{key.team}" if share == "team" and key.team else f"key:{key.id}"


def read(body: bytes) -> dict[str, Raw]:
    """The fields of a body that was checked before, by name, without the white space between their parts.

    Nothing below the top is put in order: the order of a schema's properties is the order of the answer's.
    """
    fields = _fields(msgspec.json.format(body, indent=-1))
    return {name: fields[name] for name in sorted(fields)}


def asked(tenant: str, visit: Visit, op: Operation, ask: Ask, fields: dict[str, Raw]) -> tuple[object, ...]:
    """All that an answer depends on. Keys that may call other models are sent elsewhere by a route, and share none."""
    unseen = UNSEEN.get(op.dialect, frozenset())
    return (
        tenant,
        sorted(visit.key.models),
        (op.name, op.dialect, ask.model, ask.stream),
        visit.target,
        [visit.header(name) for name in HEADERS],
        [(name, bytes(raw)) for name, raw in fields.items() if name not in unseen],
    )


def fingerprint(visit: Visit, op: Operation) -> bytes:
    """What has to be the same when an idempotency key comes again. A form's boundary is drawn anew by each try."""
    media, _, parameters = (visit.header(b"content-type") or b"").partition(b";")
    body, boundary = visit.body, parameters.partition(b"boundary=")[2].partition(b";")[0].strip(b' "')
    if boundary and media.strip().lower() == b"multipart/form-data":
        body = body.replace(boundary, b"")
    return digest("idempotent", op.name, visit.target, [visit.header(name) for name in HEADERS], body)
