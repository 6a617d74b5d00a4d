"""How hard a Gemini model is asked to think: a level since the third generation, a budget of tokens before.

Budgets follow Google's own reading of `reasoning_effort` (1K, 8K and 24K tokens: ai.google.dev/gemini-api/docs/openai),
ranges and levels .../docs/thinking. A budget is still taken since the third generation, but not beside a level.
"""

from __future__ import annotations

import re

from lilliput.neutral import Reasoning

_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_LEVELS = {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium"}
"""Words beyond these are "high"."""
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_THOUGHTLESS = re.compile(r"gemini-(?:1|2\.0|2\.5-flash-image)|gemma|-tts|embedding")


def generation(model: str) -> tuple[int, int] | None:
    """The generation in a model's name, None where it says none, as `gemini-flash-latest`."""
    found = _GENERATION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else None


def thinks(model: str) -> bool:
    """False for models that refuse `thinkingConfig` altogether."""
    return _THOUGHTLESS.search(model) is None


def thinking_config(r: Reasoning, model: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """The `thinkingConfig` that asks `model` for `r`, and which of `fields` it only comes near to."""
    if not thinks(model):
        asked = r.effort not in (None, "none") or r.budget_tokens
        return {}, ("reasoning_effort" if r.effort else "reasoning_budget",) if asked else ()
    if r.budget_tokens is not None and r.effort is None:
        least, most = _range(model)
        budget = min(max(r.budget_tokens, least), most)
        near = ("reasoning_budget",) if budget != r.budget_tokens else ()
        return {"thinkingBudget": budget, "includeThoughts": budget > 0}, near
    effort = r.effort or "none"
    near = ("reasoning_effort",)
    if (generation(model) or (0, 0)) >= (3, 0):
        level = _LEVELS.get(effort, "high")
        if "pro" in model:  # no pro model knows minimal, the first none but low and high
            level = {"minimal": "low", "medium": "high" if generation(model) == (3, 0) else "medium"}.get(level, level)
        config: dict[str, object] = {"thinkingLevel": level, "includeThoughts": effort != "none"}
        return config, () if level == effort else near
    if effort == "none":
        budget = _range(model)[0] if "pro" in model else 0
        return {"thinkingBudget": budget, "includeThoughts": False}, near if budget else ()
    return {"thinkingBudget": _BUDGETS.get(effort, _BUDGETS["high"]), "includeThoughts": True}, near


def _range(model: str) -> tuple[int, int]:
    """The budgets that a model takes, beside 0 where thinking can be switched off."""
    if "lite" in model:
        return 512, 24_576
    return (128, 32_768) if "pro" in model else (1, 24_576)
