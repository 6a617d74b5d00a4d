"""What goes to the provider and what comes back: bytes pass as they are, but for the few that are ours to change."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.gateway.rig import (
    ASK,
    CHAT,
    DONE,
    STREAM,
    STREAM_HEAD,
    USAGE,
    VECTORS,
    Answered,
    Provider,
    Rig,
    answering,
    by_wish,
    chunk,
    framed,
    json_answer,
    rig,
    run,
    whole,
)

from lilliput.neutral import Key

fields = msgspec.json.Decoder(dict[str, Raw]).decode

# Bodies whose values a decoder and encoder would write otherwise.
BODIES: list[tuple[str, bytes]] = [
    ("compact", b'{"model":"p/m","messages":[{"role":"user","content":"hi"}]}'),
    ("spaced", b'{ "model" : "p/m" ,\n\t"messages" : [ {"role" : "user", "content" : "hi"} ] , "n" : 1 }\n'),
    (
        "numbers",
        b'{"temperature":1.0,"top_p":1e0,"seed":0,"presence_penalty":-0.0,"x":1e400,"y":1E+2,"model":"p/m",'
        b'"messages":[{"role":"user","content":"hi"}],"z":123456789012345678901234567890}',
    ),
    ("escapes", b'{"model":"p/m","messages":[{"role":"user","content":"\\u00e9\\/\\ud83e\\udd93 \\n"}],"x":"\\u0061"}'),
    ("UTF-8", '{"model":"p/m","messages":[{"role":"user","content":"é\u2028🦓"}]}'.encode()),
    ("unknown fields", b'{"model":"p/m","x":{"order":["a"]},"messages":[{"role":"user","content":"hi","x":[{}]}]}'),
    ("nulls", b'{"model":"p/m","tools":null,"stop":null,"messages":[{"role":"user","content":"hi","name":null}]}'),
    ("an odd model name", '{"model":"p/é\\"[]:","messages":[{"role":"user","content":"hi"}]}'.encode()),
    ("a key that needs escaping", b'{"model":"p/m","messages":[{"role":"user","content":"hi"}],"a\\"b":1}'),
]


@pytest.mark.parametrize(("name", "body"), BODIES, ids=[row[0] for row in BODIES])
@pytest.mark.parametrize("stream", [False, True])
def test_every_value_reaches_the_provider_as_it_was_written(name: str, body: bytes, stream: bool) -> None:
    if stream:
        body = body.rstrip()[:-1] + b',"stream":true}'

    async def main() -> None:
        async with rig() as r:
            assert (await r.ask("POST", CHAT, body)).status == 200
            sent, came = fields(body), fields(r.provider.bodies[0])
            assert json.loads(bytes(came.pop("model"))) == json.loads(bytes(sent.pop("model"))).removeprefix("p/")
            if stream:
                assert json.loads(bytes(came.pop("stream_options"))) == {"include_usage": True}
            assert list(came) == list(sent)
            assert {k: bytes(v) for k, v in came.items()} == {k: bytes(v) for k, v in sent.items()}

    run(main())


@pytest.mark.parametrize(
    "body", [whole(), b' {"choices" : [ {"x": 1.0e0, "y":"\\u00e9"} ] } \n', whole(system_fingerprint=None)]
)
def test_a_whole_answer_comes_back_as_it_was_written(body: bytes) -> None:
    async def main() -> None:
        async with rig(answering(json_answer(body, 200, "x-ratelimit-limit: 9\r\nset-cookie: a=b\r\n"))) as r:
            answer = await r.chat()
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["content-type"] == "application/json"
            assert "set-cookie" not in answer.headers

    run(main())


COUNTS = b'{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
SPACED = b'data: {"choices" : [ ] , "usage" : {"prompt_tokens" : 3, "completion_tokens" : 2 , "total_tokens" : 5} }\n\n'
GROQ = (
    b'data: {"choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}\n\n'
)
# name, what the client asks, what the provider is asked, whether the client sees the usage chunk
OPTIONS: list[tuple[str, Any, dict[str, Any], bool]] = [
    ("none", None, {"include_usage": True}, False),
    ("empty", {}, {"include_usage": True}, False),
    ("false", {"include_usage": False}, {"include_usage": True}, False),
    ("null inside", {"include_usage": None}, {"include_usage": True}, False),
    ("another", {"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}, False),
    ("an unknown one", {"x": [1]}, {"x": [1], "include_usage": True}, False),
    ("true", {"include_usage": True}, {"include_usage": True}, True),
    ("true and another", {"include_usage": True, "x": 1}, {"include_usage": True, "x": 1}, True),
]


@pytest.mark.parametrize(("name", "given", "sent", "sees"), OPTIONS, ids=[row[0] for row in OPTIONS])
@pytest.mark.parametrize("usage", [USAGE, SPACED, GROQ], ids=["compact", "spaced", "groq"])
def test_usage_is_always_asked_for(name: str, given: Any, sent: dict[str, Any], sees: bool, usage: bytes) -> None:
    async def main() -> None:
        stream = [*STREAM[:4], usage, DONE]
        async with rig(answering(STREAM_HEAD + framed(*stream))) as r:
            answer = await r.chat(stream=True, stream_options=given)
            assert json.loads(r.provider.bodies[0])["stream_options"] == sent
            assert answer.body == b"".join(stream if sees else [*STREAM[:4], DONE])
            assert r.counted("lilliput_tokens_total", model="m", kind="input") == 3
            assert r.counted("lilliput_tokens_total", model="m", kind="output") == 2

    run(main())


def test_usage_is_not_asked_for_where_nothing_streams() -> None:
    async def main() -> None:
        async with rig() as r:
            assert (await r.chat(stream=False)).status == 200
            assert "stream_options" not in json.loads(r.provider.bodies[0])
            assert r.counted("lilliput_tokens_total", kind="output") == 2

    run(main())


def test_odd_usage_is_passed_but_not_counted() -> None:
    async def main() -> None:
        for usage in (
            {"prompt_tokens": "x"},
            {"prompt_tokens": 10**30},
            {"prompt_tokens": -1},
            {"prompt_tokens": None},
            {},
        ):
            stream = [
                *STREAM[:4],
                USAGE.replace(
                    b'{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}', json.dumps(usage).encode()
                ),
                DONE,
            ]
            async with rig(answering(STREAM_HEAD + framed(*stream))) as r:
                answer = await r.chat(stream=True, stream_options={"include_usage": True})
                assert answer.body == b"".join(stream)
                assert r.counted("lilliput_tokens_total") == 0

    run(main())


HOSTILE = ["\n\ndata: [DONE]\n\n", "\r\n\r\nevent: x", "\u2028\u2029\u0085", "\x1b[2J", "\x00", '"}]}', "</script>"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_says_cannot_end_its_stream(text: str) -> None:
    async def main() -> None:
        said = chunk({"content": text})
        async with rig(answering(STREAM_HEAD + framed(said, STREAM[3], DONE))) as r:
            answer = await r.chat(stream=True)
            assert answer.body == said + STREAM[3] + DONE
            assert json.loads(answer.events[0])["choices"][0]["delta"]["content"] == text

    run(main())


def test_events_are_written_anew() -> None:
    """Fields of the provider's framing do not reach the client: names, ids, retries, comments, odd line ends."""
    framing = b"retry: 1\r\nid: 7\r\nevent: x\r\n: note\r\n"
    events = [framing + e.replace(b"\n", b"\r\n") for e in STREAM]

    async def main() -> None:
        async with rig(answering(STREAM_HEAD + framed(*events))) as r:
            assert (await r.chat(stream=True)).body == b"".join([*STREAM[:4], DONE])

    run(main())


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_a_stream_cut_anywhere_is_the_same_stream(size: int) -> None:
    async def pieces(provider: Provider, body: bytes, reader: Any, writer: Any) -> None:
        data = b"".join(STREAM)
        writer.write(STREAM_HEAD)
        for at in range(0, len(data), size):
            writer.write(framed(data[at : at + size], end=False))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def main() -> None:
        async with rig(pieces) as r:
            assert (await r.chat(stream=True)).body == b"".join([*STREAM[:4], DONE])

    run(main())


def test_the_row_s_quirks_are_applied() -> None:
    quirks: dict[str, Any] = {
        "rename": {"max_completion_tokens": "max_tokens"},
        "drop": ("logprobs", "stream_options"),
        "clamp": {"temperature": (0.0, 1.0)},
        "force": {"safe": True, "metadata": {"a": [1]}},
    }

    async def main() -> None:
        async with rig(**quirks) as r:
            asked = {"max_completion_tokens": 5, "logprobs": True, "temperature": 1.5, "stream": True}
            assert (await r.chat(**asked)).status == 200
            came = json.loads(r.provider.bodies[0])
            assert came == {
                "model": "m",
                "messages": ASK["messages"],
                "max_tokens": 5,
                "temperature": 1,
                "stream": True,
                "safe": True,
                "metadata": {"a": [1]},
            }

    run(main())


VECTOR_BODIES: list[tuple[dict[str, Any], int, str | None]] = [
    ({"model": "p/m", "input": "hi"}, 200, None),
    (
        {"model": "p/m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 3, "user": "u", "x": 1},
        200,
        None,
    ),
    ({"model": "p/m", "input": [1, 2, 3]}, 200, None),
    ({"model": "p/m", "input": [[1], [2]]}, 200, None),
    ({"model": "p/m", "input": ""}, 400, "input"),
    ({"model": "p/m", "input": []}, 400, "input"),
    ({"model": "p/m"}, 400, "input"),
    ({"model": "p/m", "input": {"a": 1}}, 400, "input"),
    ({"model": "p/m", "input": [None]}, 400, None),
    ({"model": "p/m", "input": "a", "dimensions": 0}, 400, "dimensions"),
    ({"model": "p/m", "input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
    ({"model": "", "input": "a"}, 400, "model"),
    ({"model": "p/m\r\nx-evil: 1", "input": "a"}, 400, "model"),
    ({"input": "a"}, 400, "model"),
    ({"model": "q/none", "input": "a"}, 404, "model"),
]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/openai/v1/embeddings"])
def test_embeddings(path: str) -> None:
    async def main() -> None:
        async with rig() as r:
            for body, status, param in VECTOR_BODIES:
                r.provider.bodies.clear()
                answer = await r.ask("POST", path, body)
                assert answer.status == status, body
                if status != 200:
                    assert param is None or answer.error["param"] == param, (body, answer.error)
                    assert not r.provider.bodies
                    continue
                assert answer.body == VECTORS
                assert json.loads(r.provider.bodies[0]) == {**body, "model": "m"}

    run(main())


async def scoped(r: Rig, key: Key, **asked: Any) -> Answered:
    r.gate.find_key = lambda token: key
    return await r.chat(**asked)


def test_a_scoped_key_calls_what_it_may() -> None:
    async def main() -> None:
        async with rig() as r:
            assert (await scoped(r, Key(id="k", models=("p/m",)))).status == 200
            assert (await scoped(r, Key(id="k"))).status == 200
            for stream in (False, True):
                answer = await scoped(r, Key(id="k", models=("p/other",)), stream=stream)
                assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
                assert answer.error["type"] == "permission_error"
            assert len(r.provider.bodies) == 2

    run(main())


def test_an_unknown_model() -> None:
    async def main() -> None:
        async with rig() as r:
            answer = await r.chat(model="q/none")
            assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
            assert r.provider.connections == 0

    run(main())


def test_no_model_name_can_add_a_header() -> None:
    async def main() -> None:
        async with rig(by_wish) as r:
            for model in ("p/m\r\nx-evil: 1", "p/m\nx", "p/\x00", "p/é", "p/中", "p/a b;c=d,e"):
                answer = await r.chat(model=model)
                assert answer.status == (400 if any(c < " " for c in model) else 200), model
                assert "x-evil" not in answer.headers
                assert answer.headers["x-lilliput-route"].isascii()

    run(main())
