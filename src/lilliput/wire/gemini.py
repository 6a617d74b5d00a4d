"""Gemini's generateContent dialect (AI Studio and Vertex AI), both sides of it, under the names of `port`.

The parts: `gemini_types` and `gemini_request` read a client's request, `gemini_call` writes one to a provider,
`gemini_answer` reads a provider's answer, `gemini_reply` writes one to a client; addresses, thinking, schemas, problems
and usage stand apart.
"""

from __future__ import annotations

from lilliput.wire.gemini_answer import Reader, reader
from lilliput.wire.gemini_call import SUPPORT, write_body
from lilliput.wire.gemini_endpoint import (
    count_body,
    count_endpoint,
    endpoint,
    read_count,
    write_count,
    write_models,
)
from lilliput.wire.gemini_problem import read_problem, write_problem
from lilliput.wire.gemini_reply import Writer, write_reply, writer
from lilliput.wire.gemini_request import DIALECT, read_request
from lilliput.wire.gemini_types import Asked, check
from lilliput.wire.gemini_types import check as check_count
from lilliput.wire.gemini_usage import read_usage, write_usage
from lilliput.wire.gemini_watch import Watch, rewrite, watch, whole

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
