"""LiteLLM's proxy configuration as ours: what has a twin is carried over, what has none is said.

Takes the file's content already read (YAML's reader is not needed here) and gives TOML. No key's value is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from lilliput.neutral import Problem

POLICIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "fastest",
    "cost-based-routing": "cheapest",
    "usage-based-routing": "least_busy",
    "usage-based-routing-v2": "least_busy",
}
PROVIDERS = {
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "vertex_ai": "vertex",
    "google": "gemini",
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "azure_ai": "azure",
}
"""LiteLLM's names of providers where ours differ."""
_TAKEN = {"model", "api_key", "api_base", "base_url", "weight", "order", "rpm", "tags"}
_SETTINGS = {"routing_strategy", "model_group_alias", "fallbacks", "default_fallbacks", "context_window_fallbacks"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ENV = re.compile(r"os\.environ/(\w+)")


class Imported(Struct):
    """Tables of our configuration, and what could not be carried over, each with where it stood."""

    routes: dict[str, dict[str, Any]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(document: object) -> Imported:
    """What a `config.yaml` of LiteLLM's proxy says, in our words; raises Problem for what is none."""
    if not isinstance(document, Mapping) or not isinstance(document.get("model_list"), list):
        raise Problem("client", "this is no LiteLLM config.yaml: it has no list model_list")
    made = Imported()
    settings = _table(document.get("router_settings"))
    strategy = settings.get("routing_strategy", "simple-shuffle")
    policy = POLICIES.get(str(strategy))
    if policy is None:
        made.notes.append(f"router_settings.routing_strategy {strategy!r} has no twin: weighted is used")
    for i, row in enumerate(document["model_list"]):
        _deployment(made, _table(row), f"model_list[{i}]", policy or "weighted")
    for name, target in _table(settings.get("model_group_alias")).items():
        target = target.get("model") if isinstance(target, Mapping) else target
        made.aliases[str(name)] = str(target)
    _fallbacks(made, settings)
    made.notes += [f"router_settings.{k} is not carried over" for k in settings if k not in _SETTINGS]
    for part in document:
        if part not in ("model_list", "router_settings"):
            made.notes.append(f"{part} is not carried over")
    return made


def toml(made: Imported) -> str:
    """The tables as TOML, the notes as comments before them."""
    return "\n".join(_lines(made)) + "\n"


def _deployment(made: Imported, row: Mapping[str, Any], where: str, policy: str) -> None:
    params = _table(row.get("litellm_params"))
    name, model = row.get("model_name"), params.get("model")
    if not isinstance(name, str) or not isinstance(model, str):
        raise Problem("client", f"{where} has no model_name or no litellm_params.model")
    provider, slash, rest = model.partition("/")
    if not slash:
        provider, rest = "openai", model
    provider = PROVIDERS.get(provider, provider)
    if "*" in name or "*" in rest:
        made.notes.append(f"{where}: {name!r} is a wildcard; {provider}/NAME can be called without one")
        return
    base, key = params.get("api_base") or params.get("base_url"), params.get("api_key")
    if base or (isinstance(key, str) and _ENV.fullmatch(key)):
        provider = _provider(made, provider, base, key, where)
    elif key:
        made.notes.append(f"{where}.api_key is a key in the clear; it is not copied: put it into the environment")
    d: dict[str, Any] = {"model": f"{provider}/{rest}"}
    for theirs, ours in (("weight", "weight"), ("order", "priority"), ("rpm", "rpm"), ("tags", "tags")):
        if params.get(theirs) is not None:
            d[ours] = params[theirs]
    made.notes += [f"{where}.litellm_params.{k} is not carried over" for k in params if k not in _TAKEN]
    has_order = "priority" in d
    route = made.routes.setdefault(name, {"policy": policy, "deployments": []})
    if has_order:
        route["policy"] = "priority"
    route["deployments"].append(d)


def _provider(made: Imported, provider: str, base: object, key: object, where: str) -> str:
    """The provider's own name, or that of a table made for another base or another key's variable."""
    found = _ENV.fullmatch(key) if isinstance(key, str) else None
    table: dict[str, Any] = {"base": _variables(base)} if isinstance(base, str) else {}
    if found:
        table["key_env"] = found[1]
    elif key:
        made.notes.append(f"{where}.api_key is a key in the clear; it is not copied: name its variable in key_env")
    if provider not in made.providers and not base:
        made.providers[provider] = table
        return provider
    for name, known in made.providers.items():
        if known == table and (name == provider or name.startswith(f"{provider}-")):
            return name
    name = next(n for i in range(1, 10_000) if (n := f"{provider}-{i}") not in made.providers)
    made.providers[name] = table
    if not base:
        made.notes.append(f"[providers.{name}] is {provider} with another key: it needs that provider's base")
    return name


def _fallbacks(made: Imported, settings: Mapping[str, Any]) -> None:
    """A fallback becomes a deployment of lower rank in the same route, so that one list says it all."""
    for kind in ("fallbacks", "context_window_fallbacks"):
        for pair in settings.get(kind) or ():
            for name, others in _table(pair).items():
                _append(made, str(name), others, f"router_settings.{kind}")
    for name in made.routes if settings.get("default_fallbacks") else ():
        _append(made, name, settings["default_fallbacks"], "router_settings.default_fallbacks")


def _append(made: Imported, name: str, others: object, where: str) -> None:
    route = made.routes.get(name)
    if route is None or not isinstance(others, list):
        made.notes.append(f"{where} of {name!r} names no route here")
        return
    mine = list(route["deployments"])
    for other in others:
        rank = max(d.get("priority", 0) for d in route["deployments"]) + 1
        for d in made.routes.get(str(other), {}).get("deployments", ()):
            if all(d["model"] != m["model"] for m in route["deployments"]):
                mine.append({**d, "priority": rank})
                route["policy"] = "priority"
        if str(other) not in made.routes:
            made.notes.append(f"{where} of {name!r}: {other!r} is no model_name")
        route["deployments"] = mine


def _lines(made: Imported) -> Iterator[str]:
    yield "# From a LiteLLM config.yaml."
    yield from (f"# Left out: {' '.join(note.split())}" for note in made.notes)
    for name, table in made.providers.items():
        yield f"\n[providers.{_key(name)}]"
        yield from (f"{key} = {json.dumps(value)}" for key, value in table.items())
    if made.aliases:
        yield "\n[aliases]"
        yield from (f"{_key(name)} = {json.dumps(target)}" for name, target in made.aliases.items())
    for name, route in made.routes.items():
        yield f"\n[routes.{_key(name)}]"
        yield f"policy = {json.dumps(route['policy'])}"
        yield "deployments = ["
        for d in route["deployments"]:
            yield "  { " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in d.items()) + " },"
        yield "]"


def _variables(base: str) -> str:
    return _ENV.sub(lambda m: f"${{{m[1]}}}", base)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
