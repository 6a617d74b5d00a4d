"""The operations that are no chat: what is asked for at which path, and what must arrive and come back.

A recorded request of any provider is put into the form of the one client dialect there is; what reaches the provider
and what the client gets is judged by their content: texts, vectors, scores, words.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct
from tests.conformance import judge
from tests.conformance.cases import OUR_KEY, OWN_WAYS, WAYS, Row, Way
from tests.conformance.client import Heard
from tests.conformance.kit import Facts, Interaction, Kit

FORM = "multipart/form-data; boundary=conformance"
_OPENAI = Way("openai_chat", "/v1", ())
_WAYS: dict[str, Way] = {
    "azure": OWN_WAYS["openai.chat", "azure"],
    "bedrock": WAYS["bedrock.converse"],
    "cohere": WAYS["cohere.v2"],
    "deepgram": Way("deepgram", "/v1", ()),
    "gemini": WAYS["gemini.generate"],
    "mistral": OWN_WAYS["openai.chat", "mistral"],
    "ollama": WAYS["ollama.chat"],
    "vertex": OWN_WAYS["gemini.generate", "vertex"],
    "voyage": Way("voyage", "/v1", ()),
}


class Asked(Struct, frozen=True):
    """A request in the client's form: `fields` but for the model, `told` what must reach the provider."""

    fields: dict[str, Any]
    told: list[str]
    file: bytes | None = None

    def body(self, model: str) -> tuple[bytes, str]:
        """The body and its content type."""
        if self.file is None:
            return json.dumps({**self.fields, "model": model}).encode(), "application/json"
        parts = [_part(name, str(value).encode()) for name, value in {**self.fields, "model": model}.items()]
        parts.append(_part("file", self.file, '; filename="audio.wav"\r\nContent-Type: audio/wav'))
        return b"".join(parts) + b"--conformance--\r\n", FORM


def _part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--conformance\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


class Work(Struct, frozen=True, kw_only=True):
    """One interaction to be judged, as `cases.Case` is for chats."""

    id: str
    api: str
    provider: str
    model: str
    way: Way
    plain: Row
    split: Row
    asked: Asked
    interaction: Interaction
    note: str = ""

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.plain, self.split)


class Operation(Struct, frozen=True):
    """`ask` puts a recorded request into the client's form (None where it has no such form), `content` reads an
    answer of any provider; both are given the interaction or the body as it came."""

    path: str
    ask: Callable[[Kit, Interaction], Asked | None]
    content: Callable[[bytes], Any]


def judged(interaction: Interaction, api: str | None = None) -> bool:
    return (
        interaction["api"] in OPERATIONS
        and api in (None, interaction["api"])
        and not interaction["wire"].startswith("body-only")
    )


def work(kit: Kit, interaction: Interaction) -> Work | None:
    """What to send for an interaction; None where OpenAI's form cannot carry it."""
    asked = OPERATIONS[interaction["api"]].ask(kit, interaction)
    if asked is None:
        return None
    name, url = interaction["id"], interaction["request"]["url"]
    note = ""
    if interaction["response"]["status"] in OUR_KEY:
        note = "the provider refused the gateway's key: the caller gets 502 provider_auth"
    elif "translations" in url or "/v2/audio" in url:
        note = f"recorded at {urlsplit(url).path}, played at the dialect's path"
    any_path = "~anypath=1" if note.startswith("recorded") else ""
    return Work(
        id=name,
        api=interaction["api"],
        provider=interaction["provider"],
        model=_model(kit, interaction),
        way=_WAYS.get(interaction["provider"], _OPENAI),
        plain=Row(f"r-{name}", name, any_path),
        split=Row(f"r-{name}-split", name, f"{any_path}~split=17"),
        asked=asked,
        interaction=interaction,
        note=note,
    )


def _model(kit: Kit, interaction: Interaction) -> str:
    url = urlsplit(interaction["request"]["url"])
    named = (kit.request(interaction) or {}).get("model") or _form(kit, interaction)[0].get("model")
    in_path = re.search(r"/(?:models?|deployments)/([^/:]+(?:%3A\d+|:\d+)?)", url.path)
    return str(named or parse_qs(url.query).get("model", [""])[0] or (in_path and unquote(in_path[1])) or "m")


# -- judging -----------------------------------------------------------------------------------------------------


def request(w: Work, arrived: list[Facts]) -> str:
    """What must reach the provider, in this order and nowhere else twice."""
    if not arrived:
        return "the provider was not called"
    if not all(call["operation_ok"] for call in arrived) and not w.note:
        return f"another operation was called: {arrived[0]['path']}"
    if judge.CREDENTIALS & set(arrived[0]["headers"]):
        return "the client's own key reached the provider"
    if w.asked.file is not None:
        got = arrived[0].get("body_latin1", "").encode("latin-1")
        there = w.asked.file in got and (w.model.encode() in got or w.model in arrived[0]["query"])
        return "" if there else f"the file or the model did not arrive: {got[:100]!r} {arrived[0]['query']}"
    told = [text for call in arrived for text in _texts(call.get("json"))]
    return "" if told == w.asked.told else f"asked {w.asked.told} arrived {told}"[:300]


def answer(kit: Kit, w: Work, heard: Heard, was_called: bool) -> str:
    """The client's answer against the provider's: error, content and usage."""
    want = kit.expect.response_facts(w.interaction)
    if want["error"]:
        if not was_called and want["error"]["status"] == 400 == heard.status:
            return ""  # refused before it was sent, as the provider refuses it: in the gateway's own words
        got = kit.expect.error_facts(heard.status, heard.body)
        return judge.refusal(want["error"], got["message"], heard.status, want["error"]["status"] // 100)
    if heard.status != 200 or not heard.is_whole:
        return f"status {heard.status}, whole {heard.is_whole}: {heard.body[:200]!r}"
    read = OPERATIONS[w.api].content
    try:
        said, told = read(kit.body(w.interaction)), read(heard.body)
        got = kit.answer_facts(w.api, w.interaction["kind"], heard.status, heard.body)
    except (ValueError, LookupError, TypeError) as e:
        return f"the answer cannot be read: {type(e).__name__}: {e}: {heard.body[:100]!r}"
    if said != told:
        return f"content: want {str(said)[:120]} got {str(told)[:120]}"
    if not want.get("usage"):
        got["usage"] = None  # the parser does not look into headers, nor into Vertex's statistics
    return judge.differs(want, got, ("text", "embeddings", "dim", *(("usage",) if w.api == "embeddings" else ())))


# -- embeddings --------------------------------------------------------------------------------------------------


def _texts(j: Any) -> list[str]:
    """The texts that a body of any provider asks about, in order."""
    if not isinstance(j, dict):
        return []
    if "requests" in j:
        return [t for r in j["requests"] for t in _texts(r)]
    if "instances" in j:
        return [str(i.get("content")) for i in j["instances"]]
    if "content" in j:
        return [str(p.get("text")) for p in j["content"]["parts"]]
    found: Any = next((j[n] for n in ("input", "texts", "inputText", "prompt") if j.get(n) is not None), [])
    found = found if isinstance(found, list) else [found]
    documents = [d.get("text") if isinstance(d, dict) else d for d in j.get("documents") or ()]
    return [*(str(t) for t in found), *([str(j["query"])] if "query" in j else []), *map(str, documents)]


def _ask_embeddings(kit: Kit, interaction: Interaction) -> Asked | None:
    j = kit.request(interaction) or {}
    if "inline_data" in json.dumps(j) or "images" in j:
        return None
    texts = j["input"] if "input" in j else _texts(j)
    first = (j.get("requests") or [j])[0]
    fields = {"input": texts, "encoding_format": j.get("encoding_format"), "input_type": j.get("input_type")}
    names = ("dimensions", "output_dimension", "outputDimensionality")
    fields["dimensions"] = next((first[n] for n in names if first.get(n)), None)
    return Asked({k: v for k, v in fields.items() if v is not None}, _texts({"input": texts}))


def _vectors(raw: bytes) -> list[bytes]:
    """The vectors in an answer, as 32-bit floats."""
    j = json.loads(raw)
    if isinstance(j.get("data"), list):
        found: Iterable[Any] = [d["embedding"] for d in j["data"]]
    elif isinstance(j.get("predictions"), list):
        found = [p["embeddings"]["values"] for p in j["predictions"]]
    elif "embedding" in j:
        found = [j["embedding"]["values"] if isinstance(j["embedding"], dict) else j["embedding"]]
    elif isinstance(j["embeddings"], dict):
        found = next(v for v in j["embeddings"].values() if v)
    else:
        found = [e["values"] if isinstance(e, dict) else e for e in j["embeddings"]]
    return [base64.b64decode(v) if isinstance(v, str) else struct.pack(f"<{len(v)}f", *v) for v in found]


# -- rerank, moderation, transcription ---------------------------------------------------------------------------


def _ask_rerank(kit: Kit, interaction: Interaction) -> Asked | None:
    j = kit.request(interaction) or {}
    limit = j.get("top_n") or j.get("top_k")
    fields = {"query": j.get("query"), "documents": j.get("documents"), **({"top_n": limit} if limit else {})}
    return Asked(fields, _texts(fields))


def _scores(raw: bytes) -> list[list[float]]:
    j = json.loads(raw)
    return [[r["index"], r.get("relevance_score", r.get("relevanceScore"))] for r in j.get("results") or j["data"]]


def _ask_moderation(kit: Kit, interaction: Interaction) -> Asked | None:
    fields = {k: v for k, v in (kit.request(interaction) or {}).items() if k != "model"}
    return Asked(fields, _texts(fields))


def _form(kit: Kit, interaction: Interaction) -> tuple[dict[str, str], bytes]:
    """The fields and the file of a recorded multipart body; no file where the recorder left it out."""
    kind = interaction["request"]["headers"].get("content-type") or ""
    raw = kit.expect.body_bytes(interaction["request"])
    boundary = re.search(r'boundary="?([^";]+)', kind)
    fields, file = {}, raw if kind.startswith("audio/") else b""
    for part in raw.split(b"--" + boundary[1].encode())[1:-1] if boundary else ():
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        if b"filename=" in head:
            file = value.removesuffix(b"\r\n")
        elif name:
            fields[name[1].decode()] = value.removesuffix(b"\r\n").decode("utf-8", "replace")
    return fields, file


def _ask_transcription(kit: Kit, interaction: Interaction) -> Asked | None:
    fields, file = _form(kit, interaction)
    fields.pop("model", None)
    return Asked(fields, [], file or b"RIFF$\0\0\0WAVEfmt ")


def _words(raw: bytes) -> None:
    """Nothing but what `expect.py` tells of a transcription: its text."""


OPERATIONS: dict[str, Operation] = {
    "embeddings": Operation("/v1/embeddings", _ask_embeddings, _vectors),
    "rerank": Operation("/v1/rerank", _ask_rerank, _scores),
    "moderation": Operation("/v1/moderations", _ask_moderation, lambda raw: json.loads(raw)["results"]),
    "transcription": Operation("/v1/audio/transcriptions", _ask_transcription, _words),
}
