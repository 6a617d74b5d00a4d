"""The egress rule: which addresses the gateway may connect to. The name is resolved once and the checked IP is used.

A private, loopback, link-local or otherwise special address is refused unless the provider's row says
`allow_private = true`. Sources: IANA special-purpose registries as in `ipaddress.is_global`, and the embedded-IPv4
forms that it lets through (RFC 6052 NAT64, RFC 3056 6to4, RFC 4380 Teredo, RFC 5214 ISATAP; checked 2026-11-22).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from lilliput.neutral import Problem

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> IP addresses as text, best first; raises OSError when the name has none."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_ISATAP: Final = 0x00005EFE
_NEVER: Final = tuple(
    ipaddress.ip_network(n)
    for n in (
        "64:ff9b:1::/48",  # NAT64 for local use (RFC 8215)
        "fec0::/10",  # site-local, deprecated but still routed in places (RFC 3879)
        "3fff::/20",  # documentation (RFC 9637), unknown to older ipaddress
        "fd00:ec2::/32",  # cloud metadata
        "100.64.0.0/10",  # carrier-grade NAT
        "169.254.0.0/16",  # link-local, cloud metadata
        "192.0.0.0/24",  # protocol assignments, cloud metadata
        "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
        "168.63.129.16/32",  # Azure's platform address, public in form alone
    )
)


def is_public(ip: Address) -> bool:
    """True for an address of the open internet, also when an IPv4 address hides inside an IPv6 one."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and (ip in _NAT64 or int(ip) >> 32 & 0xFCFFFFFF == _ISATAP):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    if any(ip.version == net.version and ip in net for net in _NEVER):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


async def checked(host: str, port: int, allow_private: bool, lookup: Lookup) -> list[str]:
    """The addresses of `host` that may be connected to, best first.

    One forbidden address among several refuses them all: a name that answers with both is not to be trusted.
    Raises Problem when the name does not resolve or an address is forbidden.
    """
    try:
        found = [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        try:
            found = [str(ipaddress.ip_address(text)) for text in await lookup(host, port)]
            if not found:
                raise OSError("it has no address")
        except (OSError, ValueError) as e:
            say = f"the provider's host {host!r} does not resolve ({e}); check `base` in the configuration"
            raise Problem("provider", say, code="upstream_unreachable") from None
    for text in found if not allow_private else ():
        if not is_public(ipaddress.ip_address(text)):
            raise Problem(
                "provider",
                f"the provider's host {host!r} is at a private address, which is refused; "
                "set allow_private = true on the provider's row if it is meant",
                code="egress_refused",
            )
    return found


def is_own(ip: str, port: int, own: Collection[tuple[str, int]]) -> bool:
    """True when a connection to `ip` and `port` would come back to an address that we listen on."""
    there = _plain(ip)
    for own_ip, own_port in own:
        here = _plain(own_ip)
        loops = here.is_unspecified and (there.is_loopback or there.is_unspecified)
        if port == own_port and (there == here or loops or (there.is_unspecified and here.is_loopback)):
            return True
    return False


def _plain(ip: str) -> Address:
    """The IPv4 address inside a mapped IPv6 one, else the address itself."""
    address = ipaddress.ip_address(ip)
    return getattr(address, "ipv4_mapped", None) or address
