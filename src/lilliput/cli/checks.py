"""What `lilliput doctor` looks at: one function a check, each giving what it found and how to mend it.

A check reads and never repairs. It raises nothing that its caller has to know of: a Problem is a finding too.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import http.client
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

import lilliput
from lilliput.catalogue.endpoint import filled, unset
from lilliput.catalogue.load import LOCAL, Catalogue
from lilliput.config import Config, Home, Server
from lilliput.local import gguf
from lilliput.local import weights as files
from lilliput.neutral import Problem
from lilliput.store.keys import LocalKey, local_key, open_ring
from lilliput.store.sqlite import SqliteStore

State = Literal["ok", "warn", "fail"]
FULL_BYTES = 256 << 20
TIGHT_BYTES = 1 << 30
SKEW_S = 120.0
ENGINE_S = 60.0
KEY_PREFIX = "lil_"
BASE_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL")


class Finding(msgspec.Struct, frozen=True):
    """`say` is what was found; `fix` what to do about it, "" when nothing need be done."""

    check: str
    state: State
    say: str
    fix: str = ""


def home(place: Home) -> Finding:
    """The home can be written by us and by nobody else."""
    root = place.root
    if not root.exists():
        above = next((p for p in root.parents if p.exists()), root)
        if os.access(above, os.W_OK):
            return Finding("home", "ok", f"{root} is not there yet; the first command makes it")
        fix = f"make it, or set LILLIPUT_HOME to a folder of yours; {above} cannot be written"
        return Finding("home", "fail", f"{root} cannot be made", fix)
    if not root.is_dir():
        return Finding("home", "fail", f"{root} is not a folder", "move it away, or set LILLIPUT_HOME")
    if not os.access(root, os.W_OK | os.X_OK):
        return Finding("home", "fail", f"{root} cannot be written", f"chown it to you, or chmod u+rwx {root}")
    mode = root.stat().st_mode & 0o777
    if mode & 0o022:
        return Finding("home", "fail", f"{root} can be changed by others (mode {mode:04o})", f"chmod go-w {root}")
    return Finding("home", "ok", str(root))


def disk(place: Home) -> Finding:
    """There is room for weights and the database."""
    at = next(p for p in (place.root, *place.root.parents) if p.exists())
    free = shutil.disk_usage(at).free
    say = f"{free / (1 << 30):.1f} GiB free at {at}"
    if free < FULL_BYTES:
        return Finding(
            "disk", "fail", say, "make room: the built-in model takes 0.1 GiB, and twice that while it comes"
        )
    if free < TIGHT_BYTES:
        return Finding("disk", "warn", say, "make room soon: models that you pull take 0.1 to 5 GiB each")
    return Finding("disk", "ok", say)


def clock(place: Home, now: float) -> Finding:
    """The clock is not behind what has already happened: keys expire by it, and TLS trusts it."""
    seen = [Path(lilliput.__file__), place.database, place.local_key_file, place.config_file]
    latest = max(p.stat().st_mtime for p in seen if p.exists())
    say = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"
    if now < latest - SKEW_S:
        when = f"{datetime.fromtimestamp(latest, UTC):%Y-%m-%dT%H:%M:%SZ}"
        say = f"the clock says {say}, yet files here were written at {when}"
        return Finding("clock", "fail", say, "set the clock, as with `timedatectl set-ntp true`")
    return Finding("clock", "ok", say)


def port(server: Server) -> Finding:
    """The port is free, or it is lilliput that has it."""
    where = f"{server.host}:{server.port}"
    if server.port == 0:
        return Finding("port", "ok", f"any free port of {server.host}")
    try:
        family, *_, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            name = _who_answers(server)
            if name == "lilliput":
                return Finding("port", "ok", f"the gateway runs at {where}")
            fix = f"end it (`ss -ltnp 'sport = :{server.port}'` shows it), or set another port in [server]"
            return Finding("port", "fail", f"another program has {where}", fix)
        why = error.strerror or str(error)
        return Finding("port", "fail", f"cannot listen on {where}: {why}", "set another host or port in [server]")
    return Finding("port", "ok", f"{where} is free")


def keys(place: Home) -> Iterator[Finding]:
    """The database opens under the pepper that is here, and the local key works and is its owner's alone."""
    if not place.database.exists():
        left = [p for p in (place.pepper_file, place.local_key_file) if p.exists()]
        say = f"there is no database, yet {left[0]} is from one" if left else "none yet"
        fix = f"restore {place.database} from a backup, or delete {place.keys} and start anew" if left else ""
        yield Finding("keys", "warn" if left else "ok", say, fix or "the first start makes them, or `lilliput key dev`")
        return

    async def look() -> tuple[int, LocalKey | None]:
        if not place.pepper_file.exists():  # else a ring would make one for a database without keys
            raise Problem("server", f"the pepper {place.pepper_file} is missing")
        store = SqliteStore(place.database)
        try:
            ring = await open_ring(store, place.pepper_file)
            live = sum(key.revoked_at is None for key in await ring.listing())
            return live, await local_key(ring, place.local_key_file) if place.local_key_file.exists() else None
        finally:
            await store.close()

    try:
        live, local = asyncio.run(look())
    except Problem as problem:
        exposed = problem.code == "secret_exposed"
        fix = "run that, and make new keys if others have been there" if exposed else ""
        yield Finding("keys", "fail", problem.say, fix or "restore it from a backup, or move the database away")
        return
    yield Finding("keys", "ok", f"{live} not revoked, in {place.database}")
    if local is None:
        yield Finding("local key", "warn", "there is none", "make it with `lilliput key dev`")
    elif local.token is None:
        yield Finding("local key", "fail", local.say, f"delete {place.local_key_file}, then `lilliput key dev`")
    else:
        yield Finding("local key", "ok", str(place.local_key_file))


def engine() -> Finding:
    """The engine's library loads, tried in a process of its own: on a processor that it was not built for, it dies."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import xllamacpp"], capture_output=True, text=True, timeout=ENGINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("engine", "fail", f"xllamacpp did not load: {error}", "run the command again on an idle machine")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        fix = "reinstall it with `pip install --force-reinstall xllamacpp`; other providers work without it"
        return Finding("engine", "fail", f"xllamacpp does not load: {last}", fix)
    return Finding("engine", "ok", "xllamacpp loads")


def weights(place: Home, config: Config) -> Iterator[Finding]:
    """The files of the models that run here are there, and hash to what is on record."""
    for name in dict.fromkeys((files.DEFAULT, *config.local.models.values())):
        try:
            yield _weights(name, place)
        except Problem as problem:
            yield Finding(
                "weights", "fail", f"{name}: {problem.say}", f"`lilliput pull {name}`, or edit [local.models]"
            )
        except OSError as error:
            say = f"{name} cannot be read: {error.strerror or error}"
            yield Finding("weights", "fail", say, f"check the rights of {error.filename or place.weights}")


def _weights(name: str, place: Home) -> Finding:
    path, fix = files.find(name, place.weights), f"`lilliput pull {name}`"
    if path is None:
        return Finding("weights", "warn", f"{name} is not here, or not whole", fix)
    pin = files.pinned(name, place.weights)
    gguf.check(path)
    if pin is None:
        return Finding("weights", "ok", f"{name}; no hash is on record")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != pin:
        return Finding("weights", "fail", f"{name} at {path} has the sha256 {digest}, not {pin}", fix)
    return Finding("weights", "ok", f"{name}, sha256 right")


def providers(catalogue: Catalogue) -> Finding:
    """Who can answer besides the built-in model."""
    ready = [
        f"{s.name} ({len(s.keys)} keys)" if len(s.keys) > 1 else s.name
        for s in catalogue.providers()
        if s.ready and s.name != LOCAL
    ]
    if ready:
        return Finding("providers", "ok", f"{len(ready)} ready: {', '.join(ready)}")
    fix = "set a provider's key, such as OPENAI_API_KEY; `lilliput providers` names the variables"
    return Finding("providers", "ok", "none but the built-in model", fix)


def swapped_keys(catalogue: Catalogue, env: Mapping[str, str]) -> Iterator[Finding]:
    """A key of ours in a provider's variable would be sent to that provider."""
    for status in catalogue.providers():
        for name in (status.provider.key_env, *status.provider.more_key_envs):
            if name and env.get(name, "").strip().startswith(KEY_PREFIX):
                say = f"{name} holds a key of lilliput, which would be sent to {status.name}"
                fix = f"start lilliput with {status.name}'s own key in {name}, or with `env -u {name}`"
                yield Finding("provider keys", "fail", say, fix)


def circle(catalogue: Catalogue, config: Config, env: Mapping[str, str]) -> Iterator[Finding]:
    """No provider's base leads back to this gateway; a variable that does is right for clients alone."""
    clear = True
    for status in catalogue.providers():
        base = status.provider.base
        if unset([base], env):
            continue
        base = filled(base, env)
        if status.name != LOCAL and leads_to(base, config.server):
            clear = False
            say = f"provider {status.name!r} has the base {base}, which is this gateway: calls would go in a circle"
            yield Finding("circle", "fail", say, f"give [providers.{status.name}] the provider's own base")
    for name in BASE_VARIABLES:
        if leads_to(env.get(name, ""), config.server):
            clear = False
            say = f"{name} points at this gateway: right for clients in this shell, and lilliput does not read it"
            yield Finding(
                "circle",
                "warn",
                say,
                f"if it was meant for lilliput: unset {name}, and put the provider's own base into the configuration",
            )
    if clear:
        yield Finding("circle", "ok", "no base leads back to this gateway")


def open_files(server: Server) -> Finding:
    """A client's connection and its provider's take a file each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 2 * server.max_connections + 64
    if soft == resource.RLIM_INFINITY or soft >= need:
        return Finding("open files", "ok", f"{soft} allowed")
    say = f"{soft} allowed; {server.max_connections} connections may need {need}"
    most = need if hard == resource.RLIM_INFINITY else min(need, hard)
    return Finding("open files", "warn", say, f"`ulimit -n {most}` first, or lower max_connections in [server]")


def leads_to(base: str, server: Server) -> bool:
    """Whether the URL `base` reaches the server: same port, and an address that is ours."""
    try:
        url = urlsplit(base if "//" in base else f"//{base}")
        there = url.port or {"https": 443}.get(url.scheme, 80)
    except ValueError:
        return False
    host = url.hostname or ""
    if not host or there != server.port:
        return False
    return host in (server.host, "localhost", socket.gethostname()) or _is_own(host)


def _is_own(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _who_answers(server: Server) -> str:
    """The name that GET /version tells, "" when no such answer comes."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
    connection = http.client.HTTPConnection(host, server.port, timeout=3)
    try:
        connection.request("GET", "/version")
        with connection.getresponse() as response:
            told = msgspec.json.decode(response.read(1 << 16), type=dict[str, str])
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return ""
    finally:
        connection.close()
    return told.get("name", "")
