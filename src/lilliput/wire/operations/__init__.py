"""All that is no chat: embeddings, rerank, speech and the like, in OpenAI's form, over providers of any form."""
