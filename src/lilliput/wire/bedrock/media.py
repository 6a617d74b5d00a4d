"""Media as Converse's content blocks: bytes or a place in S3, a format's short name, and names for documents."""

from __future__ import annotations

import re

from lilliput.neutral import Media, Problem
from lilliput.wire.openai.media import mime_of

_FORMATS = {
    "image": frozenset({"png", "jpeg", "gif", "webp"}),
    "audio": frozenset({"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "m4a", "pcm", "webm"}),
    "video": frozenset({"mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp"}),
    "document": frozenset({"pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"}),
}
_WORDS = {
    "jpg": "jpeg",
    "x-wav": "wav",
    "wave": "wav",
    "vnd.wave": "wav",
    "mpga": "mp3",
    "x-m4a": "m4a",
    "quicktime": "mov",
    "x-matroska": "mkv",
    "x-flv": "flv",
    "x-ms-wmv": "wmv",
    "3gpp": "three_gp",
    "3gp": "three_gp",
    "plain": "txt",
    "json": "txt",
    "markdown": "md",
    "x-markdown": "md",
    "htm": "html",
    "msword": "doc",
    "vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "vnd.ms-excel": "xls",
    "vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
"""A media type's second half, or a file name's end -> Bedrock's word, where the two differ."""
_UNFIT = re.compile(r"[^A-Za-z0-9\-()\[\]]+")
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}$")


class Documents:
    """Names for the documents of one request: Bedrock wants one for each, no two alike."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, given: str | None) -> str:
        """`given` in the characters that Bedrock takes: letters, digits, single blanks, `-()[]`."""
        plain = _UNFIT.sub(" ", _ENDING.sub("", given or "")).strip()[:190] or "Document"
        name, n = plain, 1
        while name in self._taken:
            n += 1
            name = f"{plain} {n}"
        self._taken.add(name)
        return name


def write_media(m: Media, documents: Documents) -> dict[str, object]:
    """The content block for `m`; raises Problem (400) for what Bedrock does not take."""
    kind, word = _kind_and_format(m)
    if m.data is not None:
        source: dict[str, object] = {"bytes": m.data}
    elif m.url is not None and m.url.startswith("s3://"):
        source = {"s3Location": {"uri": m.url}}
    else:
        what = "a file id" if m.url is None else f"{m.url[:80]!r}"
        say = f"Amazon Bedrock takes media as data or from s3:// alone, not {what}; send the {m.kind}'s data"
        raise Problem("client", say, code="unsupported_media")
    if word not in _FORMATS[kind]:
        known = ", ".join(sorted(_FORMATS[kind]))
        raise Problem(
            "client", f"Amazon Bedrock takes no {kind} of type {word!r}; send one of {known}", code="unsupported_media"
        )
    name = {"name": documents.name(m.name)} if kind == "document" else {}
    return {kind: {"format": word, **name, "source": source}}


def _kind_and_format(m: Media) -> tuple[str, str]:
    """Bedrock's kind and its word for the format; a file that is a picture, sound or film is sent as that."""
    ending = _ENDING.search((m.url if m.data is None else m.name) or "")
    if ending is not None and m.mime is None and (m.data is None or m.kind == "file"):
        top, word = "", ending.group()[1:].lower()
    else:
        top, _, word = mime_of(m).partition(";")[0].strip().partition("/")
    word = _WORDS.get(word, word)
    kind: str = m.kind
    if kind == "file":
        kind = top if top in _FORMATS else next((k for k in _FORMATS if word in _FORMATS[k]), "document")
    if kind == "audio" and word == "mpeg":
        word = "mp3"
    elif kind == "document" and top == "text" and word not in _FORMATS["document"]:
        word = "txt"
    return kind, word
