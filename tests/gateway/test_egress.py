"""The egress rule: which addresses a provider may be at, and that nothing but a checked address is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from tests.gateway import calls as known
from tests.gateway.rig import (
    Provider,
    answering,
    by_wish,
    json_answer,
    rig,
    run,
)

from lilliput.gateway import egress
from lilliput.gateway.answer import Patience
from lilliput.gateway.upstream import Upstream
from lilliput.neutral import Problem


def words(text: str) -> list[str]:
    return text.split()


FORBIDDEN_V4 = words("""
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.64.0.1 100.100.100.200 100.127.255.255
127.0.0.0 127.0.0.1 127.0.0.2 127.0.1.1 127.1.2.3 127.255.255.255 169.254.0.1 169.254.169.254 169.254.170.2
169.254.169.253 169.254.255.255 172.16.0.0 172.16.0.1 172.17.0.1 172.20.10.1 172.31.255.255 192.0.0.1 192.0.0.8
192.0.0.170 192.0.0.192 192.0.2.1 192.0.2.255 192.88.99.1 192.168.0.1 192.168.1.1 192.168.255.255 198.18.0.1
198.19.255.255 198.51.100.1 203.0.113.1 203.0.113.255 224.0.0.1 224.0.0.251 232.1.1.1 233.252.0.1 239.255.255.250
240.0.0.1 250.1.1.1 255.255.255.254 255.255.255.255 168.63.129.16
""")
FORBIDDEN_V6 = words("""
:: ::1 ::2 ::7f00:1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
::ffff:192.168.1.1 ::ffff:100.64.0.1 ::ffff:0.0.0.0 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::7f00:1
64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::1 64:ff9b:1:ffff::a00:1 100::1 100:0:0:1::1
2001::1 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:80ff:fffe 2001:0:5ef5:79fb:0:0:f5ff:fffe 2001:2::1 2001:10::1
2001:20::1 2001:db8::1 2001:db8:ffff::1 2002:7f00:1:: 2002:7f00:1::1 2002:a00:1:: 2002:a9fe:a9fe:: 2002:c0a8:101::1
2002:6440:1:: 2002:e000:1:: 3fff::1 3fff:fff::1 4000::1 5f00::1 8000::1 c000::1 fc00::1 fcff::1 fd00::1 fd00:ec2::254
fd12:3456:789a::1 fdff:ffff::1 fe80::1 fe80::1%eth0 fe80::1%1 febf::1 fec0::1 feff::1 ff00::1 ff01::1 ff02::1 ff02::fb
ff05::2 ff0e::1 fe80::5efe:127.0.0.1 2606:4700::5efe:127.0.0.1 2606:4700::5efe:10.0.0.1
2606:4700::200:5efe:192.168.1.1 2001:4860::5efe:169.254.169.254
""")
PUBLIC = words("""
1.1.1.1 8.8.8.8 9.9.9.9 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 169.253.255.255 169.255.0.1
172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255
2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450:4001::200e ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1
""")
# What a URL may spell and the resolver of the C library reads as an address.
SPELLINGS = words("""
2130706433 0x7f000001 017700000001 0x7f.1 0x7f.0.0.1 0177.0.0.1 0177.1 127.1 127.0.1 127.000.000.001 0x7F000001
00000177.0.0.1 0 0.0 0x0 0xa9fea9fe 2852039166 0251.0376.0251.0376 0xa9.0xfe.0xa9.0xfe 169.16689662 10.1 0xa.1 012.1
167772161 3232235777 0xc0a80101 192.168.257 0300.0250.1.1 1681915905 0x64400001 127.0.0.1. 0x7f000001.
""")
ODD_URLS = [
    "http://127.0.0.1/v1",
    "http://127.0.0.1:80/v1",
    "http://[::1]/v1",
    "http://[::1]:8080/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[0:0:0:0:0:ffff:7f00:1]/v1",
    "http://[::1%25lo]/v1",
    "http://[fe80::1%25eth0]/v1",
    "https://[fe80::1%eth0]/v1",
    "http://LOCALHOST/v1",
    "http://localhost./v1",
    "http://\u24dbocalhost/v1",
    "http://127\u30020\u30020\u30021/v1",
    "http://\uff11\uff12\uff17.0.0.1/v1",
    "http://user@127.0.0.1/v1",
    "http://user:pass@api.example.com/v1",
    "http://api.example.com@127.0.0.1/v1",
    "http://api.example.com:80@127.0.0.1:80/v1",
    "http://127.0.0.1\\@api.example.com/v1",
    "http://api.example.com\\@127.0.0.1/v1",
    "http://api.example.com\\.127.0.0.1/v1",
    "http:\\\\127.0.0.1\\v1",
    "http://api.example.com /v1",
    "http://api.example.com\t.evil/v1",
    "http://127.0.0.1\r\nHost: x/v1",
    " http://127.0.0.1/v1",
    "http://api.example.com\x00/v1",
    "http://api.example.com/\x7fv1",
    "http://",
    "http:///v1",
    "http://:80/v1",
    "http://[::1/v1",
    "http://[evil]/v1",
    "http://[v1.x]/v1",
    "http://[127.0.0.1]/v1",
    "http://%31%32%37.0.0.1/v1",
    "http://127.0.0.1%2f@api.example.com/v1",
    "http://[::ffff:0x7f.1]/v1",
    "http://api.example.com:99999/v1",
    "http://api.example.com:x/v1",
    "http://api.example.com:-1/v1",
    "//127.0.0.1/v1",
    "127.0.0.1/v1",
    "localhost:11434/v1",
    "ftp://api.example.com/v1",
    "file:///etc/passwd",
    "gopher://127.0.0.1/v1",
    "unix:///run/x.sock",
    "javascript:alert(1)",
    "",
    "/v1",
    "?",
]


class FakeLoop:
    """The network port: notes every connection asked for and refuses it."""

    def __init__(self) -> None:
        self.connected: list[tuple[str, int]] = []
        self.tls: dict[str, object] = {}

    def call_later(self, *_: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(1000, print)

    async def create_connection(self, _: object, host: str, port: int, **tls: object) -> None:
        self.connected.append((host, port))
        self.tls = tls
        raise ConnectionRefusedError("refused by the test")


def resolver(*answers: list[str]) -> Callable[[str, int], Any]:
    """Answers each look-up in turn, the last for ever; without answers it reads spellings as the C library does."""
    left = list(answers)

    async def lookup(host: str, port: int) -> list[str]:
        if left:
            return left.pop(0) if len(left) > 1 else left[0]
        name = host.encode("idna").decode().rstrip(".").lower()
        if name == "localhost":
            return ["127.0.0.1"]
        try:
            return [socket.inet_ntoa(socket.inet_aton(name))]
        except OSError:
            raise socket.gaierror(-2, "Name or service not known") from None

    return lookup


def reach(
    url: str, lookup: Callable[[str, int], Any], allow_private: bool = False, times: int = 1
) -> tuple[list[Problem], FakeLoop]:
    """The Problem of each try to send to `url`, and the connections made."""
    loop, problems = FakeLoop(), []

    async def main() -> None:
        up = Upstream(loop, Patience(), lookup=lookup, tls=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # type: ignore[arg-type]
        for _ in range(times):
            try:
                await up.link(url, (), allow_private=allow_private).send(b"{}")
            except Problem as problem:
                problems.append(problem)
        up.close()

    asyncio.run(main())
    assert len(problems) == times
    return problems, loop


def test_the_list_is_long_enough() -> None:
    assert len({*FORBIDDEN_V4, *FORBIDDEN_V6, *SPELLINGS, *ODD_URLS}) >= 200


@pytest.mark.parametrize("text", FORBIDDEN_V4 + FORBIDDEN_V6)
def test_forbidden_however_it_is_named(text: str) -> None:
    assert not egress.is_public(ipaddress.ip_address(text))
    host = f"[{text.replace('%', '%25')}]" if ":" in text else text
    for url, lookup in (
        (f"http://{host}/v1", resolver()),
        (f"https://{host}:8443/v1", resolver()),
        ("http://api.example.com/v1", resolver([text])),
        ("http://api.example.com/v1", resolver(["8.8.8.8", text])),
        ("http://api.example.com/v1", resolver([text, "8.8.8.8"])),
    ):
        (problem,), loop = reach(url, lookup)
        assert (problem.code, problem.status) == ("egress_refused", 502), url
        assert loop.connected == []


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert egress.is_public(ipaddress.ip_address(text))
    (problem,), loop = reach("http://api.example.com/v1", resolver([text]))
    assert problem.code == "upstream_unreachable"
    assert loop.connected == [(str(ipaddress.ip_address(text)), 80)]


@pytest.mark.parametrize("text", SPELLINGS)
def test_spellings_of_a_private_address(text: str) -> None:
    (problem,), loop = reach(f"http://{text}/v1", resolver())
    assert problem.code == "egress_refused", problem.say
    assert loop.connected == []


@pytest.mark.parametrize("url", ODD_URLS)
def test_odd_urls_lead_nowhere(url: str) -> None:
    (problem,), loop = reach(url, resolver())
    assert problem.code in ("egress_refused", "bad_base"), problem.say
    assert loop.connected == []


@pytest.mark.parametrize(
    "url", ["http://user:pw@10.0.0.1/v1", "http://10.0.0.1\\@x/v1", "http://10.0.0.1 /v1", "ftp://10.0.0.1/"]
)
def test_a_bad_base_is_bad_also_where_private_is_allowed(url: str) -> None:
    (problem,), loop = reach(url, resolver(), allow_private=True)
    assert problem.code == "bad_base"
    assert loop.connected == []


def test_allow_private_allows() -> None:
    (problem,), loop = reach("http://127.0.0.1:9/v1", resolver(), allow_private=True)
    assert problem.code == "upstream_unreachable"
    assert loop.connected == [("127.0.0.1", 9)]


def test_a_name_that_turns_private_is_refused_at_the_next_connection() -> None:
    problems, loop = reach("http://api.example.com/v1", resolver(["8.8.8.8"], ["127.0.0.1"]), times=3)
    assert [p.code for p in problems] == ["upstream_unreachable", "egress_refused", "egress_refused"]
    assert loop.connected == [("8.8.8.8", 80)], "it connects to the address that was checked, and asks but once"


def test_every_address_is_tried() -> None:
    (problem,), loop = reach("https://api.example.com/v1", resolver(["2606:4700::1", "8.8.8.8"]))
    assert problem.code == "upstream_unreachable"
    assert loop.connected == [("2606:4700::1", 443), ("8.8.8.8", 443)]
    assert isinstance(loop.tls["ssl"], ssl.SSLContext)
    assert loop.tls["server_hostname"] == "api.example.com", "the certificate is checked against the name"


def test_plain_http_has_no_tls() -> None:
    _, loop = reach("http://api.example.com/v1", resolver(["8.8.8.8"]))
    assert loop.tls == {"ssl": None, "server_hostname": None}


class Stuck(FakeLoop):
    """Connections to these addresses never come about."""

    async def create_connection(self, _: object, host: str, port: int, **tls: object) -> None:
        self.connected.append((host, port))
        await asyncio.sleep(1000)


async def never(host: str, port: int) -> list[str]:
    await asyncio.sleep(1000)
    return []


@pytest.mark.parametrize("lookup", [never, resolver(["8.8.8.8", "9.9.9.9"])], ids=["resolver", "connection"])
def test_nothing_is_waited_for_forever(lookup: Callable[[str, int], Any]) -> None:
    async def main() -> None:
        up = Upstream(Stuck(), Patience(connect_s=0.05), lookup=lookup)  # type: ignore[arg-type]
        with pytest.raises(Problem) as caught:
            await up.link("http://api.example.com/v1", ()).send(b"{}")
        assert (caught.value.fault, caught.value.status, caught.value.code) == ("timeout", 504, "upstream_timeout")
        up.close()

    asyncio.run(main())


@pytest.mark.parametrize("found", [[], ["not an address"], ["8.8.8.8", ""]])
def test_a_resolver_that_answers_nonsense(found: list[str]) -> None:
    (problem,), loop = reach("http://api.example.com/v1", resolver(found))
    assert problem.code == "upstream_unreachable", problem.say
    assert loop.connected == []


def test_an_unknown_name() -> None:
    (problem,), _ = reach("http://no.such.name.example/v1", resolver())
    assert (problem.code, problem.status) == ("upstream_unreachable", 502)
    assert "no.such.name.example" in problem.say


@pytest.mark.parametrize(
    "header",
    [("x-a", "b\r\nx-evil: 1"), ("x-a", "b\nc"), ("x\r\ny", "b"), ("x-a: b", "c"), ("x-a", "b\0"), ("", "b")],
)
def test_a_header_cannot_carry_another(header: tuple[str, str]) -> None:
    async def main() -> None:
        up = Upstream(asyncio.get_running_loop())
        with pytest.raises(Problem) as caught:
            up.link("http://api.example.com/v1", (header,))
        assert caught.value.code == "bad_header"
        up.close()

    asyncio.run(main())


def test_every_route_that_goes_out_obeys() -> None:
    async def main() -> None:
        async with rig(by_wish, allow_private=False) as r:
            for route, path, body, more in known.calls():
                if route.operation is None or route.operation.name in ("count_tokens", "count_generate", "rerank"):
                    continue  # they ask no provider of this dialect
                got = await r.ask(route.method, path, body, more)
                assert got.status == 502, route.path
                assert known.code(got) in ("egress_refused", "api_error", "UNAVAILABLE", "INTERNAL"), route.path
            assert r.provider.connections == 0

    run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True])
def test_a_redirect_is_not_followed(status: int, stream: bool) -> None:
    async def main() -> None:
        async def elsewhere(provider: Provider, body: bytes, *_: object) -> None:
            provider.script = by_wish  # whoever comes back gets a good answer

        async with rig() as other:
            where = f"location: http://127.0.0.1:{other.provider.port}/v1/chat/completions\r\n"
            async with rig(answering(json_answer(b"{}", status, where))) as r:
                got = await r.chat(stream=stream)
                assert (got.status, got.error["code"]) == (502, "upstream_invalid")
                assert other.provider.connections == 0
                assert "127.0.0.1" not in got.error["message"]

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_call_to_ourselves_is_refused(host: str) -> None:
    async def main() -> None:
        async with rig() as r:
            from_here = r.gate.upstream.link(f"http://{host}:{r.port}/v1", (), allow_private=True)
            with pytest.raises(Problem) as caught:
                await from_here.send(b"{}")
            assert caught.value.code == "self_call"
            assert not r.listener.conns

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0"])
def test_a_call_to_ourselves_is_refused_when_all_addresses_are_bound(host: str) -> None:
    async def main() -> None:
        async with rig(host="0.0.0.0") as r:
            from_here = r.gate.upstream.link(f"http://{host}:{r.port}/v1", (), allow_private=True)
            with pytest.raises(Problem) as caught:
                await from_here.send(b"{}")
            assert caught.value.code == "self_call"

    run(main())


def test_what_goes_upstream_is_ours_alone() -> None:
    """No header of the caller reaches the provider: neither its key nor what it says of itself."""
    seen = ("authorization: bearer lil_test", "x-evil", "cookie", "x-forwarded-for", "user-agent: evil")

    async def main() -> None:
        async with rig() as r:
            extra = {
                "X-Evil": "1",
                "Cookie": "a=b",
                "X-Forwarded-For": "1.2.3.4",
                "User-Agent": "evil",
                "X-Lilliput-Tag": "t",
            }
            for stream in (False, True):
                body = {**known.BODIES["chat"], "stream": stream}
                assert (await r.ask("POST", "/v1/chat/completions", body, extra)).status == 200
            for head in r.provider.heads:
                lines = head.decode("latin-1").lower()
                assert "authorization: bearer sk-up" in lines
                assert not [s for s in seen if s in lines]
                assert lines.count("\r\nhost: ") == lines.count("\r\ncontent-length: ") == 1

    run(main())
