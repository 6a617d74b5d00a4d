"""What a call cost: integer arithmetic from a price and a usage to nano-dollars. No clock: the caller says when."""

from __future__ import annotations

from lilliput.catalogue.rows import Price
from lilliput.neutral import Usage

MTOK = 1_000_000


def cost_nusd(price: Price, usage: Usage, at_s: float | None = None) -> int:
    """Cost of one call in nano-dollars, rounded up once, at the end.

    `at_s` is the time of the call in Unix seconds: it matters only to a price with `hours`, whose price outside all
    hours is used when the time is not given.
    """
    p = rates(price, usage.prompt_tokens, at_s)
    write = p.input if p.cache_write is None else p.cache_write
    parts = (
        usage.input * p.input
        + usage.cache_read * (p.input if p.cache_read is None else p.cache_read)
        + usage.cache_write_5m * write
        + usage.cache_write_1h * (write if p.cache_write_1h is None else p.cache_write_1h)
        + usage.audio_in * (p.input if p.input_audio is None else p.input_audio)
        + usage.image_in * (p.input if p.input_image is None else p.input_image)
        + usage.output * p.output
        + usage.reasoning * (p.output if p.reasoning is None else p.reasoning)
        + usage.audio_out * (p.output if p.output_audio is None else p.output_audio)
        + usage.image_out * (p.output if p.output_image is None else p.output_image)
    )
    return -(-parts // MTOK) + p.per_request


def rates(price: Price, prompt_tokens: int, at_s: float | None = None) -> Price:
    """The price that holds for a prompt of this length at this time: the hour's first, then its last tier exceeded."""
    if price.hours and at_s is not None:
        minute = int(at_s // 60) % 1440
        for h in price.hours:
            a, b = h.start_minute, h.end_minute
            if a <= minute < b if a <= b else minute >= a or minute < b:
                price = h.price
                break
    for tier in reversed(price.tiers):
        if prompt_tokens > tier.above_tokens:
            return tier.price
    return price
