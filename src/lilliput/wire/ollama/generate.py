"""Ollama's single prompt (`/api/generate`), the provider's side of it, under the names of `port.Provider`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lilliput.neutral import Request, Sent, Target
from lilliput.wire.completions.call import LOST, note_tools, prompt, said
from lilliput.wire.ollama import call as ollama_call
from lilliput.wire.ollama.answer import read_problem, reader
from lilliput.wire.openai import address as openai_endpoint
from lilliput.wire.port import Headers

__all__ = ["DIALECT", "SUPPORT", "endpoint", "read_problem", "reader", "write_body"]

DIALECT = "ollama_generate"
_OWN = ollama_call.OWN | {"raw", "template", "suffix"}

SUPPORT: Mapping[str, str] = MappingProxyType(
    {**ollama_call.SUPPORT, **LOST, "messages.tool_result_media": "approximated: all images stand beside the prompt"}
)


def endpoint(target: Target, stream: bool) -> tuple[str, Headers]:
    return openai_endpoint.endpoint(target, "/api/generate")


def write_body(r: Request, target: Target) -> Sent:
    """The body that asks `target` what `r` asks; raises Problem (400) for media other than images as data."""
    dropped: dict[str, None] = {}
    note_tools(r, dropped)
    turns, images = said(r.messages, dropped, images=True)
    fields: dict[str, object] = {"prompt": prompt([turn for turn in turns if turn[0] != "system"])}
    system = "\n\n".join(text for role, text in turns if role == "system")
    if system:
        fields["system"] = system
    if images:
        fields["images"] = [m.data for m in images]
    if any(m.detail is not None for m in images):
        dropped["image.detail"] = None
    return ollama_call.body(r, target, fields, dropped, DIALECT, _OWN)
