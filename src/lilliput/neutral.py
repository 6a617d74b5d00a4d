"""What the parts of lilliput say to each other, whatever the wire format: requests, events, usage, problems.

Values only. No JSON, no HTTP and nothing of one provider belongs here: those live in `wire`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Raw, Struct, field, structs

Role = Literal["system", "user", "assistant", "tool"]
MediaKind = Literal["image", "audio", "video", "file"]
Finish = Literal["stop", "length", "tool_calls", "content_filter", "error"]
Cache = Literal["5m", "1h"]
ToolKind = Literal["function", "custom"]
Fault = Literal["client", "auth", "permission", "missing", "limit", "provider", "provider_auth", "timeout", "server"]

STATUS: dict[Fault, int] = {
    "client": 400,
    "auth": 401,
    "permission": 403,
    "missing": 404,
    "limit": 429,
    "provider": 502,
    "provider_auth": 502,
    "timeout": 504,
    "server": 503,
}


class Problem(Exception):
    """The one exception: what went wrong, whose fault it is, and what the caller can do about it.

    `fault` says whose it is and gives the default `status`. `code` is a stable machine word, `param` the offending
    field, `retry_after_s` how long to wait, `kind` the provider's own error type, kept for the caller.
    """

    def __init__(
        self,
        fault: Fault,
        say: str,
        status: int = 0,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        retry_after_s: float | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(say)
        self.fault: Fault = fault
        self.say = say
        self.status = status or STATUS[fault]
        self.code = code
        self.param = param
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.allow = allow


class Secret:
    """A credential that cannot be printed by accident: `str`, `repr` and `%s` show a mask, `reveal()` the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret('')"

    __str__ = __repr__


# -- a request ---------------------------------------------------------------------------------------------------


class Text(Struct, frozen=True, tag=True):
    """`cache` asks the provider to keep the prompt up to here, for five minutes or an hour; so on every part."""

    text: str
    cache: Cache | None = None


class Media(Struct, frozen=True, tag=True):
    """Something that is not text: exactly one of `data` (standard base64), `url` and `file_id` is set."""

    kind: MediaKind
    mime: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    detail: str | None = None
    cache: Cache | None = None


class Thinking(Struct, frozen=True, tag=True):
    """Reasoning shown or sealed by a model. `signature` and `sealed` mean something to `family` alone (see
    `wire.families`); one without text signs the part before it."""

    text: str = ""
    signature: str | None = None
    sealed: str | None = None
    family: str | None = None


class Refusal(Struct, frozen=True, tag=True):
    text: str


class ToolCall(Struct, frozen=True, tag=True):
    """`arguments` is JSON text as the model wrote it, so it may be invalid; "" means {}. A custom tool's is free text.

    `signature` is Gemini's: the thought behind this call, to be given back with it.
    """

    id: str
    name: str
    arguments: str = ""
    kind: ToolKind = "function"
    signature: str | None = None
    cache: Cache | None = None


class ToolResult(Struct, frozen=True, tag=True):
    call_id: str
    parts: tuple[Text | Media, ...] = ()
    name: str | None = None
    is_error: bool = False
    cache: Cache | None = None


class Opaque(Struct, frozen=True, tag=True):
    """A part of `dialect` that has no neutral form: written back to the same dialect as it came, lost to any other."""

    dialect: str
    raw: Raw


Part = Text | Media | Thinking | Refusal | ToolCall | ToolResult | Opaque


class Message(Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None


class Tool(Struct, frozen=True):
    """`schema` is the JSON Schema of the arguments as raw JSON, None when the tool takes none.

    A custom tool takes free text instead; `grammar` is OpenAI's `format` object for it, as raw JSON.
    """

    name: str
    description: str | None = None
    schema: Raw | None = None
    strict: bool | None = None
    cache: Cache | None = None
    kind: ToolKind = "function"
    grammar: Raw | None = None


class ToolChoice(Struct, frozen=True):
    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


class Format(Struct, frozen=True):
    """The shape asked of the answer; `schema` is raw JSON Schema, None for free JSON."""

    kind: Literal["text", "json", "schema"] = "text"
    schema: Raw | None = None
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(Struct, frozen=True):
    """How hard to think: a word, or a budget in tokens."""

    effort: str | None = None
    budget_tokens: int | None = None


class Request(Struct, frozen=True, kw_only=True):
    """One chat call. `extra` holds the caller's fields that have no neutral name, under their name in `dialect`; a
    name that begins with "$" is the dialect's own note to itself."""

    model: str
    messages: tuple[Message, ...]
    dialect: str = "openai_chat"
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    format: Format | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    stream: bool = False
    include_usage: bool = False
    extra: dict[str, Raw] = field(default_factory=dict)


# -- where it goes -----------------------------------------------------------------------------------------------


class Aws(Struct, frozen=True):
    """An AWS access key and the region it signs for (Signature Version 4)."""

    access_key: str
    secret: Secret
    region: str
    session: Secret | None = None


class Target(Struct, frozen=True, kw_only=True):
    """A deployment: a provider's endpoint for one model, with all that is needed to call it.

    `base` ends where the dialect's own path begins. `key_header` and `key_prefix` say how `key` travels, unless `aws`
    signs each call. `also` names further dialects that the same endpoint speaks.
    """

    provider: str
    model: str
    dialect: str = "openai_chat"
    base: str = ""
    key: Secret | None = None
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    clamp: dict[str, tuple[float, float]] = field(default_factory=dict)
    force: dict[str, Any] = field(default_factory=dict)
    allow_private: bool = False
    also: tuple[str, ...] = ()
    aws: Aws | None = None
    id: str = ""
    """`provider/model`, always: derived here once, since every request reads it."""

    def __post_init__(self) -> None:
        structs.force_setattr(self, "id", f"{self.provider}/{self.model}")


class Sent(Struct, frozen=True):
    """A request's body as a provider of another dialect gets it, and what of the request it has no place for.

    `dropped` holds names from `wire.fields`, and names of the caller's own fields that have no neutral one.
    """

    body: bytes
    dropped: tuple[str, ...] = ()


# -- an answer ---------------------------------------------------------------------------------------------------


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens in disjoint buckets; totals are derived. `given` is the provider's own object, kept beside ours.

    `doubts` names the figures in it that cannot be true as they stand.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_in: int = 0
    image_in: int = 0
    output: int = 0
    reasoning: int = 0
    audio_out: int = 0
    image_out: int = 0
    given: Raw | None = None
    doubts: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.audio_in + self.image_in

    @property
    def completion_tokens(self) -> int:
        return self.output + self.reasoning + self.audio_out + self.image_out

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Began(Struct, frozen=True):
    """The provider accepted: its id, the model that really answers, its clock (Unix seconds)."""

    id: str | None = None
    model: str | None = None
    created: int | None = None


class Said(Struct, frozen=True):
    text: str
    choice: int = 0


class Thought(Struct, frozen=True):
    text: str = ""
    choice: int = 0
    signature: str | None = None
    sealed: str | None = None
    family: str | None = None


class Refused(Struct, frozen=True):
    text: str
    choice: int = 0


class Called(Struct, frozen=True):
    """A tool call opens; its arguments follow as `Argued` with the same `index`."""

    index: int
    id: str
    name: str
    choice: int = 0
    kind: ToolKind = "function"
    signature: str | None = None


class Argued(Struct, frozen=True):
    index: int
    text: str
    choice: int = 0


class Shown(Struct, frozen=True):
    """Media that the model made."""

    media: Media
    choice: int = 0
    transcript: str | None = None


class Scored(Struct, frozen=True):
    """Log-probabilities of the tokens just said, as a raw JSON array in OpenAI's form."""

    content: Raw
    choice: int = 0


class Ended(Struct, frozen=True):
    """One choice is over. `reason` is None where its `native` word has no neutral meaning: never "stop"."""

    reason: Finish | None
    native: str | None = None
    choice: int = 0


class Counted(Struct, frozen=True):
    usage: Usage


Event = Began | Said | Thought | Refused | Called | Argued | Shown | Scored | Ended | Counted


class Choice(Struct):
    """One answer, whole."""

    index: int = 0
    text: str = ""
    thinking: tuple[Thinking, ...] = ()
    refusal: str = ""
    calls: tuple[ToolCall, ...] = ()
    media: tuple[Shown, ...] = ()
    logprobs: tuple[Raw, ...] = ()
    reason: Finish | None = None
    native: str | None = None


class Reply(Struct):
    """A whole answer: what `fold` makes of its events."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None


def fold(events: Iterable[Event]) -> Reply:
    """The whole answer that a stream of events tells; later `Counted` events replace earlier ones."""
    reply = Reply()
    choices: dict[int, Choice] = {}
    calls: dict[tuple[int, int], ToolCall] = {}
    for e in events:
        if isinstance(e, Began):
            reply.id, reply.model, reply.created = e.id or reply.id, e.model or reply.model, e.created or reply.created
            continue
        if isinstance(e, Counted):
            reply.usage = e.usage
            continue
        c = choices.get(e.choice)
        if c is None:
            c = choices[e.choice] = Choice(index=e.choice)
        if isinstance(e, Said):
            c.text += e.text
        elif isinstance(e, Ended):
            c.reason, c.native = e.reason, e.native
        elif isinstance(e, Thought):
            c.thinking = _think(c.thinking, e)
        elif isinstance(e, Refused):
            c.refusal += e.text
        elif isinstance(e, Called):
            calls[e.choice, e.index] = ToolCall(e.id, e.name, "", e.kind, e.signature)
        elif isinstance(e, Argued):
            call = calls[e.choice, e.index]
            calls[e.choice, e.index] = structs.replace(call, arguments=call.arguments + e.text)
        elif isinstance(e, Shown):
            c.media += (e,)
        else:
            c.logprobs += (e.content,)
    for (choice, _), call in calls.items():
        choices[choice].calls += (call,)
    reply.choices = [choices[i] for i in sorted(choices)] if len(choices) > 1 else list(choices.values())
    return reply


def _think(so_far: tuple[Thinking, ...], e: Thought) -> tuple[Thinking, ...]:
    """Text joins the open block; a signature closes it; a sealed block stands alone."""
    last = so_far[-1] if so_far else None
    if e.sealed is None and last is not None and last.signature is None and last.sealed is None:
        return (*so_far[:-1], Thinking(last.text + e.text, e.signature, None, e.family or last.family))
    return (*so_far, Thinking(e.text, e.signature, e.sealed, e.family))


# -- who asks ----------------------------------------------------------------------------------------------------


class Key(Struct, frozen=True, kw_only=True):
    """An API key as the gateway knows it: never the secret itself. `models` empty means all; `team`
    is the account that pays with it; times are Unix seconds."""

    id: str
    name: str = ""
    team: str = ""
    models: tuple[str, ...] = ()
    expires_at: float | None = None
    created_at: float = 0.0
    revoked_at: float | None = None
    local: bool = False
