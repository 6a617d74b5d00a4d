"""Token counts between Anthropic's form, where input leaves out what the cache read and wrote, and ours."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import Usage
from lilliput.wire.openai.usage import MOST_BYTES, MOST_TOKENS

_Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class _Written(Struct, gc=False):
    ephemeral_1h_input_tokens: _Count | None = 0
    ephemeral_5m_input_tokens: _Count | None = 0


class _Thought(Struct, gc=False):
    thinking_tokens: _Count | None = 0


class _Plain(Struct, gc=False):
    """A usage object without a doubtful figure, which nearly all are."""

    input_tokens: _Count
    output_tokens: _Count
    cache_creation_input_tokens: _Count
    cache_read_input_tokens: _Count | None = 0
    cache_creation: _Written | None = None
    output_tokens_details: _Thought | None = None


class _Kept(Struct, gc=False, omit_defaults=True):
    """What of a provider's own object may stand beside the figures that we write."""

    server_tool_use: object = None
    service_tier: object = None
    inference_geo: object = None


_plain = msgspec.json.Decoder(_Plain).decode
_kept = msgspec.json.Decoder(_Kept).decode
_decode = msgspec.json.Decoder(dict[str, object]).decode


def merged(*raws: Raw | bytes) -> bytes:
    """One usage object of several, the later ones' figures over the earlier ones'; null says nothing."""
    fields: dict[str, object] = {}
    for raw in raws:
        fields |= {name: value for name, value in _object(raw).items() if value is not None}
    return msgspec.json.encode(fields)


def read_usage(raw: Raw | bytes) -> Usage | None:
    """The counts in an Anthropic usage object, None when it holds none."""
    return _simple(raw) or _read(raw)


def _simple(raw: Raw | bytes) -> Usage | None:
    """The counts of a plain object, at a fraction of what `_read` costs; None for any other."""
    try:
        given = _plain(raw)
    except (ValueError, RecursionError):
        return None
    hour = (given.cache_creation.ephemeral_1h_input_tokens or 0) if given.cache_creation is not None else 0
    details = given.output_tokens_details
    thinking = (details.thinking_tokens or 0) if details is not None else 0
    if hour > given.cache_creation_input_tokens or thinking > given.output_tokens:
        return None
    return Usage(
        input=given.input_tokens,
        cache_read=given.cache_read_input_tokens or 0,
        cache_write_5m=given.cache_creation_input_tokens - hour,
        cache_write_1h=hour,
        output=given.output_tokens - thinking,
        reasoning=thinking,
        given=raw.copy() if isinstance(raw, Raw) else Raw(raw),
    )


def _read(raw: Raw | bytes) -> Usage | None:
    given = _object(raw)
    if given.get("input_tokens") is None and given.get("output_tokens") is None:
        return None
    odd: list[str] = []

    def count(place: dict[str, object], name: str) -> int:
        n = place.get(name)
        if isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n <= MOST_TOKENS and n == int(n):
            return int(n)
        if n is not None:
            odd.append(name)
        return 0

    details, split = _inner(given, "output_tokens_details"), _inner(given, "cache_creation")
    hour, minutes = count(split, "ephemeral_1h_input_tokens"), count(split, "ephemeral_5m_input_tokens")
    written = count(given, "cache_creation_input_tokens")
    if given.get("cache_creation_input_tokens") is None:
        written = hour + minutes
    elif hour > written:
        odd.append("ephemeral_1h_input_tokens")
    output, thinking = count(given, "output_tokens"), count(details, "thinking_tokens")
    if thinking > output:
        odd.append("thinking_tokens")
    hour, thinking = min(hour, written), min(thinking, output)
    return Usage(
        input=count(given, "input_tokens"),
        cache_read=count(given, "cache_read_input_tokens"),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        output=output - thinking,
        reasoning=thinking,
        given=Raw(bytes(raw)),
        doubts=tuple(dict.fromkeys(odd)),
    )


def write_usage(u: Usage) -> dict[str, object]:
    """Anthropic's usage object for `u`; sound and pictures are input and output like any other there."""
    return {
        "input_tokens": u.input + u.audio_in + u.image_in,
        "cache_creation_input_tokens": u.cache_write_5m + u.cache_write_1h,
        "cache_read_input_tokens": u.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": u.cache_write_5m,
            "ephemeral_1h_input_tokens": u.cache_write_1h,
        },
        "output_tokens": u.completion_tokens,
        "output_tokens_details": {"thinking_tokens": u.reasoning},
        **_own(u.given),
    }


def _own(given: Raw | None) -> dict[str, object]:
    """What of a provider's own object stands beside our figures."""
    if given is None or len(bytes(given)) > MOST_BYTES:
        return {}
    try:
        own: dict[str, object] = msgspec.to_builtins(_kept(given))
    except (ValueError, RecursionError):
        return {}
    return own


def _object(raw: Raw | bytes) -> dict[str, object]:
    if len(bytes(raw)) > MOST_BYTES:
        return {}
    try:
        return _decode(raw)
    except (ValueError, RecursionError):
        return {}


def _inner(given: dict[str, object], name: str) -> dict[str, object]:
    value = given.get(name)
    return value if isinstance(value, dict) else {}
