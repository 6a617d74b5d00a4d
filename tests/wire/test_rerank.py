"""Reranking: every recorded call, asked in Cohere's form and answered in it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target
from lilliput.wire.operations import rerank
from lilliput.wire.operations.modality import JSON

OP = rerank.OPERATION
SCORES = {"voyage-3be374594a": [(3, 0.7421875), (0, 0.69140625), (2, 0.494140625)]}


def _asks(i: Any, **more: Any) -> bytes:
    return json.dumps(recorded.client_body(i) | more).encode()


def test_answers_say_what_was_recorded() -> None:
    seen = 0
    for i in recorded.recorded("rerank"):
        answer = recorded.converted(i, OP, _asks(i))
        given = json.loads(recorded.body(i))
        ranks = [(r["index"], r["relevance_score"]) for r in given.get("results") or given["data"]]
        got = json.loads(answer.body)
        assert [(r["index"], r["relevance_score"]) for r in got["results"]] == ranks == SCORES.get(i["id"], ranks)
        keys = {"data": "results"}
        want = sorted(keys.get(key, key) for key in recorded.said(i)["json_keys"])
        assert recorded.facts(i, answer.body)["json_keys"] == want, i["id"]
        total = given.get("usage", {}).get("total_tokens", 0)
        assert (answer.usage.prompt_tokens if answer.usage else 0) == total, i["id"]
        seen += 1
    assert seen >= 8


def test_providers_are_asked_what_was_recorded() -> None:
    for i in recorded.recorded("rerank"):
        target, asks = recorded.target(i), _asks(i, return_documents=True)
        adapter, asked = OP.adapters[target.dialect], OP.check(asks, JSON)
        want = {k: v for k, v in json.loads(recorded.request(i)).items() if v is not None}
        if target.dialect == "openai_chat":
            want["return_documents"] = True
        assert json.loads(adapter.write(asks, asked, target).body) == want, i["id"]
        path = unquote(urlsplit(i["request"]["url"]).path)
        path = "/v2/rerank" if i["provider"] == "cohere" else path
        assert unquote(urlsplit(adapter.endpoint(target, asked)[0]).path) == path


def test_documents_come_back_when_asked() -> None:
    for i in recorded.recorded("rerank"):
        asks = recorded.client_body(i)
        got = json.loads(recorded.converted(i, OP, _asks(i, return_documents=True)).body)
        assert got["results"]
        for rank in got["results"]:
            assert rank["document"] == {"text": asks["documents"][rank["index"]]}, i["id"]
        plain = json.loads(recorded.converted(i, OP, _asks(i)).body)
        assert i["provider"] == "openrouter" or not any("document" in rank for rank in plain["results"])


def _sent(dialect: str, model: str = "m", **asks: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = json.dumps({"model": "m", "query": "q", "documents": ["a"]} | asks).encode()
    target = Target(provider="p", model=model, dialect=dialect, base="https://example.test")
    sent = OP.adapters[dialect].write(body, OP.check(body, JSON), target)
    return json.loads(sent.body), sent.dropped


def test_documents_may_be_objects() -> None:
    objects = [{"text": "a", "id": 7}]
    for dialect in ("cohere", "voyage", "bedrock"):
        assert _sent(dialect, documents=objects)[0]["documents"] == ["a"]
    assert _sent("jina", documents=objects)[0]["documents"] == objects


def test_options() -> None:
    assert _sent("bedrock", "amazon.rerank-v1:0", top_n=1)[0] == {"query": "q", "documents": ["a"], "top_n": 1}
    sent, dropped = _sent("cohere", max_tokens_per_doc=9, max_chunks_per_doc=1, return_documents=False)
    assert (sent["max_tokens_per_doc"], dropped) == (9, ("max_chunks_per_doc",))
    assert _sent("voyage", truncation=False, top_n=3)[0] == {
        "model": "m",
        "query": "q",
        "documents": ["a"],
        "truncation": False,
        "top_k": 3,
    }


REFUSED = [
    (b'{"query":"q","documents":["a"]}', "model"),
    (b'{"model":"m","documents":["a"]}', "query"),
    (b'{"model":"m","query":"q"}', "documents"),
    (b'{"model":"m","query":"q","documents":[]}', "documents"),
    (b'{"model":"m","query":"q","documents":[{"id":1}]}', "documents"),
    (b'{"model":"m","query":"q","documents":["a"],"top_n":0}', "top_n"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_refused(body: bytes, param: str) -> None:
    with pytest.raises(Problem) as caught:
        OP.check(body, JSON)
    assert caught.value.status == 400
    assert (caught.value.param or "").startswith(param)


BAD = [
    (b'{"results":[{"index":1,"relevance_score":0.5}]}', "not sent"),
    (b'{"results":[{"index":-1,"relevance_score":0.5}]}', "not sent"),
    (b'{"results":[{"index":0}]}', "not what was asked for"),
    (b'{"id":"x"}', "no results"),
    (b'{"error":"no"}', r"^no$"),
    (b"[", "not what was asked for"),
]


@pytest.mark.parametrize(("answer", "say"), BAD)
def test_no_answer(answer: bytes, say: str) -> None:
    asked = OP.check(b'{"model":"m","query":"q","documents":["a"]}', JSON)
    with pytest.raises(Problem, match=say) as caught:
        OP.adapters["cohere"].read(200, answer, recorded.no_header, asked, Target(provider="p", model="m"))
    assert caught.value.status >= 500
