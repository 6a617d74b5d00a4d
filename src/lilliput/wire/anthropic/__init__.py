"""Anthropic's Messages dialect, both sides of it, under the names that every dialect has (`wire.port`).

The parts: `types` and `request` read a client's request, `call` and `turns`
write one to a provider, `answer` reads a provider's answer, `reply` writes one to a client,
`passing` sees to answers that pass, `count` to the counting of tokens and the list of models.

Bedrock's InvokeModel carries the same JSON in another wrapping: `write_fields(r, target)` gives the body's fields as
raw JSON, without model, stream and version, and what was dropped; `reader(True).event(data)` takes the JSON of one
event and gives its events, and `.end()` closes the answer, which raises Problem unless message_stop has come.
"""

from __future__ import annotations

from lilliput.wire.anthropic.answer import Reader, reader
from lilliput.wire.anthropic.call import SUPPORT, endpoint, write_body, write_fields
from lilliput.wire.anthropic.count import (
    check_count,
    count_body,
    count_endpoint,
    read_count,
    write_count,
    write_models,
)
from lilliput.wire.anthropic.passing import Watch, rewrite, watch, whole
from lilliput.wire.anthropic.problem import read_problem, write_problem
from lilliput.wire.anthropic.reply import Writer, write_reply, writer
from lilliput.wire.anthropic.request import DIALECT, read_checked, read_request
from lilliput.wire.anthropic.types import Body, check
from lilliput.wire.anthropic.usage import read_usage, write_usage

__all__ = [
    "DIALECT",
    "SUPPORT",
    "Body",
    "Reader",
    "Watch",
    "Writer",
    "check",
    "check_count",
    "count_body",
    "count_endpoint",
    "endpoint",
    "read_checked",
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
    "write_fields",
    "write_models",
    "write_problem",
    "write_reply",
    "write_usage",
    "writer",
]
