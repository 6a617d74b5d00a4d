"""Moderation: every recorded call passes, and says what it said."""

from __future__ import annotations

import json

import pytest
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target
from lilliput.wire.operations import moderation
from lilliput.wire.operations.modality import JSON

OP = moderation.OPERATION


def test_recorded_calls() -> None:
    seen = 0
    for i in recorded.recorded("moderation"):
        asks, target = recorded.request(i), recorded.target(i)
        asked, adapter = OP.check(asks, JSON), OP.adapters[target.dialect]
        assert json.loads(adapter.write(asks, asked, target).body) == json.loads(asks)
        assert adapter.endpoint(target, asked)[0] == i["request"]["url"]
        answer = recorded.converted(i, OP, asks)
        assert recorded.facts(i, answer.body) == recorded.said(i), i["id"]
        assert json.loads(answer.body) == json.loads(recorded.body(i))
        seen += 1
    assert seen >= 4


def test_mistral_shares_the_form() -> None:
    target = Target(provider="mistral", model="mistral-moderation-latest", dialect="mistral", base="https://m.test/v1")
    body = b'{"model":"m","input":["a","b"]}'
    sent = OP.adapters["mistral"].write(body, OP.check(body, JSON), target)
    assert json.loads(sent.body) == {"model": "mistral-moderation-latest", "input": ["a", "b"]}


@pytest.mark.parametrize(("body", "param"), [(b'{"input":"a"}', "model"), (b'{"model":"m","input":1}', "input")])
def test_refused(body: bytes, param: str) -> None:
    with pytest.raises(Problem) as caught:
        OP.check(body, JSON)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("answer", [b"{}", b'{"results":{}}', b"nothing", b'{"error":"no"}'])
def test_no_answer(answer: bytes) -> None:
    asked = OP.check(b'{"model":"m","input":"a"}', JSON)
    with pytest.raises(Problem) as caught:
        OP.adapters["openai_chat"].read(200, answer, recorded.no_header, asked, Target(provider="p", model="m"))
    assert caught.value.status == 502
