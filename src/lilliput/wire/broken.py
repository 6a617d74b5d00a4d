"""What to say of an answer that cannot be read, and of any words of a provider: nothing secret, nothing odd."""

from __future__ import annotations

import re

from lilliput.neutral import Problem

SAY_LIMIT = 2000

_SECRET = re.compile(
    r"\b(?:sk-|csk-|xai-|pplx-|nvapi-|gsk_|lil_|hf_|r8_|fw_|tgp_)(?:[\w*\-]{12,}|(?=[\w*\-]*\d)[\w*\-]{4,})"
    r"|\bAIza[\w\-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\beyJ[\w\-]{8,}\.[\w\-]+(?:\.[\w\-]+)?"
)
_LABELLED = re.compile(
    r"(?i)\b(bearer\s+)(?!(?:tokens?|auth\w*|scheme|realm)\b)[^\s\"',;}]{4,}"
    r"|\b((?:x-)?(?:goog-)?api[-_ ]?key\s*[=:]\s*[\"']?)(?=[\w.\-]*\d)[\w.\-]{8,}"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def scrub(text: str) -> str:
    """`text` without anything that looks like a credential, without control characters, at most 2,000 long."""
    text = _CONTROL.sub("", text[: SAY_LIMIT * 4])
    text = _SECRET.sub("***", text)
    text = _LABELLED.sub(lambda m: f"{m.group(1) or m.group(2)}***", text)
    return text if len(text) <= SAY_LIMIT else text[: SAY_LIMIT - 1] + "…"


def invalid_answer(data: bytes, why: str = "it is not JSON") -> Problem:
    """A provider sent what we cannot read: shown by its first characters."""
    shown = scrub(data[:80].decode("utf-8", "replace"))
    return Problem("provider", f"the provider sent an invalid answer ({why}): {shown!r}", code="upstream_invalid")


def truncated_answer() -> Problem:
    say = "the provider's answer ended before it was whole; ask again, or stream to keep what came"
    return Problem("provider", say, code="upstream_truncated")
