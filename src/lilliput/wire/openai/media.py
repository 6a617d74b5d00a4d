"""Images, sound, video and files between OpenAI's content parts and `Media`."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

from lilliput.neutral import Media, MediaKind, Problem
from lilliput.wire.openai.types import Link, Part, Sound, missing

_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]++={0,2}\s*+")
URL_SAFE = str.maketrans("-_", "+/")

_MAGIC = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("JVBERi", "application/pdf"),
    ("SUQz", "audio/mpeg"),
    ("//t", "audio/mpeg"),
    ("//P", "audio/mpeg"),
    ("T2dnUw", "audio/ogg"),
    ("ZkxhQ", "audio/flac"),
)
"""How base64 of a well-known format begins."""

_DEFAULT_MIME: dict[MediaKind, str] = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "file": "application/pdf",
}
_SOUND_MIME = {"mp3": "audio/mpeg"}
_SOUND_FORMAT = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "mpga": "mp3"}


def from_link(kind: MediaKind, link: str, *, name: str | None = None, detail: str | None = None) -> Media:
    """Media from a data URL, any other URL, or bare base64."""
    if link[:5].lower() == "data:":
        head, comma, data = link[5:].partition(",")
        if not comma:
            raise Problem("client", "a data URL has no comma; write data:<type>;base64,<data>", code="invalid_value")
        mime, *options = head.split(";")
        if any(o.strip().lower() == "base64" for o in options):
            data = data.translate(URL_SAFE)
        else:
            data = base64.b64encode(unquote_to_bytes(data)).decode()
        return Media(kind, mime=mime.strip().lower() or None, data=data, name=name, detail=detail)
    if _BASE64.fullmatch(link):
        return Media(kind, data=link.translate(URL_SAFE), name=name, detail=detail)
    return Media(kind, url=link, name=name, detail=detail)


def read_media(part: Part, at: str) -> Media | None:
    """The media in a content part of a type that we know, None for other types; `at` names the part in errors."""
    if part.type == "image_url":
        link = part.image_url
        detail = link.detail if isinstance(link, Link) else None
        return from_link("image", _url(link, f"{at}.image_url"), detail=detail)
    if part.type == "input_audio":
        return _sound(part.input_audio, at)
    if part.type == "audio_url":
        return from_link("audio", _url(part.audio_url, f"{at}.audio_url"))
    if part.type == "video_url":
        return from_link("video", _url(part.video_url, f"{at}.video_url"))
    if part.type == "document_url":
        return from_link("file", _url(part.document_url, f"{at}.document_url"))
    if part.type == "file_url":
        return from_link("file", _url(part.file_url, f"{at}.file_url"))
    if part.type == "file":
        file = part.file
        if file is not None and file.file_data:
            return from_link("file", file.file_data, name=file.filename)
        if file is not None and file.file_id is not None:
            return Media("file", file_id=file.file_id, name=file.filename)
        missing(f"{at}.file.file_data")
    return None


def write_media(m: Media) -> dict[str, object]:
    """The content part for `m`; what OpenAI has no part for takes the name that vLLM and OpenRouter gave it."""
    if m.file_id is not None or m.kind == "file":
        file = {"filename": m.name} if m.name is not None else {}
        if m.file_id is not None:
            return {"type": "file", "file": {**file, "file_id": m.file_id}}
        return {"type": "file", "file": {"filename": "file", **file, "file_data": data_url(m)}}
    if m.kind == "audio":
        if m.data is None:
            return {"type": "audio_url", "audio_url": {"url": m.url or ""}}
        subtype = mime_of(m).rpartition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": m.data, "format": _SOUND_FORMAT.get(subtype, subtype)}}
    if m.kind == "video":
        return {"type": "video_url", "video_url": {"url": data_url(m)}}
    link = {"url": data_url(m)} if m.detail is None else {"url": data_url(m), "detail": m.detail}
    return {"type": "image_url", "image_url": link}


def data_url(m: Media) -> str:
    """The URL of `m`, its data as a data URL."""
    return m.url or "" if m.data is None else f"data:{mime_of(m)};base64,{m.data}"


def mime_of(m: Media) -> str:
    """What `m` says it is, else what its first bytes say, else the kind's most usual."""
    if m.mime:
        return m.mime
    data = m.data or ""
    if data.startswith("UklGR"):
        return "audio/wav" if m.kind == "audio" else "image/webp"
    return next((mime for magic, mime in _MAGIC if data.startswith(magic)), _DEFAULT_MIME[m.kind])


def _sound(sound: Sound | str | None, at: str) -> Media:
    if sound is None:
        missing(f"{at}.input_audio")
    if isinstance(sound, str):
        return from_link("audio", sound)
    if ":" in sound.data:
        return from_link("audio", sound.data)
    mime = _SOUND_MIME.get(sound.format, f"audio/{sound.format}") if sound.format else None
    return Media("audio", mime=mime, data=sound.data.translate(URL_SAFE))


def _url(link: Link | str | None, at: str) -> str:
    url = link.url if isinstance(link, Link) else link
    if not url:
        missing(f"{at}.url")
    return url
