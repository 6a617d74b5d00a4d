"""multipart/form-data: what is read, what is refused, and that what is written reads the same."""

from __future__ import annotations

import random

import pytest
from tests.wire import modality_recordings as recorded

from lilliput.neutral import Problem
from lilliput.wire.operations import multipart
from lilliput.wire.operations.multipart import Part

KIND = "multipart/form-data; boundary=x"


def _form(*parts: bytes, boundary: bytes = b"x") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary


FIELD = b'Content-Disposition: form-data; name="model"\r\n\r\nm'
FILE = (
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n\r\n--y\r\n\x00'
)


def test_reads_fields_and_files() -> None:
    form = multipart.parse(_form(FIELD, FILE), KIND)
    assert form.once("model") == "m"
    file = form.first("file")
    assert file is not None
    assert (bytes(file.data), file.filename, file.mime) == (b"\r\n--y\r\n\x00", "a.wav", "audio/wav")
    assert form.once("other") is None


READ = [
    ("empty", b'Content-Disposition: form-data; name="a"\r\n\r\n', "a", None, b""),
    ("any case", b'CONTENT-DISPOSITION: Form-Data; NAME="a"\r\n\r\nv', "a", None, b"v"),
    ("bare words", b"Content-Disposition: form-data; name=a; filename=b\r\n\r\nv", "a", "b", b"v"),
    ("quoted", b'Content-Disposition: form-data; name="a\\"b"; filename="c;d\\\\e"\r\n\r\nv', 'a"b', "c;d\\e", b"v"),
    ("utf-8", 'Content-Disposition: form-data; name="ä"; filename="ü.mp3"\r\n\r\n'.encode(), "ä", "ü.mp3", b""),
    (
        "other headers",
        b'Content-Length: 1\r\nContent-Transfer-Encoding: binary\r\nContent-Disposition: form-data; name="a"\r\n\r\nv',
        "a",
        None,
        b"v",
    ),
]


@pytest.mark.parametrize(("why", "part", "name", "filename", "data"), READ)
def test_reads(why: str, part: bytes, name: str, filename: str | None, data: bytes) -> None:
    (got,) = multipart.parse(_form(part), KIND).parts
    assert (got.name, got.filename, bytes(got.data)) == (name, filename, data), why


REFUSED = [
    ("no boundary", _form(FIELD), "multipart/form-data"),
    ("another kind", _form(FIELD), "application/json; boundary=x"),
    ("another boundary", _form(FIELD), "multipart/form-data; boundary=y"),
    ("a boundary of odd signs", _form(FIELD), 'multipart/form-data; boundary="x\r\n"'),
    ("a boundary too long", _form(FIELD), f"multipart/form-data; boundary={'x' * 71}"),
    ("a boundary in another word", _form(FIELD), "multipart/form-data; xboundary=x"),
    ("something before", b"hello\r\n" + _form(FIELD), KIND),
    ("something after", _form(FIELD) + b"hello", KIND),
    ("cut in the closing", _form(FIELD)[:-5], KIND),
    ("cut in a part", _form(FIELD)[:-8], KIND),
    ("lone LF", _form(FIELD).replace(b"\r\n", b"\n"), KIND),
    ("no headers", _form(b"\r\n\r\nm"), KIND),
    ("no end of headers", _form(b'Content-Disposition: form-data; name="a"\r\n'), KIND),
    ("no name", _form(b"Content-Disposition: form-data\r\n\r\nm"), KIND),
    ("two names", _form(b'Content-Disposition: form-data; name="a"; name="b"\r\n\r\nm'), KIND),
    ("no disposition", _form(b"Content-Type: text/plain\r\n\r\nm"), KIND),
    ("two dispositions", _form(b"Content-Disposition: form-data; name=b\r\n" + FIELD), KIND),
    ("an attachment", _form(b'Content-Disposition: attachment; name="a"\r\n\r\nm'), KIND),
    ("a folded header", _form(b'Content-Disposition: form-data;\r\n name="a"\r\n\r\nm'), KIND),
    ("a space before the colon", _form(b'Content-Disposition : form-data; name="a"\r\n\r\nm'), KIND),
    ("encoded", _form(b"Content-Transfer-Encoding: base64\r\n" + FIELD), KIND),
    ("a name that is not UTF-8", _form(b'Content-Disposition: form-data; name="\xff"\r\n\r\nm'), KIND),
    ("a kind that is none", _form(b"Content-Type: a\r\n" + FIELD), KIND),
    ("headers too long", _form(b"A: %b\r\n" % (b"x" * 9000) + FIELD), KIND),
    ("too many parts", _form(*[FIELD] * 129), KIND),
    ("a longer boundary inside", _form(FIELD + b"\r\n--xy"), KIND),
]


@pytest.mark.parametrize(("why", "body", "kind"), REFUSED)
def test_refused(why: str, body: bytes, kind: str) -> None:
    with pytest.raises(Problem) as caught:
        multipart.parse(body, kind)
    assert (caught.value.status, caught.value.code) == (400, "invalid_multipart"), why


def test_a_field_once() -> None:
    with pytest.raises(Problem, match="twice"):
        multipart.parse(_form(FIELD, FIELD), KIND).once("model")
    with pytest.raises(Problem, match="not UTF-8"):
        multipart.parse(_form(FIELD[:-1] + b"\xff"), KIND).once("model")


def test_what_is_written_reads_the_same() -> None:
    parts = [
        Part("model", memoryview(b"m")),
        Part('a"b\r\nX: y', memoryview(b"\r\n")),
        Part("file", memoryview(bytes(range(256))), "ü.wav", "audio/wav"),
        Part("empty", memoryview(b""), ""),
    ]
    kind = multipart.content_type(b"a b'c")
    form = multipart.parse(multipart.write(parts, b"a b'c"), kind)
    assert [bytes(p.data) for p in form.parts] == [bytes(p.data) for p in parts]
    assert [(p.filename, p.mime) for p in form.parts] == [(p.filename, p.mime) for p in parts]
    assert [p.name for p in form.parts] == ["model", "a%22b%0D%0AX: y", "file", "empty"]
    assert form.boundary == b"a b'c"


def test_a_field_is_replaced_where_it_stands_and_once() -> None:
    form = multipart.parse(_form(FILE, FIELD, FIELD), KIND)
    parts = multipart.with_text(form, "model", "new")
    assert [(p.name, bytes(p.data)) for p in parts] == [("model", b"new"), ("file", b"\r\n--y\r\n\x00")]
    with pytest.raises(Problem, match="boundary"):
        multipart.with_text(form, "model", "axe")


def test_recorded_forms_read_and_write_the_same() -> None:
    seen = 0
    for i in recorded.recorded("transcription"):
        kind = i["request"]["headers"].get("content-type", "")
        if not multipart.is_multipart(kind) or not i["request"].get("body_b64"):
            continue
        form = multipart.parse(recorded.request(i), kind)
        again = multipart.parse(multipart.write(form.parts, form.boundary), kind)
        assert [(p.name, p.filename, p.mime, bytes(p.data)) for p in again.parts] == [
            (p.name, p.filename, p.mime, bytes(p.data)) for p in form.parts
        ]
        assert form.once("model")
        seen += 1
    assert seen >= 6


def test_mutated_forms_raise_only_problems() -> None:
    dice = random.Random(3)
    whole = _form(FIELD, FILE, FIELD)
    for _ in range(3000):
        raw = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(raw))
            raw[at : at + dice.randrange(4)] = bytes(dice.choice(b'\r\n-x":; a\xff') for _ in range(dice.randrange(4)))
        try:
            form = multipart.parse(bytes(raw), KIND)
            for part in form.parts:
                _ = part.text
        except Problem:
            pass
