"""Embeddings: the request in OpenAI's form, and who makes them.

Providers of that form pass here; the others are in `embeddings_near` (Mistral, Voyage, Jina, Ollama),
`embeddings_cohere`, `embeddings_google` and `embeddings_bedrock`.
"""

from __future__ import annotations

from lilliput.wire.operations import embeddings_bedrock, embeddings_cohere, embeddings_google, embeddings_near
from lilliput.wire.operations.embeddings_form import PATH, Body, check, read_passing
from lilliput.wire.operations.modality import Adapter, Operation, at, openai_form, rewrite

__all__ = ["ADAPTERS", "OPERATION", "Body", "check"]

ADAPTERS: dict[str, Adapter[Body]] = {
    **openai_form(Adapter(at(PATH), rewrite, read_passing)),
    "bedrock": embeddings_bedrock.ADAPTER,
    "bedrock_invoke": embeddings_bedrock.ADAPTER,
    "cohere": embeddings_cohere.ADAPTER,
    "cohere_v1": embeddings_cohere.ADAPTER,
    "gemini": embeddings_google.ADAPTER,
    "jina": embeddings_near.JINA,
    "mistral": embeddings_near.MISTRAL,
    "ollama": embeddings_near.OLLAMA,
    "ollama_generate": embeddings_near.OLLAMA,
    "voyage": embeddings_near.VOYAGE,
}
OPERATION: Operation[Body] = Operation("embeddings", PATH, check, ADAPTERS)
