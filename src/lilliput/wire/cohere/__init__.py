"""Cohere's v2 chat, the provider's side of it, under the names of `port.Provider`.

`call` writes requests, `answer` reads answers.
"""

from __future__ import annotations

from lilliput.wire.cohere.answer import read_problem, reader
from lilliput.wire.cohere.call import DIALECT, SUPPORT, endpoint, write_body

__all__ = ["DIALECT", "SUPPORT", "endpoint", "read_problem", "reader", "write_body"]
