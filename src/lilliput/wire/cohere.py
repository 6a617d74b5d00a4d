"""Cohere's v2 chat, the provider's side of it, under the names of `port.Provider`.

`cohere_call` writes requests, `cohere_answer` reads answers.
"""

from __future__ import annotations

from lilliput.wire.cohere_answer import read_problem, reader
from lilliput.wire.cohere_call import DIALECT, SUPPORT, endpoint, write_body

__all__ = ["DIALECT", "SUPPORT", "endpoint", "read_problem", "reader", "write_body"]
