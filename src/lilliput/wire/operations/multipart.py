"""multipart/form-data (RFC 7578): a whole body taken apart into its parts, and put together again.

Strict, since two readers that differ are how a check is slipped past: every line ends in CRLF, nothing stands before
the first boundary or after the last, and a part's content is never encoded. What is written is made of the parts that
were read, so a provider sees what was checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

from msgspec import Struct

from lilliput.neutral import Problem

MOST_PARTS = 128
MOST_HEADER_BYTES = 8192

_BOUNDARY = re.compile(r""";[ \t]*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))[ \t]*(?:;|$)""", re.I)
_CHARACTERS = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
"""What a boundary may be made of (RFC 2046, 5.1.1)."""
_ONE = rb'[ \t]*+;[ \t]*+([\w!#$&+.^`|~*-]++)=(?:"((?:[^"\\]|\\.)*+)"|([^\s";]++))'
_PARAMETER = re.compile(_ONE)
_DISPOSITION = re.compile(rb"form-data((?:%b)*+)[ \t]*+;?" % _ONE, re.I)
_ESCAPED = re.compile(rb'\\(["\\])')
_MIME = re.compile(r"[\w.+-]+/[\w.+-]+(?:\s*;[\x20-\x7e]*)?")


class Part(Struct, frozen=True, gc=False):
    """One field of a form; `filename` is None for a field that is no file."""

    name: str
    data: memoryview
    filename: str | None = None
    mime: str | None = None

    @property
    def text(self) -> str:
        """The content as text; raises Problem (400) when it is none."""
        try:
            return bytes(self.data).decode()
        except UnicodeDecodeError:
            _refuse(f"the form's field {self.name!r} is not UTF-8", self.name)


class Form(Struct, frozen=True):
    parts: tuple[Part, ...]
    boundary: bytes

    def first(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)

    def texts(self, *names: str) -> list[str]:
        """What the fields of these names hold."""
        return [part.text for part in self.parts if part.name in names]

    def once(self, name: str) -> str | None:
        """What the field holds, None when it is absent; raises Problem (400) when it stands there twice."""
        found = self.texts(name)
        if len(found) > 1:
            _refuse(f"the field {name!r} stands twice in the form", name)
        return found[0] if found else None


def is_multipart(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def content_type(boundary: bytes) -> str:
    return f'multipart/form-data; boundary="{boundary.decode()}"'


def parse(body: bytes, content_type: str) -> Form:
    """The parts of `body`, whose data are views of it; raises Problem (400) for what is no form."""
    boundary = _boundary(content_type)
    line = b"--" + boundary
    if not body.startswith(line):
        _refuse("the body does not begin with the boundary that its content type names")
    parts: list[Part] = []
    here = len(line)
    view = memoryview(body)
    while body[here : here + 2] != b"--":
        if len(parts) == MOST_PARTS:
            _refuse(f"the form has over {MOST_PARTS} parts; send fewer")
        if body[here : here + 2] != b"\r\n":
            _refuse("a boundary is not on a line of its own")
        end = body.find(b"\r\n" + line, here)
        if end < 0:
            _refuse("the form has no closing boundary: it was cut, or its boundary stands nowhere")
        head = body.find(b"\r\n\r\n", here, min(end, here + MOST_HEADER_BYTES))
        if head < 0:
            _refuse("a part of the form has no headers, or too long ones")
        parts.append(_part(body[here + 2 : head], view[head + 4 : end]))
        here = end + 2 + len(line)
    if body[here + 2 :].strip(b"\r\n"):
        _refuse("something stands after the form's closing boundary")
    return Form(tuple(parts), boundary)


def write(parts: Iterable[Part], boundary: bytes) -> bytes:
    """The body with `parts`; `boundary` may stand in none of them."""
    out: list[bytes | memoryview] = []
    for part in parts:
        head = b'--%b\r\nContent-Disposition: form-data; name="%b"' % (boundary, _escaped(part.name))
        if part.filename is not None:
            head += b'; filename="%b"' % _escaped(part.filename)
        if part.mime is not None:
            head += b"\r\nContent-Type: %b" % part.mime.encode()
        out += (head + b"\r\n\r\n", part.data, b"\r\n")
    out.append(b"--%b--\r\n" % boundary)
    return b"".join(out)


def with_text(form: Form, name: str, text: str) -> Sequence[Part]:
    """The form's parts with `text` for the field `name`, wherever it stood."""
    data = memoryview(text.encode())
    if form.boundary in bytes(data):
        _refuse("the form's boundary stands in what is sent", name)
    return (Part(name, data), *(part for part in form.parts if part.name != name))


def _boundary(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type) if is_multipart(content_type) else None
    boundary = (found.group(1) or found.group(2)) if found else ""
    if not _CHARACTERS.fullmatch(boundary):
        _refuse("send multipart/form-data, with its boundary in the content type")
    return boundary.encode()


def _part(head: bytes, data: memoryview) -> Part:
    """A part by its headers; those that say nothing about a form (a length, say) are left behind."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name.strip() != name or b"\n" in line or b"\r" in line or name in headers:
            _refuse("a part of the form has a header that cannot be read")
        headers[name] = value.strip()
    found = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
    given = _PARAMETER.findall(found.group(1)) if found else []
    names = {name.lower(): _ESCAPED.sub(rb"\1", quoted) or plain for name, quoted, plain in given}
    if b"name" not in names or len(names) != len(given):
        _refuse("a part of the form does not say once which field it is")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
        _refuse("a part of the form is encoded; send its bytes as they are")
    try:
        field = names[b"name"].decode()
        filename = names[b"filename"].decode() if b"filename" in names else None
        mime = headers[b"content-type"].decode("ascii") if b"content-type" in headers else None
    except UnicodeDecodeError:
        _refuse("a part of the form has a name that is not UTF-8")
    if mime is not None and not _MIME.fullmatch(mime):
        _refuse("a part of the form has a content type that is none", field)
    return Part(field, data, filename, mime)


def _escaped(name: str) -> bytes:
    """A name as WHATWG's form encoding has it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode()


def _refuse(say: str, param: str | None = None) -> NoReturn:
    raise Problem("client", say, code="invalid_multipart", param=param)
