"""Where an OpenAI-form call goes and what it carries besides its body: URL and headers of one deployment."""

from __future__ import annotations

from urllib.parse import quote

from lilliput.neutral import Target

AZURE_VERSION = "api-version=2024-10-21"
"""The newest stable version of Azure's data plane (Azure OpenAI REST reference, checked 2026-11-22)."""


def chat(target: Target, stream: bool) -> tuple[str, tuple[tuple[str, str], ...]]:
    """`endpoint` of chat completions, streamed or not."""
    return endpoint(target, "/chat/completions")


def endpoint(target: Target, path: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The URL of `path` (as "/chat/completions") at the target, and the headers that every call there carries.

    Azure puts the model into the path as a deployment's name and wants a version in the query.
    """
    query = target.query
    if target.dialect == "azure":
        path = f"/openai/deployments/{quote(target.model, safe='')}{path}"
        query = query or AZURE_VERSION
    headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "identity"),
        ("user-agent", "lilliput"),
    ]
    if target.key:
        headers.append((target.key_header, f"{target.key_prefix}{target.key.reveal()}"))
    return f"{target.base}{path}" + (f"?{query}" if query else ""), (*headers, *target.headers.items())
