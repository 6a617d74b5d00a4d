"""How an engine is to run, and the order that its process gets. Values and sums only: nothing here starts anything."""

from __future__ import annotations

from msgspec import Struct

GIB = 1 << 30
HTTP_THREADS = 32


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every zero means "work it out"; the rules are the functions below.

    `threads` decode, `prefill_threads` read prompts. `context_tokens` is what one request may hold, prompt and answer
    together; `parallel` requests run at once. `batch_tokens` of prompts are read in one step, in which other streams
    pause. `memory_bytes` bounds what the process allocates; the weights
    themselves are mapped from disk and do not count. An engine that answers nothing for `stuck_s` is ended.
    `temperature` and `top_p` hold where a request names none.
    """

    threads: int = 0
    prefill_threads: int = 0
    context_tokens: int = 4096
    parallel: int = 4
    batch_tokens: int = 512
    memory_bytes: int = 0
    start_timeout_s: float = 120.0
    stuck_s: float = 0.0
    temperature: float = 0.8
    top_p: float = 0.95


class Adapter(Struct, frozen=True):
    """A LoRA adapter (GGUF) that the engine puts over its weights, and the hash that the file must have."""

    path: str
    sha256: str | None = None


class Order(Struct, frozen=True):
    """What the supervisor tells a fresh worker, as one line of JSON on its standard input."""

    weights: str
    alias: str
    key: str
    parent: int
    sha256: str | None = None
    settings: Settings = Settings()
    adapters: tuple[Adapter, ...] = ()


def decode_threads(settings: Settings, cores: int) -> int:
    """Threads that write tokens: one core is left to the gateway, because threads that wait for a descheduled one
    spin, and two of them on two busy cores fall from 100 to 5-25 tokens a second (measured 2026-11-22)."""
    return settings.threads or max(1, cores - 1)


def prompt_threads(settings: Settings, cores: int) -> int:
    """Threads that read prompts: all cores, because the steps are long, and two read 1.9 times as fast as one while
    the machine is quiet and as fast as one while it is not (measured 2026-11-22)."""
    return settings.prefill_threads or max(1, cores)


def memory_limit(settings: Settings, weights_bytes: int) -> int:
    """Bytes that the process may allocate: by default as much again as the weights, for those that are repacked,
    and 2 GiB for context, buffers and stacks."""
    return settings.memory_bytes or 2 * weights_bytes + 2 * GIB


def stuck_limit_s(settings: Settings, weights_bytes: int) -> float:
    """Seconds without an answer after which an engine counts as hung: half a minute and a minute per GiB of weights,
    several times what one step of `batch_tokens` takes on two busy cores."""
    return settings.stuck_s or 30.0 + 60.0 * weights_bytes / GIB
