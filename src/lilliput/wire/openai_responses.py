"""OpenAI's Responses dialect, both sides of it, under the names that every dialect has (`wire.port`).

The parts: `responses_types` and `responses_request` read a client's request, `responses_call` writes one to a
provider, `responses_answer` reads a provider's answer, `responses_writer` writes one to a client,
`responses_watch` sees to what only passes, `responses_state` keeps a thread of answers together.
"""

from __future__ import annotations

from lilliput.wire.openai_problem import read_problem, write_problem
from lilliput.wire.responses_answer import Reader, reader
from lilliput.wire.responses_call import DIALECT, SUPPORT, endpoint, write_body
from lilliput.wire.responses_request import read_request
from lilliput.wire.responses_types import Body, check
from lilliput.wire.responses_watch import Watch, rewrite, watch, whole
from lilliput.wire.responses_writer import Writer, write_reply, writer

__all__ = [
    "DIALECT",
    "SUPPORT",
    "Body",
    "Reader",
    "Watch",
    "Writer",
    "check",
    "endpoint",
    "read_problem",
    "read_request",
    "reader",
    "rewrite",
    "watch",
    "whole",
    "write_body",
    "write_problem",
    "write_reply",
    "writer",
]
