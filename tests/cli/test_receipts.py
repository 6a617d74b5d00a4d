"""`lilliput receipts`: a gateway keeps them when it is told to, and anyone can verify them and a kept answer."""

from __future__ import annotations

import asyncio
import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import lilliput

from lilliput.cli.receipts import kept, listing, show, verify
from lilliput.config import Config, Home, ReceiptsTable
from lilliput.gateway.chat import Chat
from lilliput.gateway.observe import Record
from lilliput.neutral import Key, Problem
from lilliput.store import receipts as stored

ON = Config(receipts=ReceiptsTable(on=True))
ANSWER = b'data: {"a":1}\n\ndata: [DONE]\n\n'


class Visit:
    """A visit that goes nowhere."""

    key, body, method, target = Key(id="k1"), b"{}", b"POST", b"/"
    has_started = False

    def __init__(self, id: str) -> None:
        self.request_id = id.encode()

    def start(self, *_: object) -> None: ...
    def write(self, *_: object) -> None: ...
    def finish(self) -> None: ...


def serve(home: Path, *ids: str) -> None:
    """A gateway's worker that answers so many requests, and stops."""
    with kept(Home(home), ON, None) as receipts:
        assert receipts is not None
        for id in ids:
            visit: Any = Visit(id)
            record = Record(request_id=visit.request_id, operation="chat", key_id="k1", began_at=1e9, served_by="p/m")
            seat = receipts.open(visit, Chat("chat", "openai_chat"), record)
            seat.start(200, b"")
            seat.write(ANSWER[:9])
            seat.write(ANSWER[9:])
            seat.finish()
            asyncio.run(seat.closed(record))


def at(home: Path) -> dict[str, str]:
    return {"LILLIPUT_HOME": str(home)}


def test_they_are_off_unless_told(tmp_path: Path) -> None:
    with kept(Home(tmp_path), Config(), None) as receipts:
        assert receipts is None
    assert not list(tmp_path.iterdir())


def test_list_show_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve(tmp_path, "req_a", "req_b")
    serve(tmp_path, "req_c")
    listing(at(tmp_path), 2, True)
    assert [r["id"] for r in json.loads(capsys.readouterr().out)] == ["req_b", "req_c"]
    listing(at(tmp_path), 9, False)
    assert len(capsys.readouterr().out.splitlines()) == 4
    show(at(tmp_path), "req_b", True)
    assert json.loads(capsys.readouterr().out)["record"]["served"] == "p/m"
    assert verify(at(tmp_path), (), None, None, True) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert sum(f["receipts"] for f in files) == 3
    assert all(not f["faults"] and not f["notes"] for f in files)
    with pytest.raises(Problem, match="req_z"):
        show(at(tmp_path), "req_z", False)


def test_a_kept_answer_is_the_one_delivered_or_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve(tmp_path, "req_a", "req_b")
    body = tmp_path / "answer"
    for data, status in (
        (ANSWER, 0),
        (ANSWER.replace(b"data: [", b": ping\n\ndata: ["), 0),  # what keeps a connection alive is no part of it
        *((ANSWER[:n] + bytes([ANSWER[n] ^ 1]) + ANSWER[n + 1 :], 1) for n in range(len(ANSWER))),
        (ANSWER[:-1], 1),
    ):
        body.write_bytes(data)
        assert verify(at(tmp_path), (), None, (body, "req_b"), False) == status, data
    assert "not what was delivered" in capsys.readouterr().out


def test_the_command_line(tmp_path: Path) -> None:
    serve(tmp_path, "req_a")
    (path,) = stored.files(tmp_path / "data" / "receipts")
    key = stored.public_hex(stored.signing_key(tmp_path / "keys" / "receipts.key"))
    answer = tmp_path / "answer"
    answer.write_bytes(ANSWER)
    elsewhere = tmp_path / "elsewhere"
    good = lilliput(elsewhere, "receipts", "verify", str(path), "--public-key", key, "--answer", str(answer), "req_a")
    assert (good.returncode, good.stderr) == (0, "")
    assert "sound, 1 receipts" in good.stdout
    path.write_bytes(path.read_bytes().replace(b'"k1"', b'"k2"'))
    bad = lilliput(tmp_path, "receipts", "verify")
    assert (bad.returncode, "DAMAGED" in bad.stdout) == (1, True)
    none = lilliput(elsewhere, "receipts", "list")
    assert none.returncode == 0
    for args, say in (
        (("verify",), "[receipts]"),
        (("verify", str(path), "--public-key", "xyz"), "64 hex digits"),
        (("verify", str(tmp_path / "none")), "No such file"),
    ):
        got = lilliput(elsewhere, "receipts", *args)
        assert got.returncode in (1, 2)
        assert say in got.stderr


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def bare(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", bare)
    with pytest.raises(Problem, match=r"lilliput\[receipts\]"), kept(Home(tmp_path), ON, None):
        pass
