"""OpenAI's legacy completions: one prompt, one text; both sides of it, under the names that every dialect has."""

from __future__ import annotations

from lilliput.wire.completions.answer import reader
from lilliput.wire.completions.call import DIALECT, SUPPORT, endpoint, write_body
from lilliput.wire.completions.client import Body, Writer, check, read_request, write_reply, writer
from lilliput.wire.openai.passing import rewrite, watch, whole
from lilliput.wire.openai.problem import read_problem, write_problem

__all__ = [
    "DIALECT",
    "SUPPORT",
    "Body",
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
