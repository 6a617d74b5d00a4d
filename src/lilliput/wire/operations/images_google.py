"""Images at Google: Imagen's `:predict`, and Gemini's models that draw, by generateContent."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from lilliput.neutral import Problem, Sent, Target, Usage
from lilliput.wire.broken import invalid_answer
from lilliput.wire.operations import gemini_made
from lilliput.wire.operations.images_form import Body
from lilliput.wire.operations.modality import Adapter, Answer, Header, endpoint, fields, lost, pack, unable, whole
from lilliput.wire.port import Headers

_KEPT = ("model", "prompt", "n", "response_format")
_IMAGEN = ("1:1", "3:4", "4:3", "9:16", "16:9")
_GEMINI = (*_IMAGEN, "2:3", "3:2", "4:5", "5:4", "21:9")
"""The shapes that each draws (https://ai.google.dev/gemini-api/docs/imagen and /image-generation, 2026-11-22)."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class _Image(Struct):
    bytesBase64Encoded: str | None = None
    prompt: str | None = None
    raiFilteredReason: str | None = None


class _Predicted(Struct):
    predictions: list[_Image] = []
    error: Any = None


_predicted = msgspec.json.Decoder(_Predicted).decode
_encode = msgspec.json.Encoder().encode


def _is_imagen(target: Target) -> bool:
    return target.model.startswith("imagen")


def _endpoint(target: Target, asked: Body) -> tuple[str, Headers]:
    if _is_imagen(target):
        return endpoint(target, f"/models/{quote(target.model, safe='')}:predict")
    return gemini_made.endpoint(target, asked)


def _write(body: bytes, asked: Body, target: Target) -> Sent:
    """A size is approximated by its shape, and told as dropped: how many pixels an image has, Google says itself."""
    if asked.response_format == "url":
        raise unable(target, "response_format 'url' (it sends images themselves)", "response_format")
    told = lost(fields(body), _KEPT)
    ratio = _ratio(asked.size, _IMAGEN if _is_imagen(target) else _GEMINI)
    if _is_imagen(target):
        parameters = {"sampleCount": asked.n or 1, **({"aspectRatio": ratio} if ratio else {})}
        return pack({"instances": [{"prompt": asked.prompt}], "parameters": parameters}, target, told)
    if asked.n not in (None, 1):
        raise unable(target, "more than one image a call", "n")
    options: dict[str, object] = {"imageConfig": {"aspectRatio": ratio}} if ratio else {}
    return gemini_made.ask(asked.prompt, "IMAGE", options, target, told)


def _ratio(size: str | None, ratios: tuple[str, ...]) -> str | None:
    """The nearest shape to a size such as 1536x1024; None for none or "auto"."""
    if size is None or size == "auto":
        return None
    pixels = _SIZE.fullmatch(size)
    if pixels is None:
        say = f"'size' is {size[:40]!r}; write it as width x height, such as 1024x1024"
        raise Problem("client", say, code="invalid_value", param="size")
    asked = int(pixels[1]) / int(pixels[2])

    def off(ratio: str) -> float:
        width, _, height = ratio.partition(":")
        got = int(width) / int(height)
        return max(asked / got, got / asked)

    return min(ratios, key=off)


def _read(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    images, usage = _predictions(status, body) if _is_imagen(target) else _drawn(status, body)
    answer: dict[str, object] = {"data": images}
    if (created := _time_s(header)) is not None:
        answer["created"] = created
    if usage is not None:
        counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
        answer["usage"] = counts | {"total_tokens": usage.total_tokens}
    return Answer(_encode(answer), usage=usage)


def _predictions(status: int, body: bytes) -> tuple[list[dict[str, str]], Usage | None]:
    """Images that a filter took are left out; when it took them all, that is an error."""
    found = whole(_predicted, status, body).predictions
    images = [
        {"b64_json": each.bytesBase64Encoded, **({"revised_prompt": each.prompt} if each.prompt else {})}
        for each in found
        if each.bytesBase64Encoded
    ]
    if not images:
        raise _filtered(next((each.raiFilteredReason for each in found if each.raiFilteredReason), None))
    return images, None


def _drawn(status: int, body: bytes) -> tuple[list[dict[str, str]], Usage | None]:
    reply, made = gemini_made.read(status, body)
    if not made:
        said = "".join(choice.text for choice in reply.choices)
        if any(choice.reason == "content_filter" for choice in reply.choices):
            raise _filtered(said or reply.choices[0].native)
        raise invalid_answer(said.encode() or body, "it has no image")
    return [{"b64_json": each.data or ""} for each in made], reply.usage


def _filtered(why: str | None) -> Problem:
    say = f"the provider drew nothing for this prompt: {why or 'its filter took every image'}"
    return Problem("client", say, code="content_policy_violation", param="prompt")


def _time_s(header: Header) -> int | None:
    """When the answer was made, by the provider's clock; None where it does not say."""
    try:
        return int(parsedate_to_datetime((header(b"date") or b"").decode("latin-1")).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


ADAPTER: Adapter[Body] = Adapter(_endpoint, _write, _read)
