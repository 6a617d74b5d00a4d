"""`lilliput chat` against a scripted gateway."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.cli.command import START, environment
from tests.cli.gateway import Answer, event, gateway, said, unused_port
from typer.testing import CliRunner, Result

from lilliput.cli.chat import Turn, converse, line_to, print_answer
from lilliput.cli.main import app
from lilliput.neutral import Event, Problem, Said

KEY = "lil_local"


def talk(home: Path, base: str, *args: str, stdin: str = "", key: str | None = KEY) -> Result:
    env = {"LILLIPUT_HOME": str(home), "LILLIPUT_BASE": base, "LILLIPUT_KEY": key}
    return CliRunner().invoke(app, ["chat", *args], env=env, input=stdin)


def test_once_prints_the_answer_as_text(tmp_path: Path) -> None:
    with gateway(said("Hel", "lo", ".")) as script:
        done = talk(tmp_path, script.base, "--system", "Be short.", "--once", "Say hello")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Hello.\n", "")
    assert script.keys == [f"Bearer {KEY}"]
    asked = script.asked[0]
    assert asked["model"] == "lilliput/smollm2-135m"
    assert asked["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello"}]
    assert asked["stream"] is True


def test_once_as_json_is_one_document(tmp_path: Path) -> None:
    with gateway(said("Hi")) as script:
        done = talk(tmp_path, script.base, "openai/x", "--once", "?", "--json")
    assert json.loads(done.stdout) == {
        "model": "m",
        "text": "Hi",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 3,
    }


def test_json_without_once_is_wrong_usage(tmp_path: Path) -> None:
    done = talk(tmp_path, "http://127.0.0.1:1/v1", "--json")
    assert done.exit_code == 2
    assert "--once" in done.stderr


def test_the_local_key_is_used_when_no_other_is_given(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "local.key").write_text("lil_mine\n")
    with gateway(said("ok")) as script:
        done = talk(tmp_path, script.base, "--once", "?", key=None)
    assert done.exit_code == 0
    assert script.keys == ["Bearer lil_mine"]


def test_a_conversation_remembers(tmp_path: Path) -> None:
    with gateway(said("one"), said("two")) as script:
        done = talk(tmp_path, script.base, stdin="first\n\nsecond\n")
    assert (done.exit_code, done.stdout) == (0, "one\ntwo\n")
    assert [m["content"] for m in script.asked[1]["messages"]] == ["first", "one", "second"]


def test_a_failed_turn_is_told_and_forgotten(tmp_path: Path) -> None:
    refusal = json.dumps({"error": {"message": "slow down", "type": "rate_limit_error", "param": None, "code": None}})
    with gateway(Answer((refusal.encode(),), 429), said("fine")) as script:
        done = talk(tmp_path, script.base, stdin="first\nsecond\n/bye\nthird\n")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "fine\n", "error: slow down\n")
    assert [m["content"] for m in script.asked[1]["messages"]] == ["second"]


def test_what_a_model_says_cannot_drive_the_terminal(tmp_path: Path) -> None:
    with gateway(said("a\x1b", "[2Jb\u202e", "\x9b31m\r\nc")) as script:
        done = talk(tmp_path, script.base, "--once", "?")
    assert done.stdout == "a[2Jb31m\nc\n"


def chunk(text: str) -> bytes:
    return event({"id": "c", "model": "m", "created": 1, "choices": [{"index": 0, "delta": {"content": text}}]})


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None}}).encode()


FAULTS = [
    ("unknown key", Answer((error("unknown key"),), 401), "", "LILLIPUT_HOME"),
    ("unknown model", Answer((error("no model 'x'; nearest: 'y'"),), 404), "", "no model 'x'; nearest: 'y'"),
    ("error inside the stream", Answer((chunk("ab"), b"data: " + error("it broke") + b"\n\n")), "ab\n", "it broke"),
    ("cut stream", Answer((chunk("ab"),)), "ab\n", "ended before"),
    ("a web page", Answer((b"<title>Login</title>",), 502), "", "Login"),
]


@pytest.mark.parametrize(("name", "answer", "out", "say"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_is_one_line_and_exit_1(tmp_path: Path, name: str, answer: Answer, out: str, say: str) -> None:
    with gateway(answer) as script:
        done = talk(tmp_path, script.base, "--once", "?")
    assert (done.exit_code, done.stdout) == (1, out)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert say in done.stderr


def test_no_gateway_says_how_to_start_one(tmp_path: Path) -> None:
    done = talk(tmp_path, f"http://127.0.0.1:{unused_port()}/v1", "--once", "?")
    assert done.exit_code == 1
    assert "lilliput serve" in done.stderr


LINES = [
    ("from the configuration", None, "http://127.0.0.1:1726/v1"),
    ("without a port", "http://localhost/v1/", "http://localhost:80/v1"),
    ("IPv6", "http://[::1]:9/v1", "http://[::1]:9/v1"),
    ("TLS", "https://gate.example/v1", "https://gate.example:443/v1"),
]


@pytest.mark.parametrize(("name", "base", "address"), LINES, ids=[row[0] for row in LINES])
def test_where_the_gateway_is(tmp_path: Path, name: str, base: str | None, address: str) -> None:
    line = line_to({"LILLIPUT_HOME": str(tmp_path), "LILLIPUT_KEY": KEY}, None, base)
    assert line.address == address


def test_a_server_on_all_addresses_is_called_on_loopback(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[server]\nhost = "::"\nport = 99\n')
    line = line_to({"LILLIPUT_HOME": str(tmp_path), "LILLIPUT_KEY": KEY}, None, None)
    assert line.address == "http://[::1]:99/v1"


REFUSED = [
    ("no scheme", "localhost:1726", "client"),
    ("another scheme", "ftp://localhost/v1", "client"),
    ("no port number", "http://localhost:x/v1", "client"),
    ("credentials", "http://me:secret@localhost/v1", "client"),
    ("the local key for another host", "https://gate.example/v1", "auth"),
    ("the local key for a private host", "http://10.0.0.1:1726/v1", "auth"),
    ("no local key", "http://127.0.0.1:1726/v1", "auth"),
]


@pytest.mark.parametrize(("name", "base", "fault"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_line_is_refused(tmp_path: Path, name: str, base: str, fault: str) -> None:
    if name != "no local key":
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "local.key").write_text("lil_mine\n")
    with pytest.raises(Problem) as caught:
        line_to({"LILLIPUT_HOME": str(tmp_path)}, None, base)
    assert caught.value.fault == fault
    assert "secret" not in caught.value.say


def test_a_stopped_answer_counts_as_far_as_it_got() -> None:
    heard: list[list[str]] = []

    def say(turns: list[Turn]) -> Generator[Event]:
        heard.append([t.content for t in turns])
        if len(heard) == 1:
            yield Said("half ")
            raise KeyboardInterrupt
        if len(heard) == 2:
            raise KeyboardInterrupt
        yield Said("whole")

    out = io.StringIO()
    converse(say, [], io.StringIO("a\nb\nc\n"), out, io.StringIO())
    assert heard == [["a"], ["a", "half ", "b"], ["a", "half ", "c"]]
    assert out.getvalue() == "half  (stopped)\n (stopped)\nwhole\n"


def test_ctrl_c_while_printing_hangs_up_too() -> None:
    def events() -> Generator[Event]:
        try:
            yield Said("a")
        finally:
            hung_up.append(True)

    class Interrupted(io.StringIO):
        def flush(self) -> None:
            raise KeyboardInterrupt

    hung_up: list[bool] = []
    answer = events()  # held here, so that going out of sight does not close it
    assert print_answer(answer, Interrupted(), stoppable=True) == "a"
    assert hung_up


def test_ctrl_c_stops_the_answer_and_hangs_up_and_the_talk_goes_on(tmp_path: Path) -> None:
    with gateway(Answer((chunk("begun"),), hang=True), said("next")) as script:
        args = [*START, "chat", "--base", script.base]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(args, env=environment(tmp_path, {"LILLIPUT_KEY": KEY}), text=True, **pipes) as talk:  # type: ignore[call-overload]
            talk.stdin.write("first\n")
            talk.stdin.flush()
            assert talk.stdout.read(5) == "begun"
            talk.send_signal(signal.SIGINT)
            assert script.hung_up.wait(30)
            out, err = talk.communicate("second\n", timeout=60)
    assert (talk.returncode, out, err) == (0, " (stopped)\nnext\n", "")


def test_ctrl_c_ends_once_with_130(tmp_path: Path) -> None:
    with gateway(Answer((chunk("begun"),), hang=True)) as script:
        args = [*START, "chat", "--base", script.base, "--once", "?"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(args, env=environment(tmp_path, {"LILLIPUT_KEY": KEY}), text=True, **pipes) as talk:  # type: ignore[call-overload]
            assert talk.stdout.read(5) == "begun"
            talk.send_signal(signal.SIGINT)
            _, err = talk.communicate(timeout=60)
        assert script.hung_up.wait(30)
    assert (talk.returncode, err) == (130, "")
