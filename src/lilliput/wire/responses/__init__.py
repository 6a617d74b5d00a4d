"""OpenAI's Responses dialect, both sides of it, under the names that every dialect has (`wire.port`).

The parts: `types` and `request` read a client's request, `call` writes one to a
provider, `answer` reads a provider's answer, `reply` writes one to a client,
`passing` sees to what only passes, `state` keeps a thread of answers together.
"""

from __future__ import annotations

from lilliput.wire.openai.problem import read_problem, write_problem
from lilliput.wire.responses.answer import Reader, reader
from lilliput.wire.responses.call import DIALECT, SUPPORT, endpoint, write_body
from lilliput.wire.responses.passing import Watch, rewrite, watch, whole
from lilliput.wire.responses.reply import Writer, write_reply, writer
from lilliput.wire.responses.request import read_request
from lilliput.wire.responses.types import Body, check

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
