"""Gemini's generateContent dialect (AI Studio and Vertex AI), both sides of it, under the names of `port`.

The parts: `types` and `request` read a client's request, `call` writes one to a provider,
`answer` reads a provider's answer, `reply` writes one to a client; addresses, thinking, schemas, problems
and usage stand apart.
"""

from __future__ import annotations

from lilliput.wire.gemini.address import (
    count_body,
    count_endpoint,
    endpoint,
    read_count,
    write_count,
    write_models,
)
from lilliput.wire.gemini.answer import Reader, reader
from lilliput.wire.gemini.call import SUPPORT, write_body
from lilliput.wire.gemini.passing import Watch, rewrite, watch, whole
from lilliput.wire.gemini.problem import read_problem, write_problem
from lilliput.wire.gemini.reply import Writer, write_reply, writer
from lilliput.wire.gemini.request import DIALECT, read_request
from lilliput.wire.gemini.types import Asked, check
from lilliput.wire.gemini.types import check as check_count
from lilliput.wire.gemini.usage import read_usage, write_usage

__all__ = [
    "DIALECT",
    "SUPPORT",
    "Asked",
    "Reader",
    "Watch",
    "Writer",
    "check",
    "check_count",
    "count_body",
    "count_endpoint",
    "endpoint",
    "read_count",
    "read_problem",
    "read_request",
    "read_usage",
    "reader",
    "rewrite",
    "watch",
    "whole",
    "write_body",
    "write_count",
    "write_models",
    "write_problem",
    "write_reply",
    "write_usage",
    "writer",
]
