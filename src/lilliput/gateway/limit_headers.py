"""OpenAI's rate-limit headers: of all limits that a request falls under, the one with least left.

Names and forms as in https://platform.openai.com/docs/guides/rate-limits (its text of 2026-06-26).
"""

from __future__ import annotations

from lilliput.limits_config import Bucket, Taken


def lines(taken: Taken) -> bytes:
    """The header lines for requests and for tokens, each ended by CRLF; none for a unit that is not limited."""
    found = b""
    for unit in ("requests", "tokens"):
        tightest: tuple[int, Bucket, int] | None = None
        for bucket, level in zip(taken.buckets, taken.levels, strict=True):
            if bucket.unit == unit:
                left = max(0, (bucket.capacity - level) // bucket.ticks)
                if tightest is None or left < tightest[0]:
                    tightest = left, bucket, level
        if tightest is not None:
            left, bucket, level = tightest
            full_ms = -(-level // bucket.limit) * bucket.tick_ms if bucket.limit else bucket.period_s * 1000
            found += (
                f"x-ratelimit-limit-{unit}: {bucket.limit}\r\n"
                f"x-ratelimit-remaining-{unit}: {left}\r\n"
                f"x-ratelimit-reset-{unit}: {duration(full_ms)}\r\n"
            ).encode()
    return found


def duration(ms: int) -> str:
    """As Go writes it, which is what OpenAI sends: "17ms", "1s", "8.64s", "6m0s", "1h2m3.5s"; "0s" for none."""
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 1000}.{rest % 1000:03}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
