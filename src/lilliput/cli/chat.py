"""`lilliput chat`: a conversation with a model through the running gateway, over its public endpoint."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import msgspec

from lilliput import config as configuration
from lilliput.cli import here
from lilliput.cli.output import clean, say_error, show_json
from lilliput.neutral import Event, Problem, Refused, Said, Secret, fold
from lilliput.wire import openai as openai_chat

CONNECT_S = 5.0
SILENCE_S = 300.0  # the gateway gives up on a silent provider long before
HINT = "Ctrl-C stops an answer; Ctrl-D or /bye leaves."


class Line(msgspec.Struct, frozen=True):
    """Where the gateway answers, and the key to show it. `path` ends before /chat/completions."""

    tls: bool
    host: str
    port: int
    path: str
    key: Secret

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.path}"


class Turn(msgspec.Struct, frozen=True):
    role: str
    content: str


def chat(
    env: Mapping[str, str],
    config_file: Path | None,
    model: str,
    system: str | None,
    once: str | None,
    base: str | None,
    as_json: bool,
) -> None:
    """Say `once` and print the answer, or hold a conversation until the end of input."""
    line = line_to(env, config_file, base)
    turns = [Turn("system", system)] if system else []
    if once is None:
        if sys.stdin.isatty():
            with suppress(ImportError):  # gives the prompt line editing and history where the platform has it
                import readline  # noqa: F401
            print(clean(f"{model} at {line.address}. {HINT}"), file=sys.stderr)
        converse(lambda said: ask(line, model, said), turns, sys.stdin, sys.stdout, sys.stderr)
        return
    turns.append(Turn("user", once))
    if not as_json:
        print_answer(ask(line, model, turns), sys.stdout)
        return
    reply = fold(ask(line, model, turns))
    first = reply.choices[0] if reply.choices else None
    usage = reply.usage
    show_json(
        {
            "model": reply.model or model,
            "text": first.text if first else "",
            "finish_reason": first.reason if first else None,
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
        },
        sys.stdout,
    )


def line_to(env: Mapping[str, str], config_file: Path | None, base: str | None) -> Line:
    """The line to the gateway at `base`, else at the address in the configuration.

    The key is LILLIPUT_KEY, else the local key, which is shown to this machine alone: Problem for another host.
    """
    home = configuration.home(env)
    if base is None:
        server = here.settings(env, config_file)[1].server
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
        base = f"http://[{host}]:{server.port}/v1" if ":" in host else f"http://{host}:{server.port}/v1"
    try:
        url = urlsplit(base)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        say = f"base {base!r} is not a URL ({error}); give one like http://127.0.0.1:1726/v1"
        raise Problem("client", say, code="usage") from None
    if url.username is not None:
        raise Problem("client", "the base URL holds a user name; put the key in LILLIPUT_KEY instead", code="usage")
    if url.scheme not in ("http", "https") or not url.hostname:
        say = f"base {base!r} is not a gateway's URL; give one like http://127.0.0.1:1726/v1"
        raise Problem("client", say, code="usage")
    key = env.get("LILLIPUT_KEY", "").strip()
    if not key and not _is_loopback(url.hostname):
        raise Problem("auth", f"the local key stays on this machine; put a key for {url.hostname!r} in LILLIPUT_KEY")
    if not key:
        try:
            key = home.local_key_file.read_text("ascii").strip()
        except FileNotFoundError:
            say = f"there is no local key at {str(home.local_key_file)!r}; make it with `lilliput key dev`"
            raise Problem("auth", say) from None
    return Line(url.scheme == "https", url.hostname, port, url.path.rstrip("/"), Secret(key))


def ask(line: Line, model: str, turns: Iterable[Turn]) -> Generator[Event]:
    """The events of the answer to `turns`; Problem when there is none or it is cut. Closing it hangs up."""
    connection = _connect(line)
    body = {"model": model, "messages": list(turns), "stream": True, "stream_options": {"include_usage": True}}
    headers = {"authorization": f"Bearer {line.key.reveal()}", "content-type": "application/json"}
    try:
        connection.request("POST", f"{line.path}/chat/completions", msgspec.json.encode(body), headers)
        with connection.getresponse() as response:
            if response.status != 200:
                raise _refusal(line, response.status, response.read(1 << 20))
            read = openai_chat.reader()
            while chunk := response.read1(1 << 16):
                yield from read(chunk)
            yield from read(b"")
    except TimeoutError:
        raise Problem("timeout", f"the gateway at {line.address} said nothing for {SILENCE_S:.0f} s") from None
    except (http.client.HTTPException, OSError) as error:
        what = str(error) or type(error).__name__
        raise Problem("server", f"the gateway at {line.address} broke off: {what}; see its log") from None
    finally:
        connection.close()


def converse(
    say: Callable[[list[Turn]], Generator[Event]], turns: list[Turn], source: TextIO, out: TextIO, err: TextIO
) -> None:
    """Answer each line of `source` until it ends; an answer stopped half way counts as far as it got."""
    terminal = source.isatty()
    while True:
        try:
            text = input("> ") if terminal else source.readline()
        except EOFError:
            print(file=out)
            return
        except KeyboardInterrupt:
            if not terminal:
                raise
            print(f"\n{HINT}", file=err)
            continue
        if not terminal and not text:
            return
        text = text.strip()
        if text in ("/bye", "/exit", "/quit"):
            return
        if not text:
            continue
        turns.append(Turn("user", text))
        try:
            answer = print_answer(say(turns), out, stoppable=True)
        except Problem as problem:
            turns.pop()
            say_error(problem, err)
            continue
        if answer:
            turns.append(Turn("assistant", answer))
        else:
            turns.pop()  # a provider may refuse a conversation with an empty answer in it


def print_answer(events: Generator[Event], out: TextIO, *, stoppable: bool = False) -> str:
    """Print the first choice as it comes and return it; with `stoppable`, Ctrl-C ends the answer and nothing else."""
    said: list[str] = []
    try:
        for event in events:
            if isinstance(event, Said | Refused) and event.choice == 0:
                said.append(event.text)
                out.write(clean(event.text))
                out.flush()
    except KeyboardInterrupt:
        if not stoppable:
            raise
        out.write(" (stopped)")
    except Problem:
        if said:
            print(file=out)
        raise
    finally:
        events.close()
    print(file=out)
    return "".join(said)


def _connect(line: Line) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if line.tls else http.client.HTTPConnection
    connection = kind(line.host, line.port, timeout=CONNECT_S)
    try:
        connection.connect()
    except (OSError, socket.gaierror) as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        say = (
            f"no gateway answers at {line.address} ({why.lower()}); start it with `lilliput serve`, or give its --base"
        )
        raise Problem("server", say) from None
    connection.sock.settimeout(SILENCE_S)
    return connection


def _refusal(line: Line, status: int, body: bytes) -> Problem:
    problem = openai_chat.read_problem(status, body)
    if status == 401:
        return Problem("auth", f"{problem.say}; is the gateway at {line.address} started with the same LILLIPUT_HOME?")
    return problem


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
