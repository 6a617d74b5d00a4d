"""Whose reasoning a signature or a sealed block is: it means something to the family that made it, and to no other.

The words are those of OpenRouter's `reasoning_details[].format`, so that OpenAI clients can carry them. Where a
client's dialect has no slot for the word, it goes in front of the value (`tagged`), and comes back with it.
"""

from __future__ import annotations

ANTHROPIC = "anthropic-claude-v1"
GEMINI = "google-gemini-v1"
OPENAI = "openai-responses-v1"
BEDROCK = "amazon-bedrock-v1"
_ALL = (ANTHROPIC, GEMINI, OPENAI, BEDROCK)


def tagged(value: str, family: str | None, native: str) -> str:
    """`value` for a client whose dialect is `native`'s: with its family in front where that is another one."""
    return value if family in (None, native) else f"{family}:{value}"


def untagged(value: str, native: str) -> tuple[str, str]:
    """What `tagged` made, taken apart: the value and its family."""
    family, colon, rest = value.partition(":")
    return (rest, family) if colon and family in _ALL else (value, native)
