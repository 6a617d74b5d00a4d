"""What ships: every provider row and every model file is whole, and made by `make prices` alone."""

from __future__ import annotations

import importlib.metadata
import re
from urllib.parse import urlsplit

import pytest
from scripts import prices

from lilliput.catalogue.endpoint import checked_base, variables
from lilliput.catalogue.load import HERE, rows, snapshot
from lilliput.catalogue.rows import LOCAL, Model, Provider

ROWS = rows()
FILES = sorted(path.stem for path in (HERE / "models").glob("*.jsonl"))
MODELS = [m for name in FILES for m in snapshot(name)]
ASKED_FOR = """openai azure groq together fireworks deepseek xai mistral perplexity openrouter cerebras nvidia
huggingface sambanova moonshot qwen zai nebius deepinfra hyperbolic novita github vllm sglang lmstudio llamacpp
ollama lilliput"""


def test_every_provider_that_was_asked_for_has_a_row() -> None:
    assert set(ASKED_FOR.split()) <= set(ROWS)


@pytest.mark.parametrize("name", [n for n in ROWS if n != LOCAL])
def test_row(name: str) -> None:
    row = ROWS[name]
    assert row.docs.startswith("https://")
    assert row.checked is not None
    assert row.key_env or row.keyless
    host = urlsplit(row.base).hostname or ""
    assert row.allow_private == row.keyless == (host == "127.0.0.1")
    assert checked_base(re.sub(r"\$\{\w+\}", "x", row.base) if "://" in row.base else "https://x", name)
    assert not row.base.endswith(("/", "/chat/completions"))


def test_variables_of_rows_are_named_once() -> None:
    keys = [row.key_env for row in ROWS.values() if row.key_env]
    assert len(keys) == len(set(keys)) + 1  # one token opens both publishers on Vertex
    assert {v for row in ROWS.values() for v in variables(row.base)}.isdisjoint(keys)


def test_models_are_many() -> None:
    priced = [m for m in MODELS if m.price is not None]
    assert len(priced) >= 300
    assert len({m.maker for m in priced if m.maker}) >= 20
    assert sum(bool(m.context_tokens) for m in MODELS) >= 1000
    assert sum(bool(m.input) for m in MODELS) >= 500
    for fact in ("tools", "schema", "reasoning"):
        said = [getattr(m, fact) for m in MODELS]
        assert said.count(True) >= 600, fact
        assert said.count(False) >= 90, fact
    assert any(m.price.tiers for m in priced if m.price)
    assert any(m.price.hours for m in priced if m.price)


@pytest.mark.parametrize("name", FILES)
def test_file(name: str) -> None:
    assert name in ROWS
    found = snapshot(name)
    assert len({m.id for m in found}) == len(found)
    assert all(_sane(m, name) for m in found)


def _sane(m: Model, provider: str) -> bool:
    assert m.provider == provider, m
    assert re.fullmatch(r"[a-z0-9-]+/[!-~]+", m.id), m
    assert m.source, m
    assert m.checked, m
    if m.price:
        starts = [t.above_tokens for t in m.price.tiers]
        assert starts == sorted(set(starts)), m
    return True


def test_unknown_provider_has_no_models() -> None:
    assert snapshot("nobody") == ()


def test_the_files_are_what_the_script_writes() -> None:
    head = MODELS[0]
    if head.source != f"genai-prices {importlib.metadata.version('genai-prices')}":
        pytest.skip("the snapshot is of another version of genai-prices")
    assert head.checked is not None
    made = prices.snapshot(head.checked, prices.read_facts(), prices.read_makers())
    assert sorted(made) == [f"{name}.jsonl" for name in FILES]
    for name, content in made.items():
        assert content == (HERE / "models" / name).read_bytes(), f"{name}: run `make prices`"


CAN = [
    # A yes of either list beats a no of the other.
    ("openai/gpt-3.5-turbo", "tools", True),
    ("openai/gpt-4o", "schema", True),
    ("openai/gpt-4", "schema", False),
    ("anthropic/claude-sonnet-4-5", "reasoning", True),
    ("gemini/gemini-embedding-001", "tools", False),
    ("openai/ada", "tools", None),
]


@pytest.mark.parametrize(("id", "fact", "known"), CAN)
def test_what_a_model_can_do(id: str, fact: str, known: bool | None) -> None:
    assert [getattr(m, fact) for m in MODELS if m.id == id] == [known]


def test_a_router_that_reads_pdf_for_every_model() -> None:
    texts = [m for m in MODELS if m.provider == "openrouter" and m.input and "text" in m.output]
    assert texts
    assert all("file" in m.input for m in texts)


MAKERS = [
    ("meta-llama/Llama-3.3-70B-Instruct", "", "meta"),
    ("Qwen/Qwen3-32B", "", "qwen"),
    ("newlab/some-model", "", "newlab"),
    ("gpt-4o", "openai", "openai"),
    ("anthropic.claude-3-haiku-20240307-v1:0", "", "anthropic"),
    ("global.amazon.nova-2-lite-v1:0", "", "amazon"),
    ("@cf/meta/llama-3-8b-instruct", "", "meta"),
    ("databricks-llama-4-maverick", "", "meta"),
    ("llama-3.3-70b-versatile", "", "meta"),
    ("qwen2.5-vl-72b", "", "qwen"),
    ("wholly-unknown", "", ""),
]


@pytest.mark.parametrize(("name", "home", "maker"), MAKERS)
def test_maker(name: str, home: str, maker: str) -> None:
    assert prices.maker(name, home, prices.read_makers()) == maker


def test_provider_fields_default_to_openai_chat_with_a_bearer_key() -> None:
    row = Provider(title="x")
    assert (row.dialect, row.key_header, row.key_prefix) == ("openai_chat", "authorization", "Bearer ")
