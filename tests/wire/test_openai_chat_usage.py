"""Token counts: disjoint inside, OpenAI's totals outside, and figures that cannot be true put right and named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from lilliput.neutral import Usage
from lilliput.wire import openai as chat

READ: list[tuple[str, dict[str, Any], Usage | None, tuple[str, ...]]] = [
    ("plain", {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(input=5, output=2), ()),
    ("no counts", {"cost": 1}, None, ()),
    ("nulls", {"prompt_tokens": None, "completion_tokens": None}, None, ()),
    ("half of it", {"prompt_tokens": None, "completion_tokens": 2}, Usage(output=2), ()),
    ("floats", {"prompt_tokens": 5.0, "completion_tokens": 2.0}, Usage(input=5, output=2), ()),
    (
        "OpenAI's cache",
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
        Usage(input=1, cache_read=4, output=2),
        (),
    ),
    (
        "DeepSeek's cache",
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 4},
        Usage(input=1, cache_read=4, output=2),
        (),
    ),
    (
        "Mistral's cache",
        {"prompt_tokens": 5, "completion_tokens": 2, "num_cached_tokens": 4},
        Usage(input=1, cache_read=4, output=2),
        (),
    ),
    (
        "Together's cache",
        {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 4},
        Usage(input=1, cache_read=4, output=2),
        (),
    ),
    (
        "Writer's details",
        {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "prompt_token_details": {"cached_tokens": 4},
            "completion_token_details": {"reasoning_tokens": 1},
        },
        Usage(input=1, cache_read=4, output=1, reasoning=1),
        (),
    ),
    (
        "cache written",
        {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        },
        Usage(input=2, cache_read=4, cache_write_5m=3, output=2),
        (),
    ),
    (
        "media",
        {
            "prompt_tokens": 9,
            "completion_tokens": 9,
            "prompt_tokens_details": {"audio_tokens": 3, "image_tokens": 2},
            "completion_tokens_details": {"audio_tokens": 4, "image_tokens": 1},
        },
        Usage(input=4, audio_in=3, image_in=2, output=4, audio_out=4, image_out=1),
        (),
    ),
    (
        "xAI's reasoning",
        {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 10,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        Usage(input=5, output=2, reasoning=3),
        (),
    ),
    ("negative", {"prompt_tokens": -5, "completion_tokens": 2}, Usage(output=2), ("prompt_tokens",)),
    ("absurd", {"prompt_tokens": 5, "completion_tokens": 10**18}, Usage(input=5), ("completion_tokens",)),
    ("not numbers", {"prompt_tokens": "5", "completion_tokens": True}, Usage(), ("prompt_tokens", "completion_tokens")),
    (
        "more cached than sent",
        {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 9},
        Usage(cache_read=5, output=2),
        ("cached_tokens",),
    ),
]


@pytest.mark.parametrize(("name", "given_", "want", "doubts"), READ, ids=[r[0] for r in READ])
def test_read(name: str, given_: dict[str, Any], want: Usage | None, doubts: tuple[str, ...]) -> None:
    raw = json.dumps(given_).encode()
    got = chat.read_usage(raw)
    assert (got and replace(got, given=None, doubts=())) == want
    assert got is None or got.doubts == doubts
    assert chat.doubts(raw) == doubts


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"5", b"{", b'"x"', b"\xff", b'{"a":' * 5000, b'{"prompt_tokens":1e999}']
)
def test_what_is_no_usage(raw: bytes) -> None:
    assert chat.read_usage(raw) is None


COUNT = st.integers(0, 10**6)
USAGES = st.builds(
    Usage,
    **{
        name: COUNT
        for name in Usage.__struct_fields__
        if name not in ("given", "doubts", "cache_write_1h", "reasoning")
    },
    reasoning=COUNT,
)


@given(USAGES)
def test_ours_is_read_as_it_was_written(u: Usage) -> None:
    raw = json.dumps(chat.write_usage(u)).encode()
    again = chat.read_usage(raw)
    assert again is not None
    assert replace(again, given=None) == u
    assert chat.doubts(raw) == ()
    assert chat.write_usage(again) == chat.write_usage(u)


FIGURE = st.integers(-5, 60) | st.sampled_from([10**12, -(10**12), 1.5, 7.0, None, "9", True])
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens"]), FIGURE
)
GIVEN = st.fixed_dictionaries(
    {"prompt_tokens": FIGURE, "completion_tokens": FIGURE},
    optional={
        "total_tokens": FIGURE,
        "cached_tokens": FIGURE,
        "reasoning_tokens": FIGURE,
        "prompt_tokens_details": DETAILS | st.none(),
        "completion_tokens_details": DETAILS | st.integers(),
        "cost": st.floats(0, 1),
    },
)


@given(GIVEN)
def test_whatever_a_provider_claims_no_bucket_is_negative_or_beyond_reason(claimed: dict[str, Any]) -> None:
    u = chat.read_usage(json.dumps(claimed).encode())
    if u is not None:
        buckets = [getattr(u, name) for name in u.__struct_fields__ if name not in ("given", "doubts")]
        assert all(isinstance(n, int) and 0 <= n <= 10**9 for n in buckets)
        written = chat.write_usage(u)
        assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= written.keys()
        assert all(n >= 0 for n in written.values() if isinstance(n, int | float))


def test_a_providers_own_figures_stay_beside_ours() -> None:
    claimed = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "num_cached_tokens": 4,
        "cost": 0.5,
        "x": None,
    }
    u = chat.read_usage(json.dumps(claimed).encode())
    assert u is not None
    written = chat.write_usage(u)
    assert (written["cost"], written["num_cached_tokens"], written["prompt_tokens"]) == (0.5, 4, 5)
    assert written["prompt_tokens_details"] == {"cached_tokens": 4, "audio_tokens": 0}
    foreign = Usage(input=5, output=2, given=Raw(b'{"input_tokens":5}'))
    assert "input_tokens" not in chat.write_usage(foreign)
