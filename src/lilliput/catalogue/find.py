"""What is asked of a catalogue that stands: where a name goes, what a model is, which providers are ready and why."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn, TypeVar

from msgspec import structs

from lilliput.catalogue.rows import LOCAL, Model, Price, Status
from lilliput.catalogue.strict import nearest
from lilliput.neutral import Problem, Secret, Target

NAME_LIMIT = 256
"""Longest name of a model, in characters; the longest known is under 100."""
CACHE_LIMIT = 4096
"""Names kept ready. A caller that makes up names pushes out the oldest, and nothing grows."""
COMPARED_LIMIT = 400
"""Names compared with an unknown one: those nearest in length, which bounds what a wrong name costs."""
HOMES = {"google": "gemini", "amazon": "bedrock", "huggingface": LOCAL}
"""Makers whose own provider has another name."""

V = TypeVar("V")


class Catalogue:
    """Ready providers and their models. Answers are cached, so the second request for a name is one dict lookup."""

    def __init__(
        self,
        statuses: Mapping[str, Status],
        targets: Mapping[str, Target],
        models: Mapping[str, tuple[Model, ...]],
        elsewhere: Callable[[str], list[str]] = lambda bare: [],
        spares: Mapping[str, tuple[Secret, ...]] | None = None,
    ) -> None:
        """`targets` and `models` are those of ready providers; a target lacks only the model's name.

        `elsewhere` names the providers that are not ready and have a model of that bare name, for the error's sake.
        `spares` are a provider's further keys.
        """
        self._spares = {name: keys for name, keys in (spares or {}).items() if keys}
        self._keyed: dict[str, tuple[Target, ...]] = {}
        self._elsewhere = elsewhere
        self._statuses = dict(statuses)
        self._providers = dict(targets)
        self._listed = tuple(sorted((m for rows in models.values() for m in rows if m.listed), key=lambda m: m.id))
        self._by_name: dict[str, Model] = {}
        self._patterns: dict[str, list[tuple[str, Model]]] = {}
        for provider, rows in models.items():
            self._index(provider, rows)
        self._bare: dict[str, dict[str, str]] | None = None
        self._targets: dict[str, Target] = {}
        self._found: dict[str, Model | None] = {}

    def target(self, name: str) -> Target:
        """Where a request for the model `name` goes.

        `provider/anything` goes to that provider when it is ready. A bare name goes to its maker's own provider, else
        to the only one that has it. `Problem("missing")` with the nearest names, or with what would make it ready.
        """
        hit = self._targets.get(name)
        return hit if hit is not None else _kept(self._targets, name, self._resolved(name))

    def keyed(self, target: Target) -> tuple[Target, ...]:
        """The same target with each of its provider's keys, itself the first; () where there is but one key."""
        keys = self._spares.get(target.provider)
        if keys is None:
            return ()
        hit = self._keyed.get(target.id)
        if hit is not None:
            return hit
        return _kept(self._keyed, target.id, (target, *(structs.replace(target, key=key) for key in keys)))

    @property
    def has_spares(self) -> bool:
        """Whether any ready provider has more than one key."""
        return bool(self._spares)

    def model(self, id: str) -> Model | None:
        """What we know of `provider/name`, be it a dated name or an alias; None when the snapshot does not have it.

        A name that only a pattern matches has its model's price and context: what it can do may differ.
        """
        try:
            return self._found[id]
        except KeyError:
            return _kept(self._found, id, self._looked_up(id)) if len(id) <= NAME_LIMIT else None

    def price(self, id: str) -> Price | None:
        """What `provider/name` costs; None when it is not known, which is not the same as free."""
        found = self.model(id)
        return found.price if found is not None else None

    def models(self) -> tuple[Model, ...]:
        """The models of ready providers that can be called by their id, sorted by it."""
        return self._listed

    def providers(self) -> tuple[Status, ...]:
        """Every provider with whether it is ready and why, ours in the order of the file, then the user's."""
        return tuple(self._statuses.values())

    def _index(self, provider: str, rows: tuple[Model, ...]) -> None:
        for m in rows:
            self._by_name.setdefault(m.id.lower(), m)
        for m in rows:
            for other in (m.name.lower(), *m.names):
                if any(c in "*?[" for c in other):
                    self._patterns.setdefault(provider, []).append((other, m))
                else:
                    self._by_name.setdefault(f"{provider}/{other}", m)

    def _looked_up(self, id: str) -> Model | None:
        low = id.lower()
        found = self._by_name.get(low)
        if found is None:
            provider, _, name = low.partition("/")
            patterns = self._patterns.get(provider, ())
            near = next((m for pattern, m in patterns if fnmatch.fnmatchcase(name, pattern)), None)
            if near is not None:
                found = structs.replace(
                    near, input=(), output=(), tools=None, schema=None, reasoning=None, max_output_tokens=0
                )
        if found is None or found.id == id:
            return found
        return structs.replace(found, id=id, sent="", listed=True)

    def _resolved(self, name: str) -> Target:
        if not name or len(name) > NAME_LIMIT or not name.isprintable():
            raise _missing(f"the model's name is empty, longer than {NAME_LIMIT} characters or not printable")
        provider, _, rest = name.partition("/")
        ready = self._providers.get(provider)
        if ready is not None and rest:
            if provider == LOCAL and name not in self._by_name:
                self._unknown(name)
            row = self._by_name.get(name.lower())
            return structs.replace(ready, model=row.name if row is not None and row.id == name else rest)
        status = self._statuses.get(provider)
        if status is not None and rest:
            raise _missing(f"provider {provider!r} of model {name!r} is not ready: {status.reason}")
        return self.target(self._chosen(name))

    def _chosen(self, name: str) -> str:
        """The id that a bare name means."""
        if self._bare is None:
            self._bare = bare_names(self._listed)
        places = self._bare.get(name.lower(), {})
        if not places:
            self._unknown(name)
        for id in places.values():
            row = self._looked_up(id)
            if row is not None and _at_home(row):
                return id
        if len(places) > 1:
            where = ", ".join(sorted(places.values())[:8])
            raise Problem(
                "client",
                f"model {name!r} is at several providers: say which, as in {where}",
                code="model_ambiguous",
                param="model",
            )
        return next(iter(places.values()))

    def _unknown(self, name: str) -> NoReturn:
        for place in sorted(self._elsewhere(name.lower()), key=list(self._statuses).index):
            raise _missing(f"model {name!r} is at {place!r}, which is not ready: {self._statuses[place].reason}")
        if "/" in name:
            compared = {m.id: m.id for m in self._listed}
        else:
            compared = {}
            for m in sorted(self._listed, key=lambda m: not _at_home(m)):
                for shorter in _shorter(m.id):
                    compared.setdefault(shorter, m.id)
        names = sorted(compared, key=lambda n: abs(len(n) - len(name)))[:COMPARED_LIMIT]
        near = [compared[n] for n in nearest(name, names)]
        provider = name.partition("/")[0]
        if not near and "/" in name and provider not in self._statuses:
            near = [f"{p}/{name.partition('/')[2]}" for p in nearest(provider, list(self._statuses), 1)]
        say = f"; nearest: {', '.join(near)}" if near else ""
        raise _missing(f"model {name!r} is not in the catalogue{say}; GET /v1/models lists what is")


def _at_home(model: Model) -> bool:
    """Whether the provider is its maker's own."""
    return model.provider == HOMES.get(model.maker, model.maker)


def bare_names(models: tuple[Model, ...]) -> dict[str, dict[str, str]]:
    """Name without provider, lower case -> provider -> the id to ask it for."""
    bare: dict[str, dict[str, str]] = {}
    for m in models:
        provider = m.provider
        for name in (m.id.partition("/")[2], *(n for n in m.names if not re.search(r"[*?\[]", n))):
            bare.setdefault(name.lower(), {}).setdefault(provider, f"{provider}/{name}")
    for m in models:
        for name in _shorter(m.id):
            bare.setdefault(name.lower(), {}).setdefault(m.provider, m.id)
    return bare


def _shorter(id: str) -> Iterator[str]:
    """What a caller may leave the provider, or provider and organisation, off."""
    rest = id.partition("/")[2]
    yield rest
    if "/" in rest:
        yield rest.rpartition("/")[2]


def _missing(say: str) -> Problem:
    return Problem("missing", say, 404, code="model_not_found", param="model")


def _kept(cache: dict[str, V], name: str, value: V) -> V:
    if len(cache) >= CACHE_LIMIT:
        del cache[next(iter(cache))]
    cache[name] = value
    return value
