"""The shape of a catalogue fact: a provider, a model, a price, and what a user's file may change about them.

Shapes only: reading files belongs to `load`, answering questions to `find`, arithmetic to `price`.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

LOCAL = "lilliput"
"""The embedded engine's provider: always ready, its base known only once the engine runs."""
Dialect = Literal[
    "openai_chat",
    "azure",
    "mistral",
    "openai_responses",
    "openai_completions",
    "anthropic",
    "anthropic_vertex",
    "gemini",
    "bedrock",
    "bedrock_invoke",
    "cohere",
    "cohere_v1",
    "ollama",
    "ollama_generate",
    "voyage",
    "jina",
    "deepgram",
]
Modality = Literal["text", "image", "audio", "video", "file", "embedding"]
Nusd = Annotated[int, Meta(ge=0)]
Tokens = Annotated[int, Meta(ge=0)]
Minute = Annotated[int, Meta(ge=0, le=1440)]
Dollars = Annotated[float, Meta(ge=0, le=1e6)]
"""Dollars as a person writes them in TOML; the shortest decimal that reads back as the number is the one meant."""


class Provider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One endpoint that serves models: a row of `providers.toml`, or a user's own.

    `base` ends where the dialect's own path begins; `${NAME}` in it and in a header's value stands for an environment
    variable. `key_env` names the variable that holds the key, `more_key_envs` those of further keys. `keyless` rows
    answer without one, and are offered once the user names them in the configuration. `also` names further dialects
    of the same base. `docs` is the page the row was checked against on `checked`.
    """

    title: str
    dialect: Dialect = "openai_chat"
    also: tuple[Dialect, ...] = ()
    base: str = ""
    key_env: str = ""
    more_key_envs: tuple[str, ...] = ()
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    clamp: dict[str, tuple[float, float]] = field(default_factory=dict)
    force: dict[str, Any] = field(default_factory=dict)
    allow_private: bool = False
    keyless: bool = False
    docs: str = ""
    checked: datetime.date | None = None


class ProviderPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `[providers.NAME]` may say: laid over our row of that name, or a new row, which then needs a `base`.

    Tables (`headers`, `rename`, `clamp`, `force`) are joined key by key; every other field replaces ours.
    """

    dialect: Dialect | None = None
    """Wire format that the endpoint speaks."""
    also: tuple[Dialect, ...] | None = None
    """Further wire formats that it speaks at the same base, such as openai_responses."""
    base: str | None = None
    """URL up to the dialect's own path; `${NAME}` stands for an environment variable."""
    key_env: str | Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)] | None = None
    """Environment variable that holds the key; several in a list are used in turn; "" says that none is needed."""
    key_header: str | None = None
    """Header that carries the key."""
    key_prefix: str | None = None
    """What stands before the key in that header."""
    query: str | None = None
    """Query string added to every call, without the question mark."""
    title: str | None = None
    """Name shown in listings."""
    allow_private: bool | None = None
    """Whether the endpoint may have a loopback or private address."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers added to every call; `${NAME}` stands for an environment variable."""
    rename: dict[str, str] = field(default_factory=dict)
    """Top-level body fields sent under another name."""
    drop: tuple[str, ...] | None = None
    """Top-level body fields that the endpoint does not take."""
    clamp: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest value of a numeric body field."""
    force: dict[str, Any] = field(default_factory=dict)
    """Body fields that are always sent with this value."""


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What tokens cost, in integer nano-dollars per million tokens; `per_request` in nano-dollars a call.

    None means "as its parent": a cache read or write, audio or image in as `input`, a one-hour cache write as
    `cache_write`, reasoning, audio or image out as `output`. The last tier whose `above_tokens` the whole prompt
    exceeds replaces the price altogether; so do the hours (UTC) that a call falls in.
    """

    input: Nusd
    output: Nusd
    cache_read: Nusd | None = None
    cache_write: Nusd | None = None
    cache_write_1h: Nusd | None = None
    input_audio: Nusd | None = None
    input_image: Nusd | None = None
    output_audio: Nusd | None = None
    output_image: Nusd | None = None
    reasoning: Nusd | None = None
    per_request: Nusd = 0
    tiers: tuple[Tier, ...] = ()
    hours: tuple[Hours, ...] = ()


class Tier(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The price of a call whose prompt is longer than `above_tokens`."""

    above_tokens: Tokens
    price: Price


class Hours(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The price between two minutes of the UTC day, the second not included; `start` after `end` runs over midnight."""

    start_minute: Minute
    end_minute: Minute
    price: Price


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model at one provider, called `id` = `provider/name`.

    Unknown facts are absent, not guessed: 0 tokens, no modalities, no price, no date, None for what it can do
    (`tools` to call, `schema` for answers held to a JSON schema, `reasoning`). `sent` is the name the provider
    wants when it is not the name in `id`. `names` are further names that mean this model, `*`, `?` and `[...]` as in
    a shell; a row that is not `listed` stands for such names alone. `source` says where price and context come from,
    as of `checked`; `facts` where the rest does.
    """

    id: str
    maker: str = ""
    title: str = ""
    context_tokens: Tokens = 0
    max_output_tokens: Tokens = 0
    input: tuple[Modality, ...] = ()
    output: tuple[Modality, ...] = ()
    tools: bool | None = None
    schema: bool | None = None
    reasoning: bool | None = None
    price: Price | None = None
    deprecated: bool = False
    retires_on: datetime.date | None = None
    sent: str = ""
    names: tuple[str, ...] = ()
    listed: bool = True
    source: str = ""
    facts: str = ""
    checked: datetime.date | None = None

    @property
    def provider(self) -> str:
        return self.id.partition("/")[0]

    @property
    def name(self) -> str:
        """The name sent upstream."""
        return self.sent or self.id.partition("/")[2]


class PricePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price as a person writes it: dollars per million tokens, `per_request` in dollars a call."""

    input: Dollars = 0
    output: Dollars = 0
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    input_audio: Dollars | None = None
    input_image: Dollars | None = None
    output_audio: Dollars | None = None
    output_image: Dollars | None = None
    reasoning: Dollars | None = None
    per_request: Dollars = 0


class ModelPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `[models."provider/name"]` may say: laid over our facts of that model, or a model we do not know."""

    title: str | None = None
    """Name shown in listings."""
    maker: str | None = None
    """Who trained it."""
    context_tokens: Tokens | None = None
    """Longest prompt and answer together."""
    max_output_tokens: Tokens | None = None
    """Longest answer."""
    input: tuple[Modality, ...] | None = None
    """What it reads."""
    output: tuple[Modality, ...] | None = None
    """What it writes."""
    tools: bool | None = None
    """Whether it calls tools."""
    schema: bool | None = None
    """Whether its answers can be held to a JSON schema."""
    reasoning: bool | None = None
    """Whether it thinks before it answers."""
    price: PricePatch | None = None
    """Replaces our price whole, tiers and hours included."""
    sent: str | None = None
    """Name that the provider wants, when it is another than the one in the table's name."""
    retires_on: datetime.date | None = None
    """Day on which the provider switches it off."""


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """First line of a snapshot file: where its rows come from and the day they are true for."""

    provider: str
    source: str
    checked: datetime.date


class Status(Struct, frozen=True):
    """A provider as listings show it; `reason` says why it is ready, or what would make it so; `keys` are the variables
    whose keys are used."""

    name: str
    provider: Provider
    ready: bool
    reason: str
    keys: tuple[str, ...] = ()
