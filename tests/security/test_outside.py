"""What the gateway does to the world: no process, no code but its own, no connection but to what is configured."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import live
from tests.gateway import calls
from tests.gateway.rig import request
from tests.security.hostile import SETTINGS, Seen, attack
from tests.security.provider import DIALECTS, Provider, config
from tests.security.watched import watched

PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "pty.spawn"}
LOADED = {"pickle.find_class", "ctypes.dlopen"}
NAMES = {"socket.getaddrinfo", "socket.gethostbyname"}
ENV = {"PROVIDER_KEY": "sk-up"}
IMPORT = """
import sys
def hook(event, args):
    if event.startswith("socket.") and event != "socket.__new__" or event == "subprocess.Popen":
        raise SystemExit(f"{event} {args}")
sys.addaudithook(hook)
import lilliput, lilliput.asgi, lilliput.cli.main, lilliput.cli.serve, lilliput.gateway.routes
print("quiet")
"""


def test_an_import_opens_nothing() -> None:
    env = {"PYTHONPATH": str(live.SOURCES)}
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout == "quiet\n", done.stdout + done.stderr


def fuzz(folder: Path, count: int) -> None:
    """Hostile requests over every route: nothing but connections to the provider, and code of installed files."""

    async def main() -> None:
        async with Provider() as provider:
            with watched(folder, SETTINGS + config(provider.port), ENV) as w:
                port = int(w.gateway.base.rpartition(":")[2])
                seen = Seen(Counter(), Counter(), [])
                await attack(port, w.gateway.key, 7, range(count // 4), seen)  # what is loaded when it is first needed
                known = len(w.events())
                await attack(port, w.gateway.key, 8, range(count), seen)
                assert seen.faults == []
                events = w.events()
                assert [e for e in events if e[0] in PROCESSES | NAMES] == []
                assert [e for e in events[known:] if e[0] in LOADED] == []
                run = [e for e in events[known:] if e[0] == "exec"]  # a module needed late is read, then run
                assert len([e for e in events[known:] if e[0] == "marshal.loads"]) <= len(run)
                connected = {what for event, what in events if event == "socket.connect"}
                assert connected == {f"('127.0.0.1', {provider.port})"}
                odd = [e for e in events[known:] if e[0] in ("exec", "compile") and not _installed(e[1])]
                assert odd == [], Counter(odd).most_common(5)

    asyncio.run(main())


def _installed(what: str) -> bool:
    """Code of a file of ours, of Python, or of an installed package."""
    name = what.strip("'\"b")
    return name.startswith((str(live.SOURCES), sys.prefix, sys.base_prefix, "<frozen"))


def test_no_process_and_no_foreign_code(tmp_path: Path) -> None:
    fuzz(tmp_path, 800)


@pytest.mark.slow
def test_no_process_and_no_foreign_code_under_ten_thousand(tmp_path: Path) -> None:
    fuzz(tmp_path, 10_000)


def test_the_watch_sees(tmp_path: Path) -> None:
    """What the tests above rest on: a process, a connection and made-up code are noted."""
    code = "import subprocess, sys, socket; subprocess.run([sys.executable, '-c', '']); exec('1', {})\n"
    code += "try: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass"
    from tests.security.watched import SITE  # noqa: PLC0415

    (tmp_path / "sitecustomize.py").write_text(SITE)
    out = tmp_path / "events"
    env = {"PYTHONPATH": str(tmp_path), "WATCHED_OUT": str(out)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    text = out.read_text()
    assert '"subprocess.Popen"' in text
    assert "127.0.0.1" in text
    assert '["exec", "\'<string>\'"]' in text


def traced() -> bool:
    """Whether system calls can be traced here."""
    strace = shutil.which("strace")
    return (
        strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not traced(), reason="strace is missing or not allowed")
def test_the_kernel_sees_no_other_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start and a hundred calls, as the kernel sees them: no connection but to the provider, no datagram."""
    out = tmp_path / "calls"
    trace = ["strace", "-D", "-f", "-A", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg,execve", "-o", str(out)]
    monkeypatch.setattr(live, "COMMAND", [*trace, *live.COMMAND])

    async def main() -> None:
        async with Provider() as provider:
            with live.Live(SETTINGS + config(provider.port), env=ENV) as gateway:
                port = int(gateway.base.rpartition(":")[2])
                asked: list[tuple[Any, ...]] = list(calls.calls())
                for number in range(100):
                    route, path, body, more = asked[number % len(asked)]
                    name = list(DIALECTS)[number % len(DIALECTS)]
                    here = path.replace("p/m", f"{name}/m").replace("provider=p", f"provider={name}")
                    sent = {**body, "model": f"{name}/m"} if isinstance(body, dict) and "model" in body else body
                    lines = {**more, "Authorization": f"Bearer {gateway.key}", "Connection": "close"}
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(request(route.method, here, sent, lines))
                    assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 ")
                    writer.close()
            where = set(
                re.findall(
                    r"sin6?_port=htons\((\d+)\).*?inet_(?:addr|pton)\((?:AF_INET6, )?\"([^\"]+)", out.read_text()
                )
            )
            assert where == {(str(provider.port), "127.0.0.1")}
            assert "AF_NETLINK" not in out.read_text()

    asyncio.run(main())
