"""The older text models of InvokeModel: one prompt in, one text out, each maker with names of its own.

Meta's Llama, Amazon's Titan, Mistral's 7B, Cohere's Command, AI21's Jurassic, DeepSeek's R1, Anthropic's text
completions and SageMaker's text completions. Models that chat in another dialect's form are `invoke`'s affair.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from lilliput.neutral import (
    Began,
    Counted,
    Ended,
    Event,
    Finish,
    Message,
    Opaque,
    Problem,
    Refusal,
    Request,
    Said,
    Text,
    Thinking,
    Usage,
)
from lilliput.wire.bedrock.reader import parsed
from lilliput.wire.broken import invalid_answer, truncated_answer
from lilliput.wire.openai.problem import read_problem
from lilliput.wire.openai.usage import figure
from lilliput.wire.openai.usage import read_usage as read_openai_usage

FINISH: dict[str, Finish] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "COMPLETE": "stop",  # Cohere
    "MAX_TOKENS": "length",
    "ERROR": "error",
    "ERROR_TOXIC": "content_filter",
    "FINISH": "stop",  # Titan
    "FINISHED": "stop",
    "STOP_CRITERIA_MET": "stop",
    "LENGTH": "length",
    "CONTENT_FILTERED": "content_filter",
    "endoftext": "stop",  # AI21
}
_MOST_CHOICES = 128
_NONE = Raw()


class Names(Struct, frozen=True):
    """What a family calls a prompt and its parameters; "" where it has none. `nest` holds the parameters, if named."""

    prompt: str = "prompt"
    max_tokens: str = "max_tokens"
    temperature: str = "temperature"
    top_p: str = "top_p"
    top_k: str = ""
    stop: str = ""
    nest: str = ""
    stream: str = ""


_MISTRAL = Names(top_k="top_k", stop="stop")
_COMMAND = Names(top_p="p", top_k="k", stop="stop_sequences", stream="stream")
_TITAN = Names("inputText", "maxTokenCount", top_p="topP", stop="stopSequences", nest="textGenerationConfig")
_FAMILIES = (
    ("amazon.titan-", _TITAN),
    ("meta.llama", Names(max_tokens="max_gen_len")),
    ("mistral.mistral-7b", _MISTRAL),
    ("mistral.mixtral-8x7b", _MISTRAL),
    ("cohere.command-text", _COMMAND),
    ("cohere.command-light", _COMMAND),
    ("cohere.command-r", Names("message", top_p="p", top_k="k", stop="stop_sequences")),
    ("ai21.j2-", Names(max_tokens="maxTokens", top_p="topP", stop="stopSequences")),
    ("deepseek.r1", Names(stop="stop")),
)


def names(model: str) -> Names | None:
    """The names for a model that takes a prompt alone, None for one that chats."""
    return next((names for mark, names in _FAMILIES if mark in model), None)


def write_fields(r: Request, n: Names, dropped: dict[str, None]) -> dict[str, object]:
    """The body that asks `r`; raises Problem (400) for tools and media, which no prompt can hold."""
    asked: dict[str, object] = {}
    for name, value in (
        ("max_tokens", r.max_tokens),
        ("temperature", r.temperature),
        ("top_p", r.top_p),
        ("top_k", r.top_k),
        ("stop", list(r.stop) or None),
    ):
        own: str = getattr(n, name)
        if own and value is not None:
            asked[own] = value
        elif value is not None:
            dropped[name] = None
    if r.format is not None and r.format.kind != "text":
        dropped[f"response_format.json_{'object' if r.format.kind == 'json' else 'schema'}"] = None
    if r.reasoning is not None:
        dropped["reasoning_effort" if r.reasoning.effort is not None else "reasoning_budget"] = None
    if n.stream and r.stream:
        asked[n.stream] = True
    return {n.prompt: _prompt(r, dropped), **({n.nest: asked} if n.nest else asked)}


def _prompt(r: Request, dropped: dict[str, None]) -> str:
    """The text of a lone message; a conversation as a dialogue that the model goes on with."""
    if r.tools:
        raise _too_much("tools")
    turns = [(m.role, text) for m in r.messages if (text := _text(m, dropped))]
    if len(turns) < 2:
        return "".join(text for _, text in turns)
    speakers = {"user": "User: ", "assistant": "Assistant: "}
    return "\n\n".join([*(speakers.get(role, "") + text for role, text in turns), "Assistant:"])


def _text(m: Message, dropped: dict[str, None]) -> str:
    texts = []
    if m.name is not None:
        dropped["messages.name"] = None
    for p in m.parts:
        if isinstance(p, Text | Refusal):
            texts.append(p.text)
        elif isinstance(p, Thinking | Opaque):
            dropped["messages.thinking" if isinstance(p, Thinking) else "messages.other"] = None
        else:
            raise _too_much("media and tool calls")
        if isinstance(p, Text) and p.cache is not None:
            dropped["cache_control"] = None
    return "\n".join(text for text in texts if text)


def _too_much(what: str) -> Problem:
    say = f"this model takes a prompt of text alone over InvokeModel, no {what}; ask it over Converse (bedrock)"
    return Problem("client", say, code="unsupported_value")


# -- answers -----------------------------------------------------------------------------------------------------


class _Reason(Struct, gc=False):
    reason: str | None = None


class _Choice(Struct, gc=False):
    text: str | None = None
    outputText: str | None = None
    data: _Text | None = None
    finish_reason: str | None = None
    stop_reason: str | None = None
    completionReason: str | None = None
    finishReason: _Reason | None = None
    tokenCount: float | None = None


class _Text(Struct, gc=False):
    text: str | None = None


class Metrics(Struct, gc=False):
    inputTokenCount: float | None = None
    outputTokenCount: float | None = None


class _Chunk(Struct, gc=False):
    """A whole answer or a piece of one, of any family."""

    id: str | int | None = None
    index: float | None = None
    results: list[_Choice] | None = None
    outputs: list[_Choice] | None = None
    generations: list[_Choice] | None = None
    completions: list[_Choice] | None = None
    choices: list[_Choice] | None = None
    generation: str | None = None
    outputText: str | None = None
    completion: str | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: str | None = None
    completionReason: str | None = None
    inputTextTokenCount: float | None = None
    totalOutputTextTokenCount: float | None = None
    prompt_token_count: float | None = None
    generation_token_count: float | None = None
    usage: Raw = _NONE
    message: str | None = None
    metrics: Metrics | None = field(default=None, name="amazon-bedrock-invocationMetrics")


_chunk = msgspec.json.Decoder(_Chunk).decode


class Turn:
    """What such a model's answer has said so far (see `reader.Turn`): its last piece brings AWS's metrics."""

    def __init__(self) -> None:
        self.done = False
        self._reasons: dict[int, str | None] = {}
        self._counts: list[float | None] = [None, None]
        self._began = False

    def event(self, kind: str, data: bytes, out: list[Event]) -> None:
        self._read(parsed(_chunk, data), out)

    def whole(self, data: bytes, out: list[Event]) -> None:
        c = parsed(_chunk, data)
        self._read(c, out)
        if not self._reasons and c.message:
            raise read_problem(200, data)
        if not self.done:
            self._finish(c, out)

    def end(self, out: list[Event]) -> None:
        raise truncated_answer()

    def _read(self, c: _Chunk, out: list[Event]) -> None:
        if not self._began:
            self._began = True
            out.append(Began(str(c.id) if c.id else None))
        lists = c.results or c.outputs or c.generations or c.completions or c.choices
        if lists is not None:
            for i, choice in enumerate(lists):
                self._say(choice, i, out)
        elif any(text is not None for text in (c.generation, c.outputText, c.completion, c.text, c.finish_reason)):
            text = c.generation or c.outputText or c.completion or c.text
            reason = c.finish_reason or c.stop_reason or c.completionReason
            index = int(c.index or 0)
            if c.index is None and text is None and reason:
                for other in self._reasons:  # Cohere's last piece is about all of several answers (bedrock-affaeb56d1)
                    self._reasons[other] = self._reasons[other] or reason
            self._say(_Choice(text, finish_reason=reason), index, out)
        made = c.generation_token_count or c.totalOutputTextTokenCount
        if c.results:
            made = sum(choice.tokenCount or 0 for choice in c.results)
        for i, n in enumerate((c.prompt_token_count or c.inputTextTokenCount, made)):
            self._counts[i] = self._counts[i] if n is None else n
        if c.metrics is not None:
            self._counts = [c.metrics.inputTokenCount, c.metrics.outputTokenCount]
            self._finish(c, out)

    def _say(self, c: _Choice, index: int, out: list[Event]) -> None:
        if not 0 <= index < _MOST_CHOICES:
            raise invalid_answer(b"", f"it has a choice number {index}")
        text = c.text or c.outputText or (c.data.text if c.data is not None else None)
        reason = c.finish_reason or c.stop_reason or c.completionReason or (c.finishReason and c.finishReason.reason)
        if text:
            out.append(Said(text, index))
        self._reasons[index] = reason or self._reasons.get(index)

    def _finish(self, c: _Chunk, out: list[Event]) -> None:
        if not self._reasons:
            raise invalid_answer(b"", "it has no text")
        usage = read_openai_usage(c.usage) if c.usage is not _NONE else counted(*self._counts)
        if usage is not None:
            out.append(Counted(usage))
        for index, reason in self._reasons.items():
            out.append(Ended(FINISH.get(reason or ""), reason, index))
        self.done = True


def counted(prompt: float | None, answer: float | None) -> Usage | None:
    """Usage of two figures that the answer gives in places of its own, None without any."""
    if prompt is None and answer is None:
        return None
    given = {"inputTokenCount": prompt, "outputTokenCount": answer}
    odd = tuple(name for name, n in given.items() if n is not None and figure(n) is None)
    return Usage(
        input=figure(prompt) or 0, output=figure(answer) or 0, given=Raw(msgspec.json.encode(given)), doubts=odd
    )
