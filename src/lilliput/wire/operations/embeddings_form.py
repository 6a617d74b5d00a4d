"""OpenAI's form of an embeddings call: the request's shape, and an answer made of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from lilliput.neutral import Problem, Target, Usage
from lilliput.wire.broken import invalid_answer
from lilliput.wire.openai.types import ModelName, typed
from lilliput.wire.operations.modality import NULL, Answer, Header, float32, tokens, unable, whole

PATH = "/embeddings"
SENT = ("model", "input", "encoding_format", "dimensions", "input_type")
"""The fields that every adapter sees to."""

Vectors = list[list[float]]


class Body(Struct, frozen=True):
    """`input` is a text, texts, token numbers or lists of them. `input_type` says what the texts are for, in the words
    of any provider that asks (OpenAI does not)."""

    model: ModelName
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    user: str | None = None
    input_type: str | None = None

    @property
    def stream(self) -> bool:
        """Vectors come whole."""
        return False


class _Whole(Struct):
    data: list[Raw]
    usage: Raw = NULL


_body = msgspec.json.Decoder(Body).decode
_whole = msgspec.json.Decoder(_Whole).decode
_encode = msgspec.json.Encoder().encode

_TASKS: dict[str, tuple[str, str, str, str]] = {
    "query": ("search_query", "query", "retrieval.query", "RETRIEVAL_QUERY"),
    "document": ("search_document", "document", "retrieval.passage", "RETRIEVAL_DOCUMENT"),
}
"""The two purposes that all have a word for: Cohere's, Voyage's, Jina's, Gemini's."""

COHERE, VOYAGE, JINA, GEMINI = range(4)


def check(body: bytes, content_type: str = "") -> Body:
    """The request, typed; raises Problem (400) that names the field."""
    read = typed(_body, body)
    if not read.input:
        raise Problem("client", "'input' is empty; send a text or a list of texts", code="empty_input", param="input")
    return read


def texts(asked: Body, target: Target) -> list[str]:
    """What is to be embedded; raises Problem for token numbers, which mean something to OpenAI's models alone."""
    given = [asked.input] if isinstance(asked.input, str) else asked.input
    out = [text for text in given if isinstance(text, str)]
    if len(out) != len(given):
        raise unable(target, "token numbers as input", "input")
    return out


def purpose(asked: Body, words: int) -> str | None:
    """`input_type` in the words of COHERE, VOYAGE, JINA or GEMINI; as it came when it is one of them alone."""
    given = asked.input_type
    return next((task[words] for task in _TASKS.values() if given in task), given)


def count(asked: Body) -> int:
    """How many vectors are asked for."""
    given = asked.input
    return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)


def vectors(found: Sequence[list[float]], body: bytes, asked: Body, model: str, usage: Usage | None) -> Answer:
    """The answer that holds `found`, as numbers or base64 as asked; `body` is the provider's, to be shown in errors."""
    if len(found) != count(asked) or not all(found):
        raise invalid_answer(body, f"it has {len(found)} vectors for {count(asked)} inputs, or an empty one")
    made = [float32(v, body) for v in found] if asked.encoding_format == "base64" else found
    answer: dict[str, object] = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(made)],
        "model": model,
    }
    if usage is not None:
        answer["usage"] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    return Answer(_encode(answer), usage=usage)


def read_passing(status: int, body: bytes, header: Header, asked: Body, target: Target) -> Answer:
    """An answer that is in OpenAI's form already: it passes as it came."""
    return Answer(body, usage=tokens(whole(_whole, status, body).usage))
