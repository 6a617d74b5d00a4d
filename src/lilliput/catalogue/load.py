"""The catalogue as it stands for one user: our rows, theirs laid over them, and what the environment unlocks.

Reading and merging only. What is asked of a catalogue once it stands is in `find`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import msgspec
from msgspec import structs

from lilliput.catalogue.endpoint import checked_base, checked_headers, checked_name, filled, plain, unset, variables
from lilliput.catalogue.find import Catalogue, bare_names
from lilliput.catalogue.rows import (
    LOCAL,
    Header,
    Model,
    ModelPatch,
    Price,
    PricePatch,
    Provider,
    ProviderPatch,
    Status,
)
from lilliput.catalogue.strict import nearest, read_toml
from lilliput.neutral import Aws, Problem, Secret, Target

__all__ = [
    "LOCAL",
    "Catalogue",
    "Model",
    "ModelPatch",
    "Price",
    "Provider",
    "ProviderPatch",
    "Status",
    "load",
    "rows",
    "snapshot",
]

HERE = Path(__file__).parent
AWS = ("bedrock", "bedrock_invoke")
"""Dialects whose calls an AWS access key signs when there is no bearer key."""
EMBEDDED: Mapping[str, ModelPatch] = MappingProxyType(
    {
        "smollm2-135m": ModelPatch(
            title="SmolLM2 135M Instruct", maker="huggingface", context_tokens=8192, input=("text",), output=("text",)
        )
    }
)
NUSD_PER_USD = 10**9

_rows = msgspec.json.Decoder(Model)
_header = msgspec.json.Decoder(Header)


def load(
    patches: Mapping[str, ProviderPatch],
    env: Mapping[str, str],
    *,
    models: Mapping[str, ModelPatch] | None = None,
    embedded: Mapping[str, ModelPatch] = EMBEDDED,
) -> Catalogue:
    """The catalogue of a user whose file says `patches` and `models`, with the environment `env`.

    `embedded` names what the engine on this machine serves as `lilliput/<name>`. `Problem` when the file says what
    cannot be: a new provider without a base, a base that is no URL.
    """
    ours = rows()
    statuses: dict[str, Status] = {}
    targets: dict[str, Target] = {}
    spares: dict[str, tuple[Secret, ...]] = {}
    for name in (*ours, *(n for n in patches if n not in ours)):
        patch = patches.get(name)
        row = _merged(name, ours.get(name), patch)
        status, target = _placed(name, row, patch, env)
        statuses[name] = status
        if target is not None:
            targets[name] = target
            spares[name] = tuple(Secret(env[n].strip()) for n in status.keys[1:])
    known = {name: snapshot(name) for name in targets if name != LOCAL}
    known[LOCAL] = tuple(_free(f"{LOCAL}/{name}", patch) for name, patch in embedded.items())
    for id, patch_ in (models or {}).items():
        _lay(id, patch_, known, statuses)
    elsewhere = _elsewhere([name for name in statuses if name not in targets])
    return Catalogue(statuses, targets, known, elsewhere, spares)


def rows() -> dict[str, Provider]:
    """Our own rows, `providers.toml`, by name."""
    return read_toml(HERE / "providers.toml", dict[str, Provider])


def snapshot(provider: str) -> tuple[Model, ...]:
    """All models of that provider in our snapshot; none when we have no file of it."""
    path = HERE / "models" / f"{provider}.jsonl"
    if not path.is_file():
        return ()
    first, *rest = path.read_bytes().splitlines()
    head = _header.decode(first)
    return tuple(structs.replace(_rows.decode(line), source=head.source, checked=head.checked) for line in rest)


def _elsewhere(names: list[str]) -> Callable[[str], list[str]]:
    """Bare name, lower case -> the providers among `names` that have it; the snapshot is read at the first question."""
    places: dict[str, dict[str, str]] | None = None

    def ask(bare: str) -> list[str]:
        nonlocal places
        if places is None:
            places = bare_names(tuple(m for name in names for m in snapshot(name)))
        return list(places.get(bare, ()))

    return ask


def _merged(name: str, row: Provider | None, patch: ProviderPatch | None) -> Provider:
    if row is not None and patch is None:
        return row
    assert patch is not None
    if name == LOCAL:
        raise Problem(
            "client", f"[providers.{LOCAL}] is the embedded engine, which is set up in [local]; use another name"
        )
    if not name or len(name) > 64 or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise Problem(
            "client", f"[providers.{name!r}] cannot be called so: letters, digits, dot, dash and _ alone, 64 at most"
        )
    if row is None:
        if patch.base is None:
            near = nearest(name, list(rows()), 1)
            meant = f", or did you mean [providers.{near[0]}]?" if near else ""
            raise Problem("client", f"[providers.{name}] is not a provider we know, so it needs a base{meant}")
        row = Provider(title=name, keyless=not patch.key_env)
    said = {k: v for k, v in structs.asdict(patch).items() if v is not None}
    if patch.key_env is not None:
        first, *more = _key_envs(name, patch.key_env)
        said |= {"key_env": first, "more_key_envs": tuple(more)}
    if patch.base is not None or patch.dialect is not None:
        said.setdefault("also", ())  # what is elsewhere need not speak them
    for table in ("headers", "rename", "clamp", "force"):
        said[table] = {**getattr(row, table), **said[table]}
    return structs.replace(row, **said)


def _key_envs(name: str, given: str | tuple[str, ...]) -> tuple[str, ...]:
    """The variables that hold the keys; a list of them has neither an empty name nor the same one twice."""
    if isinstance(given, str):
        return (given,)
    if "" in given or len(set(given)) < len(given):
        say = f"[providers.{name}] key_env has an empty name, or the same variable twice: {', '.join(given)}"
        raise Problem("client", f"{say}; one variable for each key")
    return given


def _placed(
    name: str, row: Provider, patch: ProviderPatch | None, env: Mapping[str, str]
) -> tuple[Status, Target | None]:
    """Whether the provider can be called, why, and with what: the target of its models but for their name."""
    whose = f"[providers.{name}]" if patch is not None else f"provider {name}"
    for field, (low, high) in row.clamp.items():
        if not low <= high:
            raise Problem("client", f"{whose} clamps {field!r} between {low} and {high}, which leaves nothing")
    if patch is not None and patch.base is not None and not variables(row.base):
        checked_base(row.base, whose)
    key, why = _unlocked(name, row, patch, env)
    aws = _aws(env) if key is None and row.dialect in AWS else None
    if aws is not None:
        why = "AWS_ACCESS_KEY_ID is set"
    missing = unset((row.base, *row.headers.values()), env)
    if why.startswith("set"):
        return Status(name, row, False, why), None
    if missing is not None:
        return Status(name, row, False, f"set {missing}, which its base or headers need"), None
    try:
        target = structs.replace(_target(name, row, key, env, whose), aws=aws)
    except Problem as e:
        if not variables(row.base):
            raise
        return Status(name, row, False, e.say), None
    return Status(name, row, True, why, _set(row, env) if key is not None else ()), target


def _set(row: Provider, env: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that hold a key now; none of the same keys twice."""
    held: dict[str, str] = {}
    for name in (row.key_env, *row.more_key_envs):
        if name and (key := env.get(name, "").strip()):
            held.setdefault(key, name)
    return tuple(held.values())


def _target(name: str, row: Provider, key: Secret | None, env: Mapping[str, str], whose: str) -> Target:
    return Target(
        provider=name,
        model="",
        dialect=row.dialect,
        base="" if name == LOCAL else checked_base(filled(row.base, env), whose),
        key=key,
        key_header=checked_name(row.key_header, whose),
        key_prefix=row.key_prefix,
        query=row.query.removeprefix("?"),
        headers=checked_headers(row.headers, env, whose),
        rename=row.rename,
        drop=row.drop,
        clamp=row.clamp,
        force=row.force,
        allow_private=row.allow_private,
        also=row.also,
    )


def _aws(env: Mapping[str, str]) -> Aws | None:
    """The AWS access key of the environment, as AWS's own tools find it there; None when a part of it is missing."""
    access, secret = (env.get(name, "").strip() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    region = (env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "").strip()
    if not (access and secret and region and plain(access + region)):
        return None
    session = env.get("AWS_SESSION_TOKEN", "").strip()
    return Aws(access, Secret(secret), region, Secret(session) if session and plain(session) else None)


def _unlocked(
    name: str, row: Provider, patch: ProviderPatch | None, env: Mapping[str, str]
) -> tuple[Secret | None, str]:
    """The key and why the provider is ready; or no key and a reason that begins with "set" when it is not."""
    if name == LOCAL:
        return None, "the embedded engine"
    held = _set(row, env)
    for variable in held:
        if not plain(env[variable].strip()):
            return None, f"set {variable} to the key alone: it holds a line break or another control character"
    if held:
        return Secret(env[held[0]].strip()), _keys_told(row, held)
    if patch is not None and patch.key_env:
        return None, f"set {row.key_env}, which the configuration says holds its key"
    if patch is not None and (row.keyless or not row.key_env or patch.base is not None):
        return None, "in the configuration, without a key"
    if row.keyless:
        return None, f"set it up in the configuration, where an empty table [providers.{name}] is enough"
    return None, f"set {row.key_env} to its key"


def _keys_told(row: Provider, held: tuple[str, ...]) -> str:
    """Which keys are used, by their variables."""
    told = f"{' and '.join(held)} {'is' if len(held) == 1 else 'are'} set"
    lacking = [n for n in (row.key_env, *row.more_key_envs) if n not in held]
    return f"{told}; {', '.join(lacking)} not, or the same key again" if lacking else told


def _free(id: str, patch: ModelPatch) -> Model:
    """A model that runs on this machine, where a token costs nothing that we count."""
    return _patched(Model(id=id, price=Price(input=0, output=0), source="this machine"), patch)


def _lay(id: str, patch: ModelPatch, known: dict[str, tuple[Model, ...]], statuses: Mapping[str, Status]) -> None:
    """Lay what the user says of one model over what we know; nothing to do for a provider that is not ready."""
    provider, slash, name = id.partition("/")
    if not slash or not name or provider not in statuses:
        near = nearest(provider, list(statuses), 1)
        meant = f"; the nearest provider is {near[0]!r}" if near else ""
        raise Problem("client", f'[models."{id}"] is not named provider/model after a provider we know{meant}')
    if not statuses[provider].ready:
        return
    have = known.get(provider, ())
    if provider == LOCAL and not any(m.id == id for m in have):
        raise Problem(
            "client", f'[models."{id}"] is not served by the engine here; add {name!r} to [local.models] first'
        )
    old = next((m for m in have if m.id == id), Model(id=id))
    known[provider] = (*(m for m in have if m.id != id), _patched(old, patch))


def _patched(model: Model, patch: ModelPatch) -> Model:
    said = {k: v for k, v in structs.asdict(patch).items() if v is not None}
    if patch.price is not None:
        said["price"] = priced(patch.price)
        said["source"] = "the configuration"
    return structs.replace(model, **said)


def priced(patch: PricePatch) -> Price:
    """Dollars as written, in nano-dollars: 0.15 is 150,000,000 per million tokens, exactly."""
    said = {k: _nusd(v) for k, v in structs.asdict(patch).items() if v is not None}
    return structs.replace(Price(input=0, output=0), **said)


def _nusd(usd: float) -> int:
    return round(Decimal(repr(usd)) * NUSD_PER_USD)
