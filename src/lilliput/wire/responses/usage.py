"""Token counts between the Responses form and ours: OpenAI's chat form under other names, with the same oddities."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from lilliput.neutral import Usage
from lilliput.wire.openai import usage as openai_usage


class _Given(Struct, gc=False):
    input_tokens: Raw = Raw(b"null")
    output_tokens: Raw = Raw(b"null")
    total_tokens: Raw = Raw(b"null")
    input_tokens_details: Raw = Raw(b"null")
    output_tokens_details: Raw = Raw(b"null")


_decode = msgspec.json.Decoder(_Given).decode


def read_usage(raw: Raw | bytes) -> Usage | None:
    """The counts in a Responses usage object, None when it holds none."""
    try:
        g = _decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None
    chat = {
        "prompt_tokens": g.input_tokens,
        "completion_tokens": g.output_tokens,
        "total_tokens": g.total_tokens,
        "prompt_tokens_details": g.input_tokens_details,
        "completion_tokens_details": g.output_tokens_details,
    }
    usage = openai_usage.read_usage(msgspec.json.encode(chat))
    return None if usage is None else replace(usage, given=Raw(bytes(raw)))


def write_usage(u: Usage) -> dict[str, object]:
    """The Responses usage object for `u`."""
    return {
        "input_tokens": u.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": u.cache_read,
            "cache_write_tokens": u.cache_write_5m + u.cache_write_1h,
        },
        "output_tokens": u.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": u.reasoning},
        "total_tokens": u.total_tokens,
    }
