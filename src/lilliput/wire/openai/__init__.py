"""OpenAI's chat dialect, both sides of it, under the names that every dialect has (`docs/architecture.md`).

The parts: `types` and `request` read a client's request, `call` writes one to a provider,
`answer` reads a provider's answer, `reply` writes one to a client; problems, usage and media stand apart.
"""

from __future__ import annotations

from lilliput.wire.openai.address import chat as endpoint
from lilliput.wire.openai.answer import Reader, reader
from lilliput.wire.openai.call import LOSSES, SUPPORT, write_body
from lilliput.wire.openai.passing import rewrite, watch, whole
from lilliput.wire.openai.problem import read_problem, write_problem, write_stream_problem
from lilliput.wire.openai.reply import Writer, write_reply, writer
from lilliput.wire.openai.request import DIALECT, read_checked, read_request
from lilliput.wire.openai.types import Body, check
from lilliput.wire.openai.usage import doubts, read_usage, write_usage

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
