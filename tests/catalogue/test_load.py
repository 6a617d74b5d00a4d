"""What the environment and the user's file make of our rows."""

from __future__ import annotations

import datetime

import pytest

from lilliput.catalogue.load import Catalogue, load, rows
from lilliput.catalogue.rows import ModelPatch, Price, PricePatch, ProviderPatch, Status
from lilliput.neutral import Aws, Problem, Secret, Target

KEY = {"OPENAI_API_KEY": "sk-1"}
AZURE = {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/", "AZURE_OPENAI_API_KEY": "k"}


def status(c: Catalogue, name: str) -> Status:
    return next(s for s in c.providers() if s.name == name)


AWS = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "s"}
READY = [
    ("key in the environment", "openai", {}, KEY, True, "OPENAI_API_KEY is set"),
    ("no key", "openai", {}, {}, False, "set OPENAI_API_KEY"),
    ("an empty key is none", "openai", {}, {"OPENAI_API_KEY": " "}, False, "set OPENAI_API_KEY"),
    ("a key with a line break inside", "openai", {}, {"OPENAI_API_KEY": "a\nb"}, False, "control character"),
    ("the embedded engine", "lilliput", {}, {}, True, "embedded"),
    ("a local server, not named", "ollama", {}, {}, False, "[providers."),
    ("a local server, named", "ollama", {"ollama": ProviderPatch()}, {}, True, "without a key"),
    ("a local server with a key", "vllm", {}, {"VLLM_API_KEY": "k"}, True, "VLLM_API_KEY is set"),
    ("a base of one's own, without key", "openai", {"openai": ProviderPatch(base="http://h/v1")}, {}, True, "without"),
    ("a quirk alone opens nothing", "openai", {"openai": ProviderPatch(drop=("x",))}, {}, False, "set OPENAI_API_KEY"),
    ("key_env that is set", "groq", {"groq": ProviderPatch(key_env="MINE")}, {"MINE": "k"}, True, "MINE is set"),
    ("key_env that is not", "groq", {"groq": ProviderPatch(key_env="MINE")}, {"GROQ_API_KEY": "k"}, False, "set MINE"),
    ("key_env taken away", "groq", {"groq": ProviderPatch(key_env="")}, {}, True, "without a key"),
    ("a new one", "mine", {"mine": ProviderPatch(base="http://h/v1")}, {}, True, "without a key"),
    ("a new one with a key", "mine", {"mine": ProviderPatch(base="http://h", key_env="K")}, {"K": "k"}, True, "K is"),
    ("a new one, key unset", "mine", {"mine": ProviderPatch(base="http://h", key_env="K")}, {}, False, "set K,"),
    ("a base from the environment", "azure", {}, AZURE, True, "AZURE_OPENAI_API_KEY is set"),
    ("half of it", "azure", {}, {"AZURE_OPENAI_API_KEY": "k"}, False, "set AZURE_OPENAI_ENDPOINT"),
    ("nonsense of it", "azure", {}, AZURE | {"AZURE_OPENAI_ENDPOINT": "me"}, False, "scheme"),
    ("an AWS key", "bedrock", {}, AWS, True, "AWS_ACCESS_KEY_ID is set"),
    (
        "half an AWS key",
        "bedrock",
        {},
        {"AWS_REGION": "x", "AWS_ACCESS_KEY_ID": "a"},
        False,
        "AWS_BEARER_TOKEN_BEDROCK",
    ),
]


@pytest.mark.parametrize(("name", "provider", "patches", "env", "ready", "reason"), READY, ids=[r[0] for r in READY])
def test_ready(
    name: str, provider: str, patches: dict[str, ProviderPatch], env: dict[str, str], ready: bool, reason: str
) -> None:
    c = load(patches, env)
    s = status(c, provider)
    assert s.ready is ready
    assert reason in s.reason
    if ready and provider != "lilliput":
        assert c.target(f"{provider}/m").model == "m"
    elif not ready:
        with pytest.raises(Problem) as e:
            c.target(f"{provider}/m")
        assert (e.value.status, e.value.code, e.value.param) == (404, "model_not_found", "model")
        assert s.reason in e.value.say


REFUSED = [
    ("a new one without a base", {"mine": ProviderPatch(key_env="K")}, "needs a base"),
    ("the nearest name", {"opnai": ProviderPatch(key_env="K")}, "did you mean [providers.openai]"),
    ("no scheme", {"mine": ProviderPatch(base="host/v1")}, "no http or https scheme"),
    ("another scheme", {"mine": ProviderPatch(base="file:///etc/passwd")}, "no http or https scheme"),
    ("no host", {"mine": ProviderPatch(base="http:///v1")}, "no host"),
    ("a query", {"mine": ProviderPatch(base="http://h/v1?a=b")}, "query or fragment"),
    ("a fragment", {"mine": ProviderPatch(base="http://h/v1#a")}, "query or fragment"),
    ("an empty query", {"mine": ProviderPatch(base="http://h/v1?")}, "query or fragment"),
    ("a backslash", {"mine": ProviderPatch(base="http://h\\@g/v1")}, "characters that no URL has"),
    ("white space", {"mine": ProviderPatch(base="http://h /v1")}, "characters that no URL has"),
    ("nothing", {"mine": ProviderPatch(base="")}, "characters that no URL has"),
    ("a port that is none", {"mine": ProviderPatch(base="http://h:99999/v1")}, "no URL"),
    ("a bad bracket", {"mine": ProviderPatch(base="http://[::1/v1")}, "characters that no URL has, or none|no URL"),
    ("a name with a slash", {"a/b": ProviderPatch(base="http://h")}, "cannot be called so"),
    ("the embedded engine", {"lilliput": ProviderPatch(base="http://h")}, "set up in [local]"),
    ("a header of ours", {"mine": ProviderPatch(base="http://h", headers={"Host": "x"})}, "may set"),
    ("a header that is none", {"mine": ProviderPatch(base="http://h", headers={"a b": "x"})}, "may set"),
    ("a line break in a header", {"mine": ProviderPatch(base="http://h", headers={"a": "x\r\nb: c"})}, "line break"),
    ("a key in no header", {"mine": ProviderPatch(base="http://h", key_header="a:b")}, "cannot be|can carry"),
    ("a clamp upside down", {"mine": ProviderPatch(base="http://h", clamp={"n": (2, 1)})}, "leaves nothing"),
]


@pytest.mark.parametrize(("name", "patches", "say"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(name: str, patches: dict[str, ProviderPatch], say: str) -> None:
    with pytest.raises(Problem) as e:
        load(patches, {})
    assert any(part in e.value.say for part in say.split("|"))
    assert next(iter(patches)) in e.value.say


@pytest.mark.parametrize("base", ["http://u:hunter2@h/v1", "http://hunter2@h", "http://:hunter2@h", "http://@h"])
def test_credentials_in_a_base_are_refused_and_not_repeated(base: str) -> None:
    with pytest.raises(Problem) as e:
        load({"mine": ProviderPatch(base=base)}, {})
    assert "credentials" in e.value.say
    assert "hunter2" not in e.value.say


def test_a_row_of_another_dialect() -> None:
    c = load({}, {"ANTHROPIC_API_KEY": "k"})
    t = c.target("anthropic/claude-opus-4-5")
    assert (t.base, t.key_header, t.key_prefix) == ("https://api.anthropic.com", "x-api-key", "")
    assert t.key == Secret("k")


def test_aws_keys_sign_only_where_no_bearer_key_is() -> None:
    t = load({}, AWS | {"AWS_SESSION_TOKEN": "t"}).target("bedrock/amazon.nova-lite-v1:0")
    assert t.key is None
    assert t.aws == Aws("AKIAX", Secret("s"), "eu-west-1", Secret("t"))
    both = load({}, AWS | {"AWS_BEARER_TOKEN_BEDROCK": "b"}).target("bedrock/amazon.nova-lite-v1:0")
    assert (both.key, both.aws) == (Secret("b"), None)


def test_what_else_a_base_speaks_goes_with_the_base() -> None:
    env = {"OPENAI_API_KEY": "k"}
    assert load({}, env).target("openai/gpt-4o").also == ("openai_responses",)
    assert load({"openai": ProviderPatch(base="http://h/v1")}, env).target("openai/gpt-4o").also == ()
    kept = load({"openai": ProviderPatch(base="http://h/v1", also=("openai_responses",))}, env)
    assert kept.target("openai/gpt-4o").also == ("openai_responses",)


def test_a_patch_is_laid_over_our_row() -> None:
    patch = ProviderPatch(
        base="http://127.0.0.1:9400/v1/",
        allow_private=True,
        headers={"X-Team": "${TEAM}"},
        rename={"max_tokens": "max_completion_tokens"},
        drop=("seed",),
        clamp={"temperature": (0, 1)},
        force={"store": False},
        query="?a=b",
    )
    c = load({"openai": patch}, KEY | {"TEAM": "blue"})
    assert c.target("openai/gpt-4o") == Target(
        provider="openai",
        model="gpt-4o",
        base="http://127.0.0.1:9400/v1",
        key=Secret("sk-1"),
        query="a=b",
        headers={"x-team": "blue"},
        rename={"max_tokens": "max_completion_tokens"},
        drop=("seed",),
        clamp={"temperature": (0.0, 1.0)},
        force={"store": False},
        allow_private=True,
    )
    assert status(c, "openai").provider.title == "OpenAI"


def test_tables_are_joined_and_lists_replaced() -> None:
    env = {"MISTRAL_API_KEY": "k"}
    joined = load({"mistral": ProviderPatch(rename={"a": "b", "seed": "c"})}, env).target("mistral/x")
    assert joined.rename == {"max_completion_tokens": "max_tokens", "seed": "c", "a": "b"}
    one = load({"mistral": ProviderPatch(rename={"a": "b"})}, env).target("mistral/x")
    assert one.drop == rows()["mistral"].drop
    two = load({"mistral": ProviderPatch(drop=("n",))}, env).target("mistral/x")
    assert two.drop == ("n",)


BASES = [
    ("a whole URL where the scheme is given", "DATABRICKS_HOST", "https://adb.example.net/", "databricks"),
    ("a host where the scheme is given", "DATABRICKS_HOST", "adb.example.net", "databricks"),
]


@pytest.mark.parametrize(("name", "variable", "value", "provider"), BASES, ids=[b[0] for b in BASES])
def test_base_from_a_variable(name: str, variable: str, value: str, provider: str) -> None:
    c = load({}, {"DATABRICKS_TOKEN": "k", variable: value})
    assert c.target(f"{provider}/x").base == "https://adb.example.net/serving-endpoints"


def test_an_unset_variable_in_a_header_makes_the_provider_not_ready() -> None:
    c = load({"openai": ProviderPatch(headers={"x": "${TEAM}"})}, KEY)
    assert "set TEAM" in status(c, "openai").reason


def test_no_key_is_in_what_a_catalogue_shows() -> None:
    c = load({"mine": ProviderPatch(base="http://h", key_env="K")}, KEY | {"K": "canary"})
    shown = repr([c.providers(), c.models(), c.target("mine/x"), c.target("openai/gpt-4o")])
    assert "canary" not in shown
    assert "sk-1" not in shown


# -- models ----------------------------------------------------------------------------------------------------------


def test_facts_of_a_known_model() -> None:
    m = load({}, KEY).model("openai/gpt-4o")
    assert m is not None
    assert (m.maker, m.context_tokens, m.output) == ("openai", 128_000, ("text",))
    assert "image" in m.input
    assert m.price is not None
    assert (m.price.input, m.price.cache_read) == (2_500_000_000, 1_250_000_000)
    assert m.retires_on == datetime.date(2027, 1, 14)


def test_a_user_lays_facts_over_ours_and_adds_models() -> None:
    patches = {
        "openai/gpt-4o": ModelPatch(context_tokens=1000, price=PricePatch(input=0.15, output=0.6, cache_read=0.075)),
        "mine/tiny": ModelPatch(title="Tiny", sent="tiny-v2"),
        "groq/not-ready": ModelPatch(title="x"),
    }
    c = load({"mine": ProviderPatch(base="http://h")}, KEY, models=patches)
    m = c.model("openai/gpt-4o")
    assert m is not None
    assert (m.context_tokens, m.maker, m.source) == (1000, "openai", "the configuration")
    assert m.price == Price(input=150_000_000, output=600_000_000, cache_read=75_000_000)
    assert c.target("mine/tiny").model == "tiny-v2"
    assert [x.id for x in c.models() if x.provider == "mine"] == ["mine/tiny"]
    assert c.price("mine/tiny") is None
    assert c.model("groq/not-ready") is None


MODELS_REFUSED = [
    ("no provider", "gpt-4o", "provider/model"),
    ("a provider we do not know", "opnai/gpt-4o", "'openai'"),
    ("a model that the engine lacks", "lilliput/big", "[local.models]"),
]


@pytest.mark.parametrize(("name", "id", "say"), MODELS_REFUSED, ids=[m[0] for m in MODELS_REFUSED])
def test_model_patch_refused(name: str, id: str, say: str) -> None:
    with pytest.raises(Problem) as e:
        load({}, KEY, models={id: ModelPatch(title="x")})
    assert say in e.value.say


def test_embedded_models_are_free_and_named_by_the_caller() -> None:
    c = load({}, {}, embedded={"a": ModelPatch(context_tokens=64), "b": ModelPatch()})
    assert [m.id for m in c.models()] == ["lilliput/a", "lilliput/b"]
    assert c.price("lilliput/a") == Price(input=0, output=0)
    assert c.target("lilliput/b").base == ""
    assert c.target("lilliput/b").allow_private


def test_several_keys_are_used_that_are_set_and_not_the_same() -> None:
    envs = ("K1", "K2", "K3", "K4")
    c = load(
        {"mine": ProviderPatch(base="http://h", key_env=envs)}, {"K1": " ", "K2": "two", "K3": "three", "K4": "two"}
    )
    s = status(c, "mine")
    assert (s.ready, s.keys) == (True, ("K2", "K3"))
    assert s.reason == "K2 and K3 are set; K1, K4 not, or the same key again"
    target = c.target("mine/m")
    keyed = c.keyed(target)
    assert [t.key.reveal() for t in keyed if t.key is not None] == ["two", "three"]
    assert keyed[0] is target
    assert c.keyed(target) is keyed
    assert c.keyed(Target(provider="groq", model="x")) == ()


@pytest.mark.parametrize("envs", [("K", ""), ("K", "K")])
def test_a_list_of_keys_that_cannot_be(envs: tuple[str, ...]) -> None:
    with pytest.raises(Problem, match="one variable for each key"):
        load({"mine": ProviderPatch(base="http://h", key_env=envs)}, {"K": "k"})
