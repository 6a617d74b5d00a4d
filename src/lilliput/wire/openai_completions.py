"""OpenAI's legacy completions: one prompt, one text; both sides of it, under the names that every dialect has."""

from __future__ import annotations

from lilliput.wire.openai_completions_answer import reader
from lilliput.wire.openai_completions_call import DIALECT, SUPPORT, endpoint, write_body
from lilliput.wire.openai_completions_client import Body, Writer, check, read_request, write_reply, writer
from lilliput.wire.openai_problem import read_problem, write_problem
from lilliput.wire.openai_watch import rewrite, watch, whole

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
