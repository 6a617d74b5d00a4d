"""What the recordings' parser does not read, or reads otherwise than the provider means it: every rule is listed.

`expect.py` stays the judge. A rule here adds a second right answer (`usages`) or mends a fact, for one dialect and one
form of answer; none of them looks at what the gateway said.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.conformance.kit import Facts, Interaction, Kit

RULES = {
    "titan-finish": "bedrock.invoke: Titan's FINISH is its ordinary end (stop); the parser has no word for it",
    "invoke-text": "bedrock.invoke: `choices[].text` (imported models), and Cohere's streams, whose generations are"
    " told apart by `index` and end in an event without text",
    "choices": "bedrock.invoke, openai.completions: the parser does not count choices, so they are not compared",
    "chat-completion": "openai.completions: an answer in chat's form (Portkey's prompts) is read as one",
    "invoke-limit": "bedrock.invoke: the token limit of prompt forms is not read, so it may seem to come or go",
    "untold-usage": "embeddings: headers (Bedrock) and statistics (Vertex) are not read, so usage may be told or not",
    "unread-counts": "cohere.v2 `tokens.reasoning_tokens` and openai.responses `cache_write_tokens` may be told or not",
    "parts-beside": "openai.chat: counts that cannot be parts of their whole may be told beside it, or in the"
    " total's gap (Vercel's and Gemini's reasoning, Voxtral's audio), or cut down to the whole: buckets are disjoint",
}
KNOWN = {
    "snowflake-0fd990ebb6": "an empty `custom` object beside the real call hides that call from the parser",
    "writer-e80211a05e": "an old kind of stream that tells neither finish nor end, so no one can know it is whole",
}
"""Interactions that cannot pass, by id with the reason: listed and counted as failed, but not held to the bar."""


def corrected(kit: Kit, interaction: Interaction) -> Facts:
    """What the provider said, by `expect.py` and RULES; `usages` holds every right count of tokens."""
    said: Facts = kit.expect.response_facts(interaction)
    if kit.is_strict:
        return said
    api, is_stream = interaction["api"], interaction["kind"] == "stream"
    if api in ("bedrock.invoke", "openai.completions"):
        del said["choices"]
    if api == "bedrock.invoke" and not said["error"]:
        _invoke(kit, said, kit.body(interaction), is_stream)
    if api == "openai.completions" and not is_stream and not said["error"]:
        first = (json.loads(kit.body(interaction)).get("choices") or [{}])[0]
        said["text"] = said["text"] or (first.get("message") or {}).get("content") or ""
    said["usages"] = _usages(api, said)
    return said


def _invoke(kit: Kit, said: Facts, raw: bytes, is_stream: bool) -> None:
    if said["native_finish"] == "FINISH":
        said["finish_reason"] = "stop"
    if not is_stream:
        choices = json.loads(raw).get("choices") or [{}]
        if "text" in choices[0]:
            said["text"] = choices[0]["text"]
        return
    told: list[Facts] = [json.loads(base64.b64decode(json.loads(p)["bytes"])) for _, p in kit.expect.eventstream(raw)]
    if not told or "is_finished" not in told[0]:
        return
    first = [t for t in told if not t.get("index")]
    said["text"] = "".join(t.get("text") or "" for t in first)
    word = next((t["finish_reason"] for t in first if t.get("finish_reason")), None)
    said["finish_reason"] = {"MAX_TOKENS": "length", "COMPLETE": "stop"}.get(word or "", word)


def _usages(api: str, said: Facts) -> list[Facts]:
    usage, raw = said["usage"], said["usage_raw"] or {}
    if not usage:
        return [usage]
    found = [usage]
    if api == "cohere.v2":
        found.append({**usage, "reasoning_tokens": (raw.get("tokens") or {}).get("reasoning_tokens") or 0})
    if api == "openai.responses":
        written = (raw.get("input_tokens_details") or {}).get("cache_write_tokens") or 0
        found.append({**usage, "cache_write_tokens": written})
    if api == "openai.chat":
        found.append(_beside(usage, raw))
    return [*found, *map(_disjoint, found)]


def _beside(usage: Facts, raw: Facts) -> Facts:
    prompt, answer, reasoning = usage["prompt_tokens"] or 0, usage["completion_tokens"] or 0, usage["reasoning_tokens"]
    gap = (raw.get("total_tokens") or 0) - prompt - answer
    if gap > 0 and gap == (raw.get("prompt_tokens_details") or {}).get("audio_tokens"):
        return {**usage, "prompt_tokens": prompt + gap}
    if gap > 0:
        return {**usage, "completion_tokens": answer + gap, "reasoning_tokens": reasoning + gap}
    if reasoning > answer + 1:
        return {**usage, "completion_tokens": answer + reasoning}
    return usage


def _disjoint(usage: Facts) -> Facts:
    prompt, answer = usage["prompt_tokens"] or 0, usage["completion_tokens"] or 0
    cached = min(usage["cached_tokens"], prompt)
    parts: dict[str, Any] = {
        "cached_tokens": cached,
        "cache_write_tokens": min(usage["cache_write_tokens"], prompt - cached),
        "reasoning_tokens": min(usage["reasoning_tokens"], answer),
    }
    return {**usage, **parts}
