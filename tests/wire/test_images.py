"""Images: every recorded call passes, and what Google's models make of the same request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem, Target
from lilliput.wire.operations import image_edits, images, multipart
from lilliput.wire.operations.modality import JSON
from lilliput.wire.operations.multipart import Part

OP, EDITS = images.OPERATION, image_edits.OPERATION
PNG = "iVBORw0KGgo="


def test_recorded_calls() -> None:
    seen = 0
    for i in recorded.recorded("images"):
        operation: Any = EDITS if i["request"]["url"].endswith("/edits") else OP
        asks, target = json.dumps(recorded.client_body(i)).encode(), recorded.target(i)
        asked, adapter = operation.check(asks, JSON), operation.adapters[target.dialect]
        sent = json.loads(adapter.write(asks, asked, target).body)
        assert {k: v for k, v in sent.items() if k != "model"} == {
            k: v for k, v in json.loads(recorded.request(i)).items() if k != "model"
        }
        assert adapter.endpoint(target, asked)[0] == i["request"]["url"]
        want = recorded.said(i)
        if want["error"]:
            with pytest.raises(Problem) as caught:
                recorded.converted(i, operation, asks)
            assert (caught.value.say, caught.value.status) == (want["error"]["message"], 400)
        else:
            answer = recorded.converted(i, operation, asks)
            assert answer.body == recorded.body(i)
            assert recorded.facts(i, answer.body) == want
        seen += 1
    assert seen >= 7


def test_edits_by_form() -> None:
    parts = [Part("model", memoryview(b"m")), Part("image", memoryview(b"\x89PNG"), "a.png", "image/png")]
    body, kind = multipart.write(parts, b"x"), multipart.content_type(b"x")
    asked = EDITS.check(body, kind)
    target = Target(provider="p", model="gpt-image-1", base="https://example.test/v1")
    adapter = EDITS.adapters["openai_chat"]
    url, headers = adapter.endpoint(target, asked)
    assert (url, dict(headers)["content-type"]) == ("https://example.test/v1/images/edits", kind)
    form = multipart.parse(adapter.write(body, asked, target).body, kind)
    assert [(p.name, bytes(p.data)) for p in form.parts] == [("model", b"gpt-image-1"), ("image", b"\x89PNG")]
    for missing, param in ((0, "model"), (1, "image")):
        with pytest.raises(Problem) as caught:
            EDITS.check(multipart.write(parts[:missing] + parts[missing + 1 :], b"x"), kind)
        assert caught.value.param == param


def test_usage_counts_images_made() -> None:
    answer = (
        b'{"created":1,"data":[],"usage":{"input_tokens":50,"output_tokens":272,"total_tokens":322,'
        b'"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}'
    )
    asked = OP.check(b'{"model":"m","prompt":"a"}', JSON)
    usage = OP.adapters["openai_chat"].read(200, answer, recorded.no_header, asked, _google("m")).usage
    assert usage is not None
    assert (usage.input, usage.image_in, usage.image_out, usage.output) == (10, 40, 272, 0)


def _google(model: str) -> Target:
    return Target(provider="g", model=model, dialect="gemini", base="https://g.test/v1beta")


def _sent(model: str, **asks: Any) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    body = json.dumps({"model": "m", "prompt": "a cat"} | asks).encode()
    asked, adapter, target = OP.check(body, JSON), OP.adapters["gemini"], _google(model)
    sent = adapter.write(body, asked, target)
    return adapter.endpoint(target, asked)[0], json.loads(sent.body), sent.dropped


def test_imagen_predicts() -> None:
    url, sent, dropped = _sent("imagen-4.0-generate-001", n=2, size="1792x1024", quality="hd")
    assert url == "https://g.test/v1beta/models/imagen-4.0-generate-001:predict"
    assert sent == {"instances": [{"prompt": "a cat"}], "parameters": {"sampleCount": 2, "aspectRatio": "16:9"}}
    assert dropped == ("size", "quality")
    assert _sent("imagen-4.0-generate-001", size="auto")[1]["parameters"] == {"sampleCount": 1}


def test_gemini_draws() -> None:
    url, sent, dropped = _sent("gemini-2.5-flash-image", size="1024x1536")
    assert url == "https://g.test/v1beta/models/gemini-2.5-flash-image:generateContent"
    assert sent["contents"] == [{"role": "user", "parts": [{"text": "a cat"}]}]
    assert sent["generationConfig"] == {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "2:3"}}
    assert dropped == ("size",)


CANNOT = [
    ({"response_format": "url"}, "response_format"),
    ({"n": 2}, "n"),
    ({"size": "big"}, "size"),
    ({"size": "0x10"}, "size"),
    ({"size": "9" * 5000 + "x1"}, "size"),
]


@pytest.mark.parametrize(("asks", "param"), CANNOT)
def test_what_gemini_cannot(asks: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as caught:
        _sent("gemini-2.5-flash-image", **asks)
    assert (caught.value.status, caught.value.param) == (400, param)


def _read(model: str, answer: object, header: Any = recorded.no_header) -> Any:
    asked = OP.check(b'{"model":"m","prompt":"a"}', JSON)
    return OP.adapters["gemini"].read(200, json.dumps(answer).encode(), header, asked, _google(model))


def test_imagen_answers() -> None:
    found = [{"bytesBase64Encoded": PNG, "mimeType": "image/png", "prompt": "a fat cat"}, {"raiFilteredReason": "no"}]
    date = {b"date": b"Sun, 22 Nov 2026 22:00:00 GMT"}.get
    answer = json.loads(_read("imagen-4", {"predictions": found}, date).body)
    assert answer == {"created": 1795384800, "data": [{"b64_json": PNG, "revised_prompt": "a fat cat"}]}
    nothings: list[dict[str, Any]] = [{}, {"predictions": []}, {"predictions": [{"raiFilteredReason": "unsafe"}]}]
    for nothing in nothings:
        with pytest.raises(Problem, match="drew nothing") as caught:
            _read("imagen-4", nothing)
        assert (caught.value.status, caught.value.code) == (400, "content_policy_violation")


def _candidate(*parts: dict[str, Any], finish: str = "STOP") -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}]}


def test_gemini_answers() -> None:
    counts = {
        "promptTokenCount": 4,
        "candidatesTokenCount": 1290,
        "totalTokenCount": 1294,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    }
    drawn = _candidate({"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": PNG}})
    answer = _read("gemini-2.5-flash-image", drawn | {"usageMetadata": counts})
    assert json.loads(answer.body)["data"] == [{"b64_json": PNG}]
    assert json.loads(answer.body)["usage"] == {"input_tokens": 4, "output_tokens": 1290, "total_tokens": 1294}
    assert answer.usage.image_out == 1290
    with pytest.raises(Problem, match="no image"):
        _read("gemini-2.5-flash-image", _candidate({"text": "I cannot draw"}))
    with pytest.raises(Problem, match="drew nothing") as caught:
        _read("gemini-2.5-flash-image", _candidate(finish="SAFETY"))
    assert caught.value.status == 400


REFUSED = [
    (b'{"prompt":"a"}', "model"),
    (b'{"model":"m"}', "prompt"),
    (b'{"model":"m","prompt":"a","n":0}', "n"),
    (b'{"model":"m","prompt":"a","response_format":"gif"}', "response_format"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_refused(body: bytes, param: str) -> None:
    with pytest.raises(Problem) as caught:
        OP.check(body, JSON)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_recorded_drawing() -> None:
    (i,) = (i for i in recorded.kit().interactions if i["id"] == "vertex-2265012612")
    prompt = json.loads(recorded.request(i))["contents"][0]["parts"][0]["text"]
    asks, target = json.dumps({"model": "m", "prompt": prompt}).encode(), recorded.target(i)
    asked, adapter = OP.check(asks, JSON), OP.adapters["gemini"]
    assert adapter.endpoint(target, asked)[0] == i["request"]["url"]
    answer = adapter.read(200, recorded.body(i), recorded.header(i), asked, target)
    want = recorded.said(i)
    parts = json.loads(recorded.body(i))["candidates"][0]["content"]["parts"]
    (data,) = (part["inlineData"]["data"] for part in parts if "inlineData" in part)
    assert json.loads(answer.body)["data"] == [{"b64_json": data}]
    assert want["media_out"] == ["image"]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        want["usage"]["prompt_tokens"],
        want["usage"]["completion_tokens"],
    )
