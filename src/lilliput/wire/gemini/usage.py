"""Gemini's `usageMetadata` between its own terms and our disjoint buckets.

The prompt's count holds what was cached; candidates leave thoughts out, and the total tells where they do not.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import Usage
from lilliput.wire.openai.usage import MOST_TOKENS, as_object, decoded, figure, share

_Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class _Plain(Struct, gc=False):
    """Tokens that are no buckets of their own."""

    modality: Literal["TEXT", "VIDEO", "DOCUMENT"]


class _Simple(Struct, gc=False, rename="camel"):
    """A `usageMetadata` of the plainest kind, which nearly all are."""

    prompt_token_count: _Count
    total_token_count: _Count
    candidates_token_count: _Count | None = None
    thoughts_token_count: _Count | None = None
    cached_content_token_count: _Count | None = None
    tool_use_prompt_token_count: _Count | None = None
    prompt_tokens_details: list[_Plain] | None = None
    candidates_tokens_details: list[_Plain] | None = None


_simple = msgspec.json.Decoder(_Simple).decode
_TOTALS = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")


class Counts:
    """What an answer has said of its usage: pieces repeat it and it grows; a later one may leave out what stood."""

    __slots__ = ("_given", "_plain")

    def __init__(self) -> None:
        self._given = b""
        self._plain: _Simple | None = None

    def add(self, raw: Raw) -> bool:
        """Takes a piece's `usageMetadata`; true when it says anything new."""
        given = bytes(raw)
        if given == self._given:
            return False
        before, plain = self._plain, _plainly(given)
        if self._given and (before is None or plain is None or _is_less(plain, before)):
            given = msgspec.json.encode(as_object(decoded(self._given)) | as_object(decoded(given)))
            plain = _plainly(given)
        self._given, self._plain = given, plain
        return True

    def usage(self) -> Usage | None:
        return _usage_of(self._plain, self._given)


def read_usage(raw: Raw | bytes) -> Usage | None:
    """The counts in a `usageMetadata` object, None when it holds none; `doubts` names the figures put right."""
    return _usage_of(_plainly(raw), raw)


def _plainly(raw: Raw | bytes) -> _Simple | None:
    try:
        return _simple(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _is_less(now: _Simple, before: _Simple) -> bool:
    """True when `now` leaves out a figure that stood `before`."""
    return (
        (now.candidates_token_count is None and before.candidates_token_count is not None)
        or (now.thoughts_token_count is None and before.thoughts_token_count is not None)
        or (now.cached_content_token_count is None and before.cached_content_token_count is not None)
        or (now.tool_use_prompt_token_count is None and before.tool_use_prompt_token_count is not None)
    )


def _usage_of(plain: _Simple | None, raw: Raw | bytes) -> Usage | None:
    """What `_usage` says, at a fraction of its cost where nothing is odd."""
    if plain is not None:
        prompt = plain.prompt_token_count + (plain.tool_use_prompt_token_count or 0)
        cached, thoughts = plain.cached_content_token_count or 0, plain.thoughts_token_count or 0
        answer = plain.candidates_token_count or 0
        if cached <= plain.prompt_token_count and plain.total_token_count == prompt + answer + thoughts:
            given = Raw(bytes(raw))
            return Usage(input=prompt - cached, cache_read=cached, output=answer, reasoning=thoughts, given=given)
    return _usage(as_object(decoded(raw)))


def _usage(given: dict[str, object]) -> Usage | None:
    odd: list[str] = []

    def count(name: str) -> int:
        n = figure(given.get(name))
        if n is None and given.get(name) is not None:
            odd.append(name)
        return n or 0

    prompt, tools = count("promptTokenCount"), count("toolUsePromptTokenCount")
    answer, thoughts = count("candidatesTokenCount"), count("thoughtsTokenCount")
    total, cached = count("totalTokenCount"), count("cachedContentTokenCount")
    if all(given.get(name) is None for name in _TOTALS):
        return None
    beyond = total - prompt - tools - answer - thoughts
    if total and thoughts and beyond == -thoughts:
        odd.append("candidatesTokenCount")  # thoughts are counted among the candidates
        answer -= thoughts
    elif total and prompt and beyond > 0:
        odd.append("totalTokenCount")
        thoughts += beyond
    if cached > prompt:
        odd.append("cachedContentTokenCount")
    asked, of_cache = _modalities(given.get("promptTokensDetails")), _modalities(given.get("cacheTokensDetails"))
    made = _modalities(given.get("candidatesTokensDetails"))
    audio, image = (max(0, asked.get(m, 0) - of_cache.get(m, 0)) for m in ("AUDIO", "IMAGE"))
    input_, (cached, audio, image) = share(prompt + tools, cached, audio, image)
    output, (audio_out, image_out) = share(answer, made.get("AUDIO", 0), made.get("IMAGE", 0))
    return Usage(
        input=input_,
        cache_read=cached,
        audio_in=audio,
        image_in=image,
        output=output,
        reasoning=thoughts,
        audio_out=audio_out,
        image_out=image_out,
        given=Raw(msgspec.json.encode(given)),
        doubts=tuple(dict.fromkeys(odd)),
    )


def write_usage(u: Usage) -> dict[str, object]:
    """`u` as `usageMetadata`: figures that are none are left out, as Google does."""
    answer = u.output + u.audio_out + u.image_out
    out: dict[str, object] = {"promptTokenCount": u.prompt_tokens, "candidatesTokenCount": answer}
    if u.reasoning:
        out["thoughtsTokenCount"] = u.reasoning
    out["totalTokenCount"] = u.total_tokens
    if u.cache_read:
        out["cachedContentTokenCount"] = u.cache_read
    text = u.prompt_tokens - u.audio_in - u.image_in
    out["promptTokensDetails"] = _details(TEXT=text, AUDIO=u.audio_in, IMAGE=u.image_in)
    if u.audio_out or u.image_out:
        out["candidatesTokensDetails"] = _details(TEXT=u.output, AUDIO=u.audio_out, IMAGE=u.image_out)
    return out


def _details(**counts: int) -> list[dict[str, object]]:
    return [{"modality": modality, "tokenCount": n} for modality, n in counts.items() if n]


def _modalities(details: object) -> dict[str, int]:
    """The token counts by modality."""
    out: dict[str, int] = {}
    for d in details if isinstance(details, list) else ():
        if isinstance(d, dict) and isinstance(d.get("modality"), str):
            out[d["modality"]] = out.get(d["modality"], 0) + (figure(d.get("tokenCount")) or 0)
    return out
