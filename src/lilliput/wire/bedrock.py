"""Amazon Bedrock's Converse and ConverseStream, the provider's side, under the names that every dialect has
(`wire.port`).

The parts: `bedrock_call` and `bedrock_media` write a request, `bedrock_reader` and `bedrock_answer` read an answer,
`bedrock_usage` its counts; `eventstream` takes the stream apart. Calls with an AWS key are signed by `sigv4`.
"""

from __future__ import annotations

from lilliput.wire.bedrock_answer import reader
from lilliput.wire.bedrock_call import SUPPORT, endpoint, write_body
from lilliput.wire.bedrock_usage import read_usage
from lilliput.wire.openai_problem import read_problem

__all__ = ["SUPPORT", "endpoint", "read_problem", "read_usage", "reader", "write_body"]
