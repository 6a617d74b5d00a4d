"""Token counts between OpenAI's form, where totals contain their parts, and ours, where the parts are disjoint."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import Usage

MOST_TOKENS = 1_000_000_000
"""A figure above this is nonsense, as is a negative one: it counts as 0."""

MOST_BYTES = 65_536

_CACHE_READ = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens")
"""Other places of cached prompt tokens: Hugging Face and Together, DeepSeek, Mistral, LiteLLM (recordings)."""


_Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
_None = Annotated[int, Meta(ge=0, le=0)]


class _OfPrompt(Struct, gc=False):
    cached_tokens: _Count | None = 0
    cache_write_tokens: _None | None = 0
    audio_tokens: _None | None = 0
    image_tokens: _None | None = 0


class _OfAnswer(Struct, gc=False):
    reasoning_tokens: _Count | None = 0
    audio_tokens: _None | None = 0
    image_tokens: _None | None = 0


class Plain(Struct, gc=False):
    """A usage object of the plainest kind, which nearly all are: what it may hold, and what it may not."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _OfPrompt | None = None
    completion_tokens_details: _OfAnswer | None = None
    prompt_token_details: None = None
    completion_token_details: None = None
    prompt_cache_hit_tokens: _None | None = None
    num_cached_tokens: _None | None = None
    cached_tokens: _None | None = None
    cache_read_input_tokens: _None | None = None
    cache_creation_input_tokens: _None | None = None
    reasoning_tokens: _None | None = None


_plain = msgspec.json.Decoder(Plain).decode


def read_usage(raw: Raw | bytes) -> Usage | None:
    """The counts in an OpenAI usage object, None when it holds none; its `doubts` say what was put right."""
    return _simple(raw) or _read(raw)


def doubts(raw: Raw | bytes) -> tuple[str, ...]:
    """The figures of a usage object that cannot be true as they stand, by name; () for an honest one."""
    usage = _read(raw)
    return usage.doubts if usage is not None else ()


def _simple(raw: Raw | bytes) -> Usage | None:
    """The counts of a plain object, at a fraction of what `_read` costs; None for any other."""
    try:
        given = _plain(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return counted(given, raw)


def counted(given: Plain, raw: Raw | bytes | None = None) -> Usage | None:
    """The counts of a plain object, None where they do not add up; `raw` is kept beside them."""
    prompt, answer = given.prompt_tokens, given.completion_tokens
    cached = (given.prompt_tokens_details.cached_tokens or 0) if given.prompt_tokens_details is not None else 0
    of_answer = given.completion_tokens_details
    reasoning = (of_answer.reasoning_tokens or 0) if of_answer is not None else 0
    if cached > prompt or reasoning > answer or given.total_tokens != prompt + answer:
        return None
    return Usage(
        input=prompt - cached,
        cache_read=cached,
        output=answer - reasoning,
        reasoning=reasoning,
        given=raw.copy() if isinstance(raw, Raw) else None if raw is None else Raw(raw),
    )


def write_usage(u: Usage) -> dict[str, object]:
    """OpenAI's usage object for `u`.

    A provider's own object in OpenAI's form is kept as it came, with its extra figures (cost, times); only details
    that it gave under other names, or not at all, are filled in. So the caller sees the same whichever way it went.
    """
    prompt: dict[str, int] = {"cached_tokens": u.cache_read, "audio_tokens": u.audio_in}
    if u.cache_write_5m or u.cache_write_1h:
        prompt["cache_write_tokens"] = u.cache_write_5m + u.cache_write_1h
    if u.image_in:
        prompt["image_tokens"] = u.image_in
    completion: dict[str, int] = {"reasoning_tokens": u.reasoning, "audio_tokens": u.audio_out}
    if u.image_out:
        completion["image_tokens"] = u.image_out
    asked, answered = u.prompt_tokens, u.completion_tokens
    ours: dict[str, object] = {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
    }
    given: dict[str, object] = {}
    if u.given is not None and b'"prompt_tokens"' in bytes(u.given):
        given = as_object(decoded(u.given))
    if not given or not _sane(given):
        return {**ours, "prompt_tokens_details": prompt, "completion_tokens_details": completion}
    given = _flat(given)
    details = {
        "prompt_tokens_details": {**prompt, **as_object(given.get("prompt_tokens_details"))},
        "completion_tokens_details": {**completion, **as_object(given.get("completion_tokens_details"))},
    }
    return {**ours, **given, **details}


def _read(raw: Raw | bytes) -> Usage | None:
    given = as_object(decoded(raw))
    odd: list[str] = []

    def count(name: str, *places: dict[str, object]) -> int:
        for place in places:
            n = figure(place.get(name))
            if n is not None:
                return n
            if place.get(name) is not None:
                odd.append(name)
        return 0

    if given.get("prompt_tokens") is None and given.get("completion_tokens") is None:
        return None
    of_prompt = as_object(given.get("prompt_tokens_details")) or as_object(given.get("prompt_token_details"))
    of_answer = as_object(given.get("completion_tokens_details")) or as_object(given.get("completion_token_details"))
    prompt, answer = count("prompt_tokens", given), count("completion_tokens", given)
    total = count("total_tokens", given)
    cached = count("cached_tokens", of_prompt) or next((n for name in _CACHE_READ if (n := count(name, given))), 0)
    written = count("cache_write_tokens", of_prompt) or count("cache_creation_input_tokens", given)
    audio, image = count("audio_tokens", of_prompt), count("image_tokens", of_prompt)
    reasoning = count("reasoning_tokens", of_answer, given)
    audio_out, image_out = count("audio_tokens", of_answer), count("image_tokens", of_answer)

    beyond = total - prompt - answer
    if beyond > 0 and beyond == reasoning:
        answer += reasoning  # xAI counts reasoning beside completion_tokens, and the total tells (recordings)
    elif beyond > 0 and beyond == audio:
        odd.append("prompt_tokens")
        prompt += audio  # Mistral's Voxtral counts audio beside prompt_tokens (mistral-ea8d650ae5)
    elif beyond > 0:
        odd.append("total_tokens")
        answer += beyond  # Gemini's compatible endpoint shows thinking in the total alone (gemini-a9e04ee751)
        reasoning += beyond
    elif reasoning > answer:
        odd.append("reasoning_tokens")
        if reasoning > answer + 1:  # more than a count that is off by one (openrouter-e50d099135)
            answer += reasoning  # Vercel counts Gemini's thinking beside, and bills both (vercel-gateway-1c9b7f1f57)
    if cached > prompt:
        odd.append("cached_tokens")  # xAI on Azure (azure-040a80fabe)
    elif cached + written > prompt:
        odd.append("cache_write_tokens")  # Gemini on OpenRouter: what it wrote, it also read (openrouter-815b92db0f)
    input_, (cached, written, audio, image) = share(prompt, cached, written, audio, image)
    output, (reasoning, audio_out, image_out) = share(answer, reasoning, audio_out, image_out)
    return Usage(
        input=input_,
        cache_read=cached,
        cache_write_5m=written,
        audio_in=audio,
        image_in=image,
        output=output,
        reasoning=reasoning,
        audio_out=audio_out,
        image_out=image_out,
        given=Raw(bytes(raw)),
        doubts=tuple(dict.fromkeys(odd)),
    )


def share(whole: int, *parts: int) -> tuple[int, list[int]]:
    """What of `whole` is left when each part took its due; parts that overlap take what is there, in their order."""
    shares = []
    for part in parts:
        shares.append(min(part, whole))
        whole -= shares[-1]
    return whole, shares


def decoded(raw: Raw | bytes) -> object:
    if len(bytes(raw)) > MOST_BYTES:
        return None
    try:
        value: object = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    return value


def as_object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def figure(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _sane(given: dict[str, object]) -> bool:
    """True when the object has both counts, and no figure in it or in its details is negative or beyond reason."""
    if figure(given.get("prompt_tokens")) is None or figure(given.get("completion_tokens")) is None:
        return False
    objects = [given, *(value for value in given.values() if isinstance(value, dict))]
    numbers = [n for o in objects for n in o.values() if isinstance(n, int | float)]
    return all(0 <= n <= 1e15 for n in numbers)


def _flat(given: dict[str, object], depth: int = 2) -> dict[str, object]:
    """`given` without nulls, lists and what is nested deeper than usage objects are."""
    out: dict[str, object] = {}
    for name, value in given.items():
        if isinstance(value, dict):
            if depth > 1:
                out[name] = _flat(value, depth - 1)
        elif isinstance(value, str | int | float):
            out[name] = value
    return out
