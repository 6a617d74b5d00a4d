"""Where a name goes."""

from __future__ import annotations

import pytest
from msgspec import structs

from lilliput.catalogue.find import CACHE_LIMIT, Catalogue
from lilliput.catalogue.load import load
from lilliput.catalogue.rows import Model, Price, ProviderPatch
from lilliput.neutral import Problem


def ready(*names: str) -> Catalogue:
    """A catalogue with these providers and the embedded engine."""
    return load({name: ProviderPatch(base="https://example.com/v1") for name in names}, {})


ALL = ready("openai", "groq", "openrouter", "fireworks", "together", "mistral", "huggingface")
FEW = ready("openai", "openrouter")
ROUTER = ready("openrouter")
NONE = ready()

FIREWORKS = "fireworks/accounts/fireworks/models/deepseek-v3p2"
GOES = [
    ("its own id", ALL, "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
    ("a dated name", ALL, "openai/gpt-4o-2024-08-06", "openai/gpt-4o-2024-08-06"),
    ("anything", ALL, "openai/what-comes-next", "openai/what-comes-next"),
    ("anything with slashes", ALL, "groq/a/b/c", "groq/a/b/c"),
    ("case is kept", ALL, "together/Qwen/Qwen3-ANY", "together/Qwen/Qwen3-ANY"),
    ("the name that the provider wants", ALL, "fireworks/deepseek-v3p2", FIREWORKS),
    ("that name itself", ALL, FIREWORKS, FIREWORKS),
    ("another name that the provider wants", ALL, "mistral/codestral", "mistral/codestral-latest"),
    ("a bare name at its maker", ALL, "gpt-4o-mini", "openai/gpt-4o-mini"),
    ("a bare dated name at its maker", ALL, "gpt-4o-2024-11-20", "openai/gpt-4o-2024-11-20"),
    ("a bare name whatever its case", ALL, "GPT-4o-mini", "openai/gpt-4o-mini"),
    ("a bare name at the only one", ALL, "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
    ("a bare name without its organisation", ROUTER, "gpt-4o-mini", "openrouter/openai/gpt-4o-mini"),
    ("a bare name with its organisation", ROUTER, "meta-llama/llama-3.3-70b-instruct", None),
    ("the embedded model", NONE, "lilliput/smollm2-135m", "lilliput/smollm2-135m"),
    ("the embedded model, bare", ALL, "smollm2-135m", "lilliput/smollm2-135m"),
]


@pytest.mark.parametrize(("name", "catalogue", "asked", "id"), GOES, ids=[g[0] for g in GOES])
def test_goes(name: str, catalogue: Catalogue, asked: str, id: str | None) -> None:
    target = catalogue.target(asked)
    assert target.id == (id or f"openrouter/{asked}")
    assert catalogue.target(asked) is target


LOST = [
    ("nothing", NONE, "", 404, "empty"),
    ("a provider and nothing", ALL, "openai/", 404, "is not in the catalogue"),
    ("too long", ALL, "openai/" + "x" * 300, 404, "longer than"),
    ("a line break", ALL, "openai/a\nb", 404, "not printable"),
    ("a letter missing", ALL, "opnai/gpt-4o-mini", 404, "nearest: openai/gpt-4o-mini"),
    ("a bare name with a letter missing", ALL, "gpt4o-mini", 404, "nearest: openai/gpt-4o-mini"),
    ("an unknown provider near a known one", NONE, "gorq/nothing-like-it", 404, "nearest: groq/nothing-like-it"),
    ("like nothing", ALL, "zzzz", 404, "not in the catalogue; GET /v1/models"),
    ("a provider that is not ready", NONE, "groq/x", 404, "set GROQ_API_KEY"),
    ("a bare name whose maker is not ready", NONE, "gpt-4o-mini", 404, "set OPENAI_API_KEY"),
    ("a bare name that others have", ROUTER, "llama-3.3-70b-versatile", 404, "set GROQ_API_KEY"),
    ("a model that the engine has not", NONE, "lilliput/smollm2-125m", 404, "nearest: lilliput/smollm2-135m"),
    ("a bare name at several", ALL, "qwen3-32b", 400, "groq/qwen/qwen3-32b, openrouter/qwen/qwen3-32b"),
]


@pytest.mark.parametrize(("name", "catalogue", "asked", "code", "say"), LOST, ids=[x[0] for x in LOST])
def test_lost(name: str, catalogue: Catalogue, asked: str, code: int, say: str) -> None:
    for _ in range(2):
        with pytest.raises(Problem) as e:
            catalogue.target(asked)
        assert (e.value.status, e.value.param) == (code, "model")
        assert e.value.code == ("model_not_found" if code == 404 else "model_ambiguous")
        assert say in e.value.say
        assert len(e.value.say) < 700


def test_at_most_three_names_are_offered() -> None:
    with pytest.raises(Problem) as e:
        ALL.target("opneai/gpt-4")
    assert e.value.say.partition("nearest: ")[2].partition(";")[0].count(",") == 2


FACTS = [
    ("its id", "openai/gpt-4o-mini", 150_000_000),
    ("a dated name", "openai/gpt-4o-mini-2024-07-18", 150_000_000),
    ("another case", "openai/GPT-4o-mini", 150_000_000),
    ("a name by its beginning", "openai/ft:gpt-4o-2024-08-06:me::1", 3_750_000_000),
    ("the name that the provider wants", FIREWORKS, 560_000_000),
    ("a router's choice", "huggingface/openai/gpt-oss-120b:groq", 150_000_000),
    ("no such model", "openai/what-comes-next", None),
    ("no such provider", "nobody/x", None),
    ("no provider", "gpt-4o-mini", None),
    ("a provider that is not ready", "deepseek/deepseek-chat", None),
    ("absurd", "openai/" + "x" * 10_000, None),
]


@pytest.mark.parametrize(("name", "id", "nusd"), FACTS, ids=[f[0] for f in FACTS])
def test_price_of_a_name(name: str, id: str, nusd: int | None) -> None:
    price = ALL.price(id)
    assert (price.input if price else None) == nusd
    model = ALL.model(id)
    assert (model.id if model else None) == (id if nusd is not None else None)


def test_a_target_has_the_price_of_what_was_asked() -> None:
    for asked in ("openai/gpt-4o", "gpt-4o", "fireworks/deepseek-v3p2", "mistral/codestral"):
        assert ALL.price(ALL.target(asked).id) is not None


def test_models_are_listed_in_order_and_can_all_be_called() -> None:
    ids = [m.id for m in FEW.models()]
    assert ids == sorted(ids)
    assert {m.provider for m in FEW.models()} == {"lilliput", "openai", "openrouter"}
    assert "openai/ft:gpt-4o" not in ids
    assert all(FEW.target(id).provider == id.partition("/")[0] for id in ids)


def test_made_up_names_do_not_grow_the_catalogue() -> None:
    c = ready("openai")
    known = c.target("openai/gpt-4o")
    for n in range(CACHE_LIMIT * 2):
        assert c.target(f"openai/made-up-{n}").model == f"made-up-{n}"
        assert c.model(f"openai/made-up-{n}") is None
    assert len(c._targets) == len(c._found) == CACHE_LIMIT
    assert c.target("openai/gpt-4o") == known


def test_a_name_that_a_pattern_matches_keeps_the_price_but_not_what_the_model_can_do() -> None:
    row = Model(id="openai/x", price=Price(input=1, output=2), context_tokens=9, names=("x-2024", "x-*"))
    known = structs.replace(row, input=("text",), tools=False, schema=False, reasoning=True, max_output_tokens=3)
    c = Catalogue({}, {}, {"openai": (known,)})
    for exact in ("openai/x", "openai/x-2024"):
        found = c.model(exact)
        assert found is not None
        assert (found.tools, found.max_output_tokens, found.input) == (False, 3, ("text",))
    near = c.model("openai/x-audio")
    assert near is not None
    assert (near.price, near.context_tokens) == (known.price, 9)
    assert (near.tools, near.schema, near.reasoning, near.max_output_tokens, near.input) == (None, None, None, 0, ())
