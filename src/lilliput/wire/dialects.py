"""Every dialect by name: a new one is its module and a line here.

Modules are loaded when they are first asked for, since few gateways speak them all.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import cast

from lilliput.neutral import Target
from lilliput.wire.port import Client, Provider

PROVIDERS = MappingProxyType(
    {
        "openai_chat": "openai",
        "azure": "openai",
        "mistral": "openai",
        "openai_responses": "responses",
        "openai_completions": "completions",
        "anthropic": "anthropic",
        "anthropic_vertex": "anthropic",
        "gemini": "gemini",
        "bedrock": "bedrock",
        "bedrock_invoke": "bedrock.invoke",
        "cohere": "cohere",
        "cohere_v1": "cohere.v1",
        "ollama": "ollama",
        "ollama_generate": "ollama.generate",
    }
)
"""What a target may speak -> the module that asks and reads it."""

SAME = MappingProxyType(
    {
        "openai_chat": frozenset({"openai_chat", "azure", "mistral"}),
        "openai_completions": frozenset({"openai_completions"}),
        "openai_responses": frozenset({"openai_responses"}),
        "anthropic": frozenset({"anthropic", "anthropic_vertex"}),
        "gemini": frozenset({"gemini"}),
    }
)
"""A client's dialect -> the targets' that its bytes pass to untouched."""


def provider(dialect: str) -> Provider:
    """The module that speaks to targets of `dialect`; raises KeyError for one that is not in PROVIDERS."""
    return _provider(PROVIDERS[dialect])


@cache
def _provider(module: str) -> Provider:
    return cast(Provider, import_module(f"lilliput.wire.{module}"))


@cache
def client(dialect: str) -> Client:
    """The module that answers clients of `dialect`, a key of SAME."""
    return cast(Client, import_module(f"lilliput.wire.{PROVIDERS[dialect]}"))


def passes(dialect: str, target: Target) -> str | None:
    """The dialect in which a body of a client's `dialect` passes to `target` as it is; None when it must be
    translated."""
    same = SAME[dialect]
    if target.dialect in same:
        return target.dialect
    return next((also for also in target.also if also in same), None)
