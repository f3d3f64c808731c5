"""IP addresses and CIDRs as objects write them, and the API's complaints about them.

Rules: strict parsing, as Kubernetes 1.36 applies to new values (no leading zeros, no IPv4-mapped IPv6).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NO_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


@lru_cache(maxsize=16384)
def sloppy_ip(text: str) -> Address | None:
    """The address, decimal parts with leading zeros allowed; None when ``text`` is none. No zones."""
    if "%" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        pass
    if "." not in text or ":" in text:
        return None
    try:
        return ip_address(".".join(part.lstrip("0") or "0" if part else "x" for part in text.split(".")))
    except ValueError:
        return None


def sloppy_network(text: str) -> Network | None:
    """The network that a CIDR names, leading zeros and host bits allowed; None when ``text`` is none.

    What was stored or configured before Kubernetes became strict still counts.
    """
    head, slash, length = text.strip().partition("/")
    address = sloppy_ip(head)
    if address is None or not slash or not (length.isascii() and length.isdecimal()):
        return None
    if len(length) > 3 or int(length) > address.max_prefixlen:
        return None
    return ip_network((address, int(length)), strict=False)


@lru_cache(maxsize=16384)
def ip_complaints(text: str) -> tuple[str, ...]:
    """What is wrong with ``text`` as an address."""
    found = sloppy_ip(text)
    if found is None:
        return (_NO_IP,)
    if isinstance(found, IPv6Address):
        return ("must not be an IPv4-mapped IPv6 address",) if found.ipv4_mapped is not None else ()
    return ("must not have leading 0s",) if str(found) != text else ()


@lru_cache(maxsize=16384)
def special_ip_complaints(text: str) -> tuple[str, ...]:
    """Why a well-formed address may not be an endpoint or an external IP."""
    address = sloppy_ip(text)
    if address is None:
        return (_NO_IP,)
    found = []
    if address.is_unspecified:
        found.append(f"may not be unspecified ({text})")
    if address.is_loopback:
        found.append("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        found.append("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if _is_link_local_multicast(address):
        found.append("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    return tuple(found)


def _is_link_local_multicast(address: Address) -> bool:
    packed = address.packed
    if address.version == 4:
        return packed[:3] == b"\xe0\x00\x00"
    return packed[0] == 0xFF and packed[1] & 0x0F == 0x02


def cidr_complaints(text: str) -> tuple[str, ...]:
    """What is wrong with ``text`` as a CIDR: canonical, without host bits."""
    head, slash, prefix = text.partition("/")
    address = sloppy_ip(head)
    if address is None or not slash or not prefix.isascii() or not prefix.isdigit() or len(prefix) > 9:
        return (_NO_CIDR,)
    if int(prefix) > address.max_prefixlen:
        return (_NO_CIDR,)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return ("must not have an IPv4-mapped IPv6 address",)
    if (address.version == 4 and str(address) != head) or str(int(prefix)) != prefix:
        return ("must not have leading 0s in IP or prefix length",)
    if ip_network(f"{address}/{prefix}", strict=False).network_address != address:
        return ("must not have bits set beyond the prefix length",)
    return ()


def canonical_ip(text: str) -> str:
    """The one way to write an address: RFC 5952 for IPv6. ``text`` itself when it is no address."""
    address = sloppy_ip(text)
    return text if address is None else str(address)


def canonical_cidr(text: str) -> str:
    """The one way to write a CIDR that ``cidr_complaints`` finds nothing wrong with."""
    return str(ip_network(text))


def is_ipv6(text: str) -> bool:
    address = sloppy_ip(text)
    return address is not None and address.version == 6


def family(text: str) -> str:
    """``IPv4`` or ``IPv6``; empty when ``text`` is no address."""
    address = sloppy_ip(text)
    return "" if address is None else f"IPv{address.version}"
