"""Amazon Bedrock's Converse and ConverseStream, the provider's side, under the names that every dialect has
(`wire.port`).

The parts: `call` and `media` write a request, `reader` and `answer` read an answer,
`usage` its counts; `eventstream` takes the stream apart. Calls with an AWS key are signed by `sigv4`.
"""

from __future__ import annotations

from lilliput.wire.bedrock.answer import reader
from lilliput.wire.bedrock.call import SUPPORT, endpoint, write_body
from lilliput.wire.bedrock.usage import read_usage
from lilliput.wire.openai.problem import read_problem

__all__ = ["SUPPORT", "endpoint", "read_problem", "read_usage", "reader", "write_body"]
