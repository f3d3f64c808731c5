"""How the kernel is told of host ports: a small table in the node's network namespace for each family that has some.

``ip nodeport-hostports`` and ``ip6 nodeport-hostports``, looked at before the proxy's table. Pure: batches only.

On IPv4 loopback is one of the node's addresses: the kernel lets such packets leave through the links of pods with host
ports (``route_localnet``), there they get the node's address as their source; and whatever comes from elsewhere to
127.0.0.0/8 is dropped before anything looks at it. IPv6 has no such way: ``::1`` is left alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import element_payloads
from nodeport.netlink.nftables.expressions import Code, Data, Expression, VerdictData, expression, register
from nodeport.netlink.nftables.kernel import Request
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Set, SetFlag, Table

NAME: Final = "nodeport-hostports"
BEFORE_THE_PROXY: Final = -101
SOURCE_NAT: Final = 100
RAW: Final = -300
UDP: Final = 17
PROTOCOLS: Final = {"TCP": 6, "UDP": UDP, "SCTP": 132}
IPAddress = IPv4Address | IPv6Address
_PROTOCOL, _PORT = 12, 13
_CREATE: Final = codec.NLM_F_CREATE
_APPEND: Final = codec.NLM_F_CREATE | codec.NLM_F_APPEND
_LOOPBACK_LINK: Final = b"lo".ljust(16, b"\0")


@dataclass(frozen=True, slots=True)
class HostPort:
    """``address`` 0.0.0.0 or ``::``: all of the node's in that family."""

    address: IPAddress
    protocol: int
    port: int

    def overlaps(self, other: HostPort) -> bool:
        same = (self.protocol, self.port, self.address.version) == (
            other.protocol, other.port, other.address.version,
        )  # fmt: skip
        anywhere = self.address.is_unspecified or other.address.is_unspecified
        return same and (anywhere or self.address == other.address)

    def __str__(self) -> str:
        name = next(name for name, number in PROTOCOLS.items() if number == self.protocol)
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{shown}:{self.port}/{name}"


@dataclass(frozen=True, slots=True)
class Target:
    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class _Family:
    """``kind``: nft's number of the address type; offsets are those in the IP header, in bytes."""

    table: Table
    kind: int
    length: int
    source: int
    destination: int
    loopback: bytes
    loopback_mask: bytes

    @property
    def words(self) -> int:
        """How many 32-bit registers an address takes."""
        return self.length // 4


_FAMILIES: Final = {
    4: _Family(Table(NAME, objects.FAMILY_IPV4), 7, 4, 12, 16, bytes((127, 0, 0, 0)), bytes((255, 0, 0, 0))),
    6: _Family(Table(NAME, objects.FAMILY_IPV6), 8, 16, 8, 24, IPv6Address("::1").packed, bytes((255,)) * 16),
}


def requests(ports: Mapping[HostPort, Target]) -> Iterator[Request]:
    """The batch that replaces both tables; none is left without ports."""
    for version, family in _FAMILIES.items():
        yield MessageType.NEWTABLE, _CREATE, family.table.address
        yield MessageType.DELTABLE, 0, family.table.address
        found = {port: target for port, target in ports.items() if port.address.version == version}
        if found:
            yield from _table(family, found)


def _table(family: _Family, ports: Mapping[HostPort, Target]) -> Iterator[Request]:
    table = family.table
    yield MessageType.NEWTABLE, _CREATE, table.address
    elements = dict(_elements(family, ports))
    for identity, item in enumerate(elements, 1):
        yield MessageType.NEWSET, _CREATE, objects.set_payload(table, item, identity)
    chains = [*_chains(family), *(_loopback_chains(family) if family.length == 4 else ())]
    for chain in reversed(chains):  # what is jumped to comes first
        yield MessageType.NEWCHAIN, _CREATE, objects.chain_payload(table, chain)
    for chain in chains:
        for rule in chain.rules:
            yield MessageType.NEWRULE, _APPEND, objects.rule_payload(table, chain.name, rule)
    for item, content in elements.items():
        for payload in element_payloads(table, item, content):
            yield MessageType.NEWSETELEM, _CREATE, payload


def _elements(family: _Family, ports: Mapping[HostPort, Target]) -> Iterator[tuple[Set, dict[bytes, Data]]]:
    target_type, length = _joined(family.kind, _PORT), family.length
    place = _joined(family.kind, _PROTOCOL, _PORT), length + 8
    here = Set("by-address", *place, SetFlag.MAP, target_type, length + 4)
    anywhere = Set("everywhere", _joined(_PROTOCOL, _PORT), 8, SetFlag.MAP, target_type, length + 4)
    hairpins = Set("hairpins", _joined(family.kind, family.kind), 2 * length)
    yield here, {
        port.address.packed + _service(port): _target(target)
        for port, target in ports.items() if not port.address.is_unspecified
    }  # fmt: skip
    yield anywhere, {
        _service(port): _target(target) for port, target in ports.items() if port.address.is_unspecified
    }  # fmt: skip
    yield hairpins, {target.address.packed * 2: b"" for target in ports.values()}


def _service(port: HostPort) -> bytes:
    return bytes((port.protocol, 0, 0, 0)) + port.port.to_bytes(2, "big") + bytes(2)


def _target(target: Target) -> bytes:
    return target.address.packed + target.port.to_bytes(2, "big") + bytes(2)


def _joined(*types: int) -> int:
    """nft's number for a concatenation: six bits per field."""
    number = 0
    for kind in types:
        number = number << 6 | kind
    return number


def _chains(family: _Family) -> Iterable[Chain]:
    to_us: tuple[Expression, ...] = (
        expression("fib", dreg=register(0), result=nft.FIB_ADDRESS_TYPE, flags=nft.FIB_DADDR),
        _compared(nft.CMP_EQ, struct.pack("=I", nft.RTN_LOCAL)),
    )
    if family.length == 16:
        to_us += _loopback(family, family.destination, nft.CMP_NEQ)
    enter = expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.JUMP, "hostports"))
    first = (Rule((*to_us, enter)),)
    yield Chain("prerouting", first, BaseHook("nat", Hook.PREROUTING, BEFORE_THE_PROXY))
    yield Chain("output", first, BaseHook("nat", Hook.OUTPUT, BEFORE_THE_PROXY))
    itself = (
        _loaded(family, family.source, 0), _loaded(family, family.destination, family.words),
        expression("lookup", set="hairpins", sreg=register(0)), expression("masq"),
    )  # fmt: skip
    hairpin = Rule(itself, "a pod through its own host port")
    from_loopback = Rule(
        (*_not_lo(nft.META_OIFNAME), *_loopback(family, family.source, nft.CMP_EQ), expression("masq")),
        "the node through its loopback address",
    )
    after = (hairpin, from_loopback) if family.length == 4 else (hairpin,)
    yield Chain("postrouting", after, BaseHook("nat", Hook.POSTROUTING, SOURCE_NAT))
    yield Chain("hostports", (Rule(_to_pod(family, "by-address")), Rule(_to_pod(family, "everywhere"))))


def _loopback_chains(family: _Family) -> Iterable[Chain]:
    drop = expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.DROP))
    strange = (*_not_lo(nft.META_IIFNAME), *_loopback(family, family.destination, nft.CMP_EQ), drop)
    guard = Rule(strange, "loopback is not reached from elsewhere")
    yield Chain("guard", (guard,), BaseHook("filter", Hook.PREROUTING, RAW))


def _to_pod(family: _Family, ports: str) -> tuple[Expression, ...]:
    """Loads ``[ip daddr .] meta l4proto . th dport``, finds the pod and translates."""
    by_address = ports == "by-address"
    word = family.words if by_address else 0
    return (
        *((_loaded(family, family.destination, 0),) if by_address else ()),
        expression("meta", dreg=register(word), key=nft.META_L4PROTO),
        expression("payload", dreg=register(word + 1), base=nft.TRANSPORT_HEADER, offset=2, length=2),
        expression("lookup", set=ports, sreg=register(0), dreg=register(0)),
        expression(
            "nat", type=nft.DNAT, family=family.table.family, address=register(0), port=register(family.words),
            flags=nft.NAT_ADDRESS_AND_PORT,
        ),
    )  # fmt: skip


def _loaded(family: _Family, offset: int, word: int) -> Expression:
    """An address out of the IP header."""
    return expression(
        "payload", dreg=register(word), base=nft.NETWORK_HEADER, offset=offset, length=family.length
    )


def _loopback(family: _Family, offset: int, how: int) -> tuple[Expression, ...]:
    length, mask = family.length, family.loopback_mask
    masked = expression(
        "bitwise", sreg=register(0), dreg=register(0), length=length, mask=mask, xor=bytes(length)
    )
    return _loaded(family, offset, 0), masked, _compared(how, family.loopback)


def _not_lo(key: int) -> tuple[Expression, ...]:
    return expression("meta", dreg=register(0), key=key), _compared(nft.CMP_NEQ, _LOOPBACK_LINK)


def _compared(how: int, value: bytes) -> Expression:
    return expression("cmp", sreg=register(0), op=how, data=value)
