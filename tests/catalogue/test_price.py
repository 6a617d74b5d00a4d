"""Costs by hand, and the whole snapshot against genai-prices' own arithmetic."""

from __future__ import annotations

import datetime
import importlib.metadata
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest
from genai_prices import types as g
from genai_prices.data import providers as genai_providers
from scripts.prices import SOURCES, From, globs

from lilliput.catalogue.find import Catalogue
from lilliput.catalogue.load import load, rows, snapshot
from lilliput.catalogue.price import cost_nusd, rates
from lilliput.catalogue.rows import Hours, Price, Tier
from lilliput.neutral import Usage

USD = 10**9
PLAIN = Price(input=3 * USD, output=15 * USD)
CACHED = Price(input=3 * USD, output=15 * USD, cache_read=300_000_000, cache_write=3_750_000_000)
HOUR = Price(input=1000, output=0, cache_write=2000, cache_write_1h=3000)
SOUND = Price(input=10, output=20, input_audio=1000, output_audio=2000, input_image=300, output_image=400, reasoning=50)
TIERED = Price(
    input=1_000_000,
    output=2_000_000,
    cache_read=100_000,
    tiers=(
        Tier(200_000, Price(input=2_000_000, output=3_000_000, cache_read=200_000)),
        Tier(500_000, Price(input=4_000_000, output=5_000_000, cache_read=400_000)),
    ),
)
NIGHT = Price(
    input=1_000_000,
    output=1_000_000,
    hours=(
        Hours(60, 240, Price(input=2_000_000, output=2_000_000)),
        Hours(1380, 30, Price(input=3_000_000, output=3_000_000)),
    ),
)
BY_HAND = [
    ("nothing used", PLAIN, Usage(), 0),
    ("1 M in, 1 M out", PLAIN, Usage(input=1_000_000, output=1_000_000), 18 * USD),
    ("1000 in, 200 out", PLAIN, Usage(input=1000, output=200), 6_000_000),
    ("a cache read is cheaper", CACHED, Usage(input=1000, cache_read=9000, output=100), 7_200_000),
    ("a cache write is dearer", CACHED, Usage(input=1000, cache_write_5m=2000), 10_500_000),
    ("an hour's write as a write when it has no price", CACHED, Usage(cache_write_1h=1000), 3_750_000),
    ("an hour's write at its own price", HOUR, Usage(cache_write_5m=1_000_000, cache_write_1h=1_000_000), 5000),
    ("cached tokens as input when they have no price", PLAIN, Usage(cache_read=1000, cache_write_5m=1000), 6_000_000),
    ("reasoning as output when it has no price", PLAIN, Usage(reasoning=1000), 15_000_000),
    ("media at its own price", SOUND, Usage(audio_in=10**6, image_in=10**6, audio_out=10**6, image_out=10**6), 3700),
    ("reasoning at its own price", SOUND, Usage(output=10**6, reasoning=10**6), 70),
    ("media as text when it has no price", PLAIN, Usage(audio_in=1000, image_in=1000, image_out=1000), 21_000_000),
    ("up to a tier is below it", TIERED, Usage(input=200_000), 200_000),
    ("one more token and all cost more", TIERED, Usage(input=200_001), 400_002),
    ("cached tokens count for the tier", TIERED, Usage(input=1, cache_read=200_000, output=10), 40_032),
    ("output does not count for the tier", TIERED, Usage(input=200_000, output=400_000), 1_000_000),
    ("the last tier exceeded", TIERED, Usage(input=600_000), 2_400_000),
    ("rounded up, once", Price(input=1, output=1), Usage(input=1, output=1), 1),
    ("exactly one", Price(input=1, output=1), Usage(input=999_999, output=1), 1),
    ("one over", Price(input=1, output=1), Usage(input=1_000_000, output=1), 2),
    ("a call's own price", Price(input=0, output=0, per_request=5_000_000), Usage(), 5_000_000),
    ("both", Price(input=USD, output=0, per_request=7), Usage(input=1000), 1_000_007),
]


@pytest.mark.parametrize(("name", "price", "usage", "nusd"), BY_HAND, ids=[c[0] for c in BY_HAND])
def test_cost_by_hand(name: str, price: Price, usage: Usage, nusd: int) -> None:
    assert cost_nusd(price, usage) == nusd


AT = [
    ("no time", None, 1),
    ("00:29 is still last night", 29 * 60, 3),
    ("00:30", 30 * 60, 1),
    ("01:00", 3600, 2),
    ("03:59:59", 4 * 3600 - 1, 2),
    ("04:00", 4 * 3600, 1),
    ("23:00 of a later day", 86_400 * 20_000 + 23 * 3600, 3),
]


@pytest.mark.parametrize(("name", "at_s", "factor"), AT, ids=[c[0] for c in AT])
def test_hours(name: str, at_s: float | None, factor: int) -> None:
    assert cost_nusd(NIGHT, Usage(input=10), at_s) == 10 * factor


def test_an_hour_has_tiers_of_its_own() -> None:
    night = Price(input=5, output=5, tiers=(Tier(10, Price(input=9, output=9)),))
    price = Price(input=1, output=1, hours=(Hours(0, 60, night),), tiers=(Tier(10, Price(input=2, output=2)),))
    assert [rates(price, n, 0).input for n in (10, 11)] == [5, 9]
    assert [rates(price, n, 7200).input for n in (10, 11)] == [1, 2]


# -- the snapshot, model by model, against the package it comes from -------------------------------------------------

USAGES = [
    Usage(input=1000, output=500),
    Usage(input=700, cache_read=300, cache_write_5m=200, cache_write_1h=100, output=450, reasoning=50),
    Usage(input=250_000, cache_read=50_000, output=2000),
    Usage(input=900_000, output=10_000),
    Usage(input=500, audio_in=400, image_in=30, output=100, audio_out=300, image_out=20),
]


def everything() -> Catalogue:
    env = {row.key_env: "k" for row in rows().values() if row.key_env}
    names = "AZURE_OPENAI_ENDPOINT DATABRICKS_HOST"
    env |= dict.fromkeys(names.split(), "https://example.com")
    env |= dict.fromkeys(
        ("AWS_REGION", "VERTEX_PROJECT", "VERTEX_LOCATION", "CLOUDFLARE_ACCOUNT_ID", "SNOWFLAKE_ACCOUNT"), "x"
    )
    return load({}, env)


EVERYTHING = everything()


def theirs(model: g.ModelInfo, provider: g.Provider, usage: Usage, at: datetime.datetime) -> Decimal:
    asked = g.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_write_1h_tokens=usage.cache_write_1h,
        input_audio_tokens=usage.audio_in,
        input_image_tokens=usage.image_in,
        output_audio_tokens=usage.audio_out,
        output_image_tokens=usage.image_out,
        output_reasoning_tokens=usage.reasoning,
    )
    return model.calc_price(asked, provider, genai_request_timestamp=at).total_price


def mapped() -> Iterator[tuple[g.Provider, g.ModelInfo, From]]:
    for provider in genai_providers:
        if how := SOURCES.get(provider.id):
            yield from ((provider, model, how) for model in provider.models)


def current(provider: str) -> bool:
    """Whether the snapshot is of the installed genai-prices: a newer one is not yet ours."""
    return snapshot(provider)[0].source == f"genai-prices {importlib.metadata.version('genai-prices')}"


@pytest.mark.parametrize(("hour", "least"), [(12, 7000), (2, 20), (7, 20)])
def test_costs_agree_with_genai_prices(hour: int, least: int) -> None:
    """Within what rounding to whole nano-dollars may do: one nano-dollar a call and half of one per million tokens.

    At noon every model, at the other hours those whose price has hours.
    """
    if not current("openai"):
        pytest.skip("the snapshot is of another version of genai-prices")
    compared = 0
    for provider, model, how in mapped():
        ours = EVERYTHING.model(f"{how.provider}/{model.id.removeprefix('regional.')}{how.suffix}")
        if ours is None or ours.price is None or ours.checked is None or not (hour == 12 or ours.price.hours):
            continue
        at = datetime.datetime.combine(ours.checked, datetime.time(hour), datetime.UTC)
        for usage in USAGES:
            want = theirs(model, provider, usage, at) * USD
            got = cost_nusd(ours.price, usage, at.timestamp())
            slack = Decimal(usage.total_tokens) / 2_000_000
            assert -slack <= got - want < 1 + slack, (ours.id, usage, got, want)
            compared += 1
    assert compared > least


def test_every_exact_name_finds_the_price_that_genai_prices_finds() -> None:
    if not current("openai"):
        pytest.skip("the snapshot is of another version of genai-prices")
    asked = 0
    for provider, model, how in mapped():
        for name in globs(model.match):
            if any(c in name for c in "*?[") or name.startswith((f"{provider.id}/", f"{provider.id}:")):
                continue
            first = provider.find_model(name)
            if first is None or not re.match(how.only, model.id) or not re.match(how.only, first.id):
                continue
            ours = EVERYTHING.model(f"{how.provider}/{name}{how.suffix}")
            same = EVERYTHING.model(f"{how.provider}/{first.id.removeprefix('regional.')}{how.suffix}")
            assert ours is not None, name
            assert same is not None, name
            assert ours.price == same.price, name
            asked += 1
    assert asked > 2000
