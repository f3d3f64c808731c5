"""The addresses that a network namespace has on its interfaces."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family, IPAddress
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket

_IF_INET6: Final = Path("/proc/thread-self/net/if_inet6")
_LINK_SCOPE: Final = 0x20


def local_addresses(netns: Path | None, family: Family) -> list[IPAddress]:
    """Without loopback and link-local ones, on which nobody from elsewhere can ask. Raises OSError."""
    if family is Family.IPV6:
        return [address for address in open_in(netns, _ipv6_addresses) if not address.is_loopback]
    with RouteSocket(netns) as kernel:
        found = {interface.ip for interface in kernel.addresses()}
    return [address for address in sorted(found) if not address.is_loopback]


def _ipv6_addresses() -> list[IPv6Address]:
    if not _IF_INET6.exists():
        return []
    fields = (line.split() for line in _IF_INET6.read_text().splitlines())
    return sorted(
        IPv6Address(bytes.fromhex(words[0])) for words in fields if int(words[3], 16) & 0xF0 != _LINK_SCOPE
    )
