"""What is hidden and what is not; that all of it comes back, in pieces too; that no text is slow."""

from __future__ import annotations

import json
import random
import time
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.loop.personal import KINDS, labelled

from lilliput.loop.recognise import RECOGNISERS
from lilliput.loop.redact import Redactor
from lilliput.neutral import Problem

KEY = "-----BEGIN PRIVATE KEY-----\nMIIabc-def==\n-----END PRIVATE KEY-----"
TABLE = [
    ("the same value, the same number", "a@b.org, c@d.org, a@b.org.", "<EMAIL_1>, <EMAIL_2>, <EMAIL_1>."),
    ("a card before its date", "4111 1111 1111 1111 12/27", "<CARD_1> 12/27"),
    ("an IBAN before a word", "GB82 WEST 1234 5698 7654 32 IS IT", "<IBAN_1> IS IT"),
    ("a placeholder of the text's own", "<EMAIL_7> a@b.org", "<EMAIL_7> <EMAIL_8>"),
    ("a version", "v1.2.3.4 and 8.8.4.4", "v1.2.3.4 and <IP_1>"),
    ("the value alone", "password=hunter2&x=1", "password=<SECRET_1>&x=1"),
    ("prose", "Your password: please change it", "Your password: please change it"),
    ("a key with its header", f"x {KEY} y", "x <SECRET_1> y"),
    ("ids of four countries", "123-45-6789 12345678Z 529.982.247-25 AB123456C", "<ID_3> <ID_1> <ID_2> <ID_4>"),
    ("two more", "255081416802538 86095742719", "<ID_1> <ID_2>"),
]


@pytest.mark.parametrize(("name", "text", "hidden"), TABLE, ids=lambda v: None)
def test_what_is_hidden(name: str, text: str, hidden: str) -> None:
    redactor = Redactor()
    got, found = redactor.redact(text)
    assert got == hidden, name
    assert found == sum(got.count(p) for p in redactor.values)
    assert redactor.restore(got) == text


def test_precision_and_recall_on_ten_thousand() -> None:
    hit: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    kinds_given: Counter[str] = Counter()
    for kind, value, text in labelled(10_000, seed=5):
        redactor = Redactor()
        hidden, _ = redactor.redact(text)
        assert redactor.restore(hidden) == text
        kinds = {name[1:].rpartition("_")[0] for name in redactor.values}
        kinds_given.update(kinds)
        wrong.update(kinds - {kind})
        if kind:
            asked[kind] += 1
            hit[kind] += kind in kinds and value not in hidden
    for kind in KINDS:
        print(
            f"{kind:7} recall {hit[kind] / asked[kind]:.4f} of {asked[kind]}, "
            f"precision {1 - wrong[kind] / max(kinds_given[kind], 1):.4f} of {kinds_given[kind]}"
        )
    total, bad = sum(kinds_given.values()), sum(wrong.values())
    print(f"all     recall {sum(hit.values()) / sum(asked.values()):.4f}, precision {1 - bad / total:.4f}")
    assert all(hit[kind] >= 0.98 * asked[kind] for kind in KINDS)
    assert bad <= 0.01 * total


HOSTILE = {
    "letters": "a" * 10**6,
    "digits": "1" * 10**6,
    "spaced digits": "4 " * 500_000,
    "dotted digits": "1." * 500_000,
    "at signs": "a@" * 500_000,
    "a long domain": "x@" + "a." * 500_000,
    "near domains": "x@1.a.a.a.a.a.a.a.a9 " * 48_000,
    "cards": "4111-" * 200_000,
    "keys that never end": "-----BEGIN PRIVATE KEY-----" * 37_000,
    "tokens": "eyJaaaaaaaaaa." * 70_000,
    "assignments": "password=token=" * 66_000,
    "spaces": "password" + " " * 10**6,
    "colons": "a:" * 500_000,
    "plus signs": "+1 ((" * 200_000,
    "ibans": "GB82 " * 200_000,
    "credentials": "://a:b" * 160_000,
    "placeholders": "<EMAIL_" * 140_000,
    "quotes": '"' * 10**6,
    "backslashes": "\\" * 10**6,
    "hyphens": "-" * 10**6,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_is_slow(name: str) -> None:
    """Each expression takes under a second of this process's time for a megabyte: linear, not merely quick."""
    text = HOSTILE[name]
    for r in RECOGNISERS:
        began = time.process_time()
        r.pattern.sub(lambda m, r=r: m[0] if r.check is None or r.check(m) else "", text)  # type: ignore[misc]
        assert time.process_time() - began < 1.0, r
    began = time.process_time()
    Redactor().redact_messages(
        Raw(msgspec.json.encode([{"role": "assistant", "tool_calls": [{"function": {"arguments": text}}]}]))
    )
    restorer = Redactor().restorer(escaped=True)
    for at in range(0, len(text), 1000):
        restorer.feed(text[at : at + 1000])
    assert time.process_time() - began < 5.0


VALUE = 'jo"e\\@x.org'
ODD = st.text(st.sampled_from('<>_12EMAILX\\u03ce"\\n '), max_size=40)


@given(ODD, ODD, st.randoms(use_true_random=False), st.booleans())
def test_a_stream_cut_anywhere_is_restored_as_the_whole(a: str, b: str, dice: random.Random, escaped: bool) -> None:
    redactor = Redactor()
    hidden, _ = redactor.redact("a@b.org")
    redactor.values[hidden] = VALUE
    place = hidden.replace("<", "\\u003c").replace(">", "\\u003E") if escaped and dice.random() < 0.5 else hidden
    text = a + place + b + place
    restorer = redactor.restorer(escaped=escaped)
    got, rest = "", text
    while rest:
        n = dice.randrange(1, 9)
        got += restorer.feed(rest[:n])
        rest = rest[n:]
    assert got + restorer.end() == redactor.restore(text, escaped=escaped)


def test_a_stream_holds_back_no_more_than_a_placeholder() -> None:
    redactor = Redactor()
    redactor.redact("a@b.org")
    restorer = redactor.restorer()
    pieces = ("x <EM", "AIL_1", "> y", " <b", "a", "<EMAIL_")
    assert [restorer.feed(p) for p in pieces] == ["x ", "", "a@b.org y", " <b", "a", ""]
    assert restorer.end() == "<EMAIL_"


def test_arguments_come_back_as_valid_json() -> None:
    redactor = Redactor()
    value = "pq\\r1x77"
    given = {"to": "a@b.org", "password": value, "card": 4111111111111111, "n": 7}
    call = {"id": "1", "function": {"name": "f", "arguments": json.dumps(given)}}
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a@b.org"}, image]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"mail": "a@b.org"}'},
    ]
    raw, found = redactor.redact_messages(Raw(msgspec.json.encode(messages)))
    hidden = msgspec.json.decode(raw)
    assert found == 5
    assert hidden[0]["content"] == [{"type": "text", "text": "<EMAIL_1>"}, {"type": "text", "text": "[image left out]"}]
    arguments = hidden[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "<EMAIL_1>", "password": "<SECRET_1>", "card": "<CARD_1>", "n": 7}
    back = redactor.restore(arguments, escaped=True)
    assert json.loads(back) == {**given, "card": "4111111111111111"}
    assert redactor.restore(hidden[2]["content"], escaped=True) == '{"mail": "a@b.org"}'


def test_messages_that_are_none() -> None:
    with pytest.raises(Problem, match="messages"):
        Redactor().redact_messages(Raw(b'{"role": 1}'))
