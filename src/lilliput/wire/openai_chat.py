"""OpenAI's chat dialect, both sides of it, under the names that every dialect has (`docs/architecture.md`).

The parts: `openai_types` and `openai_request` read a client's request, `openai_call` writes one to a provider,
`openai_answer` reads a provider's answer, `openai_reply` writes one to a client; problems, usage and media stand apart.
"""

from __future__ import annotations

from lilliput.wire.openai_answer import Reader, reader
from lilliput.wire.openai_call import LOSSES, SUPPORT, write_body
from lilliput.wire.openai_endpoint import chat as endpoint
from lilliput.wire.openai_problem import read_problem, write_problem, write_stream_problem
from lilliput.wire.openai_reply import Writer, write_reply, writer
from lilliput.wire.openai_request import DIALECT, read_checked, read_request
from lilliput.wire.openai_types import Body, check
from lilliput.wire.openai_usage import doubts, read_usage, write_usage
from lilliput.wire.openai_watch import rewrite, watch, whole

__all__ = [
    "DIALECT",
    "LOSSES",
    "SUPPORT",
    "Body",
    "Reader",
    "Writer",
    "check",
    "doubts",
    "endpoint",
    "read_checked",
    "read_problem",
    "read_request",
    "read_usage",
    "reader",
    "rewrite",
    "watch",
    "whole",
    "write_body",
    "write_problem",
    "write_reply",
    "write_stream_problem",
    "write_usage",
    "writer",
]
