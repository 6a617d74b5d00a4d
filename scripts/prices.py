"""Write the model snapshot, `src/lilliput/catalogue/models/<provider>.jsonl`, from genai-prices' bundled data.

    python scripts/prices.py [--on 2026-11-22] [--out DIRECTORY]

Nothing is fetched: prices, context windows and names come from the installed `genai_prices` package, other facts from
`scripts/facts/*.toml`. The same package, facts and day give the same bytes. Prices are those in force on `--on`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
from genai_prices import types as g
from genai_prices.data import providers as genai_providers
from msgspec import structs

from lilliput.catalogue.rows import Header, Hours, Model, ModelPatch, Price, Tier
from lilliput.catalogue.strict import read_toml

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "src" / "lilliput" / "catalogue" / "models"


class Facts(msgspec.Struct, forbid_unknown_fields=True):
    """One file of facts that prices do not tell: where they come from, and what they say by model id."""

    source: str
    checked: datetime.date
    models: dict[str, ModelPatch] = {}


class Makers(msgspec.Struct, forbid_unknown_fields=True):
    organisations: dict[str, str]
    families: dict[str, tuple[str, ...]]


class From(msgspec.Struct):
    """How a genai-prices provider becomes rows of ours.

    `home` makes the models that name no other maker; `prefix` and `suffix` make the name that the provider wants;
    names that do not fit `only` are left out.
    """

    provider: str
    home: str = ""
    prefix: str = ""
    suffix: str = ""
    only: str = ""


# Resellers' private price lists, voice and IDE backends, and providers whose base differs by customer are left out.
SOURCES = {
    "anthropic": From("anthropic", home="anthropic"),
    "arcee": From("arcee"),
    "avian": From("avian"),
    "aws": From("bedrock"),
    "azure": From("azure"),
    "baseten": From("baseten"),
    "cerebras": From("cerebras"),
    "cloudflare": From("cloudflare"),
    "cohere": From("cohere", home="cohere"),
    "databricks": From("databricks"),
    "deepseek": From("deepseek", home="deepseek"),
    "doubleword": From("doubleword"),
    "fireworks": From("fireworks", prefix="accounts/fireworks/models/"),
    "google": From("gemini", only=r"(?!claude)"),
    "groq": From("groq"),
    "meta": From("meta", home="meta"),
    "minimax": From("minimax", home="minimax"),
    "mistral": From("mistral"),
    "moonshotai": From("moonshot", home="moonshot"),
    "novita": From("novita"),
    "openai": From("openai", home="openai"),
    "openrouter": From("openrouter", only=r".+/"),
    "ovhcloud": From("ovhcloud"),
    "perplexity": From("perplexity"),
    "together": From("together"),
    "voyageai": From("voyage", home="voyage"),
    "x-ai": From("xai", home="xai"),
    "zai": From("zai", home="zai"),
    "zhipuai": From("zhipu", home="zai"),
} | {
    # The router takes `model:provider` to pin who serves it, and passes that provider's price on
    # (https://huggingface.co/docs/inference-providers, checked 2026-11-22).
    f"huggingface_{who}": From("huggingface", suffix=f":{who}")
    for who in (
        *("cerebras", "fireworks-ai", "groq", "hyperbolic", "nebius", "novita"),
        *("nscale", "ovhcloud", "publicai", "sambanova", "together"),
    )
}

TOKEN_PRICES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "output_reasoning_mtok": "reasoning",
}
NUSD_PER_USD = 10**9
FREE = Price(input=0, output=0)


def nusd(usd: Decimal) -> int:
    """Nano-dollars in `usd`, rounded: genai-prices holds thirds and floating-point noise far below one of them."""
    return round(usd * NUSD_PER_USD)


def flat(given: g.ModelPrice, prompt_tokens: int) -> dict[str, int]:
    """The token prices that hold for a prompt of this length, in nano-dollars per million."""
    out: dict[str, int] = {}
    for theirs, ours in TOKEN_PRICES.items():
        value = getattr(given, theirs)
        if isinstance(value, g.TieredPrices):
            above = [t.price for t in value.tiers if prompt_tokens > t.start]
            value = above[-1] if above else value.base
        if value is not None:
            out[ours] = nusd(value)
    if isinstance(given.requests_kcount, Decimal):
        out["per_request"] = nusd(given.requests_kcount / 1000)
    return out


def tiered(given: g.ModelPrice) -> Price | None:
    """Their price as ours; None when nothing in it is priced by the token."""
    if not any(getattr(given, name) is not None for name in TOKEN_PRICES):
        return None
    starts = sorted({t.start for v in vars(given).values() if isinstance(v, g.TieredPrices) for t in v.tiers})
    tiers = tuple(Tier(start, structs.replace(FREE, **flat(given, start + 1))) for start in starts)
    return structs.replace(FREE, **flat(given, 0), tiers=tiers)


def price(model: g.ModelInfo, on: datetime.date) -> Price | None:
    """The price in force on that day, with the hours of the day that have another."""
    if isinstance(model.prices, g.ModelPrice):
        return tiered(model.prices)
    base = tiered(model.prices[0].prices)
    hours: list[Hours] = []
    for p in model.prices:
        held = tiered(p.prices)
        if p.constraint is None or (isinstance(p.constraint, g.StartDateConstraint) and p.constraint.start_date <= on):
            base, hours = held, []
        elif isinstance(p.constraint, g.TimeOfDateConstraint) and held is not None:
            ends = [t.hour * 60 + t.minute for t in (p.constraint.start_time, p.constraint.end_time)]
            hours.insert(0, Hours(ends[0], ends[1], held))
    return structs.replace(base, hours=tuple(hours)) if base is not None else None


def globs(rule: g.MatchLogic) -> Iterator[str]:
    """The names a rule matches, as shell patterns, lower case; a rule it cannot write so is left out."""
    match rule:
        case g.ClauseEquals(equals=text):
            yield text.lower()
        case g.ClauseStartsWith(starts_with=text):
            yield text.lower() + "*"
        case g.ClauseEndsWith(ends_with=text):
            yield "*" + text.lower()
        case g.ClauseContains(contains=text):
            yield "*" + text.lower() + "*"
        case g.ClauseOr(or_=rules):
            for one in rules:
                yield from globs(one)
        case g.ClauseAnd(and_=rules):
            # "Begins so, and is not text to speech": the second half names models that have a row of their own.
            yield from (x for one in rules if isinstance(one, g.ClauseStartsWith) for x in globs(one))
        case g.ClauseRegex(regex=text):
            plain = re.sub(r"\\d(?:\{(\d+)\})?", lambda m: "[0-9]" * int(m[1] or 1), text)
            plain = re.sub(r"\\(.)", r"\1", plain.removeprefix("^"))
            yield plain[:-1] if plain.endswith("$") else plain + "*"


def callable_name(provider: g.Provider, model: g.ModelInfo, source: From) -> str | None:
    """The first name that the provider would take for this model: its id, or the first exact name of its rule."""
    tail = model.id.removeprefix("regional.")
    exact = [n for n in globs(model.match) if not set("*?[") & set(n)]
    for name in (source.prefix + model.id, model.id, tail, "us." + tail, *exact):
        if name.startswith("regional.") or name.endswith("-"):
            continue
        if provider.find_model(name) is model:
            return name
    return None


def rows(provider: g.Provider, source: From, on: datetime.date, makers: Makers) -> Iterator[Model]:
    for m in provider.models:
        if not re.match(source.only, m.id):
            continue
        sent = callable_name(provider, m, source)
        name = m.id.removeprefix("regional.")
        also = [n for n in globs(m.match) if not n.startswith((provider.id + "/", provider.id + ":"))]
        full = (sent or name) + source.suffix
        yield Model(
            id=f"{source.provider}/{name}{source.suffix}",
            maker=maker(name, source.home, makers),
            title=(m.name or "").strip(),
            context_tokens=m.context_window or 0,
            # No price at all may mean "not by the token", so only a name that says free is taken at its word.
            price=FREE if m.id.endswith(":free") else price(m, on),
            deprecated=bool(m.deprecated),
            sent="" if full.lower() == (name + source.suffix).lower() else full,
            names=tuple(n + source.suffix for n in also if n != name.lower()),
            listed=sent is not None,
        )


def maker(name: str, home: str, makers: Makers) -> str:
    """Who trained the model of this name; `home` makes all that has no organisation in its name. "" when unknown."""
    low = name.lower()
    for mark in ("@cf/", "@hf/", "databricks-"):
        low = low.removeprefix(mark)
    if "/" in low:
        organisation = low.partition("/")[0].lstrip("~")
        return makers.organisations.get(organisation, organisation)
    if home:
        return home
    if m := re.match(r"(?:(?:global|us|eu|apac)\.)?([a-z]\w+)\.[a-z]", low):
        return makers.organisations.get(m[1], m[1])
    return next((who for who, starts in makers.families.items() if low.startswith(starts)), "")


def merged(model: Model, facts: Iterable[Facts]) -> Model:
    """The row with what the facts files say of it, later files over earlier ones."""
    said: dict[str, object] = {}
    sources: list[str] = []
    for f in facts:
        patch = f.models.get(model.id)
        if patch is not None:
            if patch.price is not None:
                raise ValueError(f"{f.source}: {model.id} has a price; prices come from genai-prices alone")
            said |= {k: v for k, v in structs.asdict(patch).items() if v is not None}
            sources.append(f"{f.source}, {f.checked}")
    return structs.replace(model, **said, facts="; ".join(sources)) if said else model


def snapshot(on: datetime.date, facts: list[Facts], makers: Makers) -> dict[str, bytes]:
    """File name -> content, one file for each provider of ours, rows in genai-prices' order: its first match wins."""
    source = f"genai-prices {importlib.metadata.version('genai-prices')}"
    files: dict[str, list[bytes]] = {}
    seen: set[str] = set()
    for theirs in genai_providers:
        if (how := SOURCES.get(theirs.id)) is None:
            continue
        name = f"{how.provider}.jsonl"
        lines = files.setdefault(name, [msgspec.json.encode(Header(how.provider, source, on))])
        for row in rows(theirs, how, on, makers):
            if row.id not in seen:
                seen.add(row.id)
                lines.append(msgspec.json.encode(merged(row, facts)))
    unknown = sorted({id for f in facts for id in f.models} - seen)
    if unknown:
        raise ValueError(f"facts about models that the snapshot has not: {', '.join(unknown)}")
    return {name: b"\n".join(lines) + b"\n" for name, lines in sorted(files.items())}


def read_facts() -> list[Facts]:
    return [read_toml(path, Facts) for path in sorted((HERE / "facts").glob("*.toml"))]


def read_makers() -> Makers:
    return read_toml(HERE / "makers.toml", Makers)


def main(argv: list[str]) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", type=datetime.date.fromisoformat, default=today, help="day the prices hold for")
    parser.add_argument("--out", type=Path, default=MODELS, help="directory to write to")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    files = snapshot(args.on, read_facts(), read_makers())
    for old in {p.name for p in args.out.glob("*.jsonl")} - set(files):
        (args.out / old).unlink()
    count = 0
    for name, content in files.items():
        (args.out / name).write_bytes(content)
        count += content.count(b"\n") - 1
    print(f"{count} models of {len(files)} providers as of {args.on} -> {args.out}")


if __name__ == "__main__":
    main(sys.argv[1:])
