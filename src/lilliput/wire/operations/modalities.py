"""Every operation that is no chat by the name of its module, and what to say where a provider lacks one."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from lilliput.neutral import Problem, Target
from lilliput.wire.operations.modality import Operation

NAMES = (
    "embeddings",
    "rerank",
    "transcription",
    "translation",
    "speech",
    "images",
    "image_edits",
    "moderation",
)

_CHATLESS = ("deepgram", "jina", "voyage")
"""Dialects of providers that offer no chat."""


@cache
def operation(name: str) -> Operation[Any]:
    """The operation of a module in NAMES, loaded when it is first called."""
    found: Operation[Any] = import_module(f"lilliput.wire.operations.{name}").OPERATION
    return found


def lacking(name: str, target: Target) -> Problem:
    """What to raise where `target` speaks no dialect of the operation: says what its provider does instead."""
    offers = [each for each in NAMES if target.dialect in operation(each).adapters]
    if target.dialect not in _CHATLESS:
        offers.insert(0, "chat")
    say = f"{target.id} does no {name}; its provider's operations here: {', '.join(offers)}"
    return Problem("client", say, code="unsupported_operation", param="model")
