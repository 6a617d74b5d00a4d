"""Converse's token counts as ours: what was read from and written to the cache stands beside `inputTokens`."""

from __future__ import annotations

from msgspec import Raw

from lilliput.neutral import Usage
from lilliput.wire.openai.usage import as_object, decoded, figure


def read_usage(raw: Raw | bytes) -> Usage | None:
    """The counts in a usage object of Converse or of Nova's own form, None when it holds none."""
    given = as_object(decoded(raw))
    odd: list[str] = []

    def count(*names: str, of: dict[str, object] = given) -> int:
        for name in names:
            n = figure(of.get(name))
            if n is not None:
                return n
            if of.get(name) is not None:
                odd.append(name)
        return 0

    if given.get("inputTokens") is None and given.get("outputTokens") is None:
        return None
    written = count("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    details = given.get("cacheDetails")
    long = 0
    for detail in details if isinstance(details, list) else ():
        if as_object(detail).get("ttl") == "1h":
            long += count("inputTokens", of=as_object(detail))
    if long > written:
        odd.append("cacheDetails")
        long = written
    return Usage(
        input=count("inputTokens"),
        cache_read=count("cacheReadInputTokens", "cacheReadInputTokenCount"),
        cache_write_5m=written - long,
        cache_write_1h=long,
        output=count("outputTokens"),
        given=Raw(bytes(raw)),
        doubts=tuple(dict.fromkeys(odd)),
    )
