"""The fields of a request by the names that callers know (OpenAI's chat dialect), as losses are told.

Each dialect's `SUPPORT` says what becomes of them on the way to its providers: a field that is missing there is
translated; the others are "approximated: how", "dropped: why" ("dropped: refused with 400" where nothing is sent), or
"dropped where ..." (for, except, beside ...) when that depends on the model or on what else is asked. `write_body`
names in `Sent.dropped` the fields of this request that it dropped or approximated; the tests hold the one to the
other, and `docs/providers.md` is made from it.
"""

from __future__ import annotations

FIELDS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "user",
    "tools",
    "tools.strict",
    "tools.custom",
    "tool_choice",
    "parallel_tool_calls",
    "response_format.json_object",
    "response_format.json_schema",
    "reasoning_effort",
    "reasoning_budget",
    "messages.name",
    "messages.thinking",
    "messages.thinking_signature",
    "messages.tool_result_error",
    "messages.tool_result_media",
    "messages.refusal",
    "messages.other",
    "image",
    "image_url",
    "image.detail",
    "audio",
    "audio_url",
    "video",
    "video_url",
    "file",
    "file_url",
    "file_id",
    "cache_control",
)
