"""The table ``nodeport`` of one family: the names of its sets and maps, what they hold, and what is always in them.

``chains`` has the rules; README.md draws the hooks.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from nodeport.forwarding.table import Family, IPNetwork, NodeFacts, Protocol
from nodeport.netlink.nftables.expressions import Code, Data, VerdictData
from nodeport.netlink.nftables.objects import Set, SetFlag, Table
from nodeport.proxy.nftables import typeof
from nodeport.proxy.nftables.dialect import Dialect, dialect
from nodeport.proxy.nftables.ruleset import Elements

TABLE: Final = "nodeport"
REJECT_CLASS: Final = 0x7FFE
DROP_CLASS: Final = 0x7FFF
ELSEWHERE_CLASS: Final = 0x7FFD
"""Whom the table beside IPVS lets pass."""
MAXIMUM_ENDPOINTS: Final = 0x7F00
"""Classes above are reserved; a route with more endpoints uses the first so many."""
_SIZE_BITS: Final = 15

POD_NETWORKS: Final = "pod-networks"
SERVICE_NETWORKS: Final = "service-networks"
NODEPORT_ADDRESSES: Final = "nodeport-addresses"
CLUSTER_IPS: Final = "cluster-ips"
LOCAL_ENDPOINTS: Final = "local-endpoints"
HAIRPINS: Final = "hairpins"
PROTOCOLS: Final = "protocols"
MASQUERADE_IPS: Final = "masquerade-ips"
MASQUERADE_NODE_IPS: Final = "masquerade-node-ips"
RESTRICTED_IPS: Final = "restricted-ips"
ALLOWED_SOURCES: Final = "allowed-sources"
RESTRICTED_NODEPORTS: Final = "restricted-nodeports"
ALLOWED_NODEPORT_SOURCES: Final = "allowed-nodeport-sources"
REFUSE: Final = "refuse"
ELSEWHERE: Final = "to-ipvs"
HELD_ADDRESSES: Final = "held-addresses"
"""Beside IPVS: external and load-balancer addresses that are the node's only for the sake of Services."""

AFFINITY: Final = "affinity"
"""client . identity of a Service port -> ticket, with a timeout; filled by packets alone."""
AFFINITY_SIZE: Final = 1 << 18
"""How many clients are remembered at most, of all Services; those who find no place go to any endpoint."""


IDENTITY_MASK: Final = 0x000FFFFF
"""A ticket is 32 bits: these say which Service port, those above which of its endpoints (its seat)."""
IDENTITY_BITS: Final = 20
SEATS: Final = 1 << 12


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """The maps that serve one kind of frontend for one kind of sender, and the prefix of their chains.

    ``classes``: frontend -> class; ``verdicts``: class -> chain or drop; ``endpoints``: frontend . slot -> endpoint.
    With session affinity, besides: ``choices``: frontend . slot -> ticket; ``seats``: frontend . ticket -> endpoint. A
    slot is a place among so many; a ticket is an endpoint's for life.
    """

    classes: str
    verdicts: str
    endpoints: str
    choices: str
    seats: str
    chain: str
    by_address: bool

    def chain_name(self, size: int, timeout: int = 0) -> str:
        """``timeout``: of session affinity, in seconds; 0 without."""
        return f"{self.chain}-{size}-sticky-{timeout}" if timeout else f"{self.chain}-{size}"


def _lookup(prefix: str, *, by_address: bool, classes: str = "") -> Lookup:
    return Lookup(
        classes or f"{prefix}s",
        f"{prefix}-classes",
        f"{prefix}-endpoints",
        f"{prefix}-choices",
        f"{prefix}-seats",
        prefix,
        by_address,
    )


IPS: Final = _lookup("service", by_address=True, classes="service-ips")
NODEPORTS: Final = _lookup("nodeport", by_address=False)
OUTSIDE_IPS: Final = _lookup("outside", by_address=True, classes="outside-ips")
OUTSIDE_NODEPORTS: Final = _lookup("outside-nodeport", by_address=False)
LOOKUPS: Final = (IPS, NODEPORTS, OUTSIDE_IPS, OUTSIDE_NODEPORTS)

_PROTOCOL: Final = 12
_PORT: Final = 13
_CLASS: Final = 23
_CLASS_LENGTH: Final = 4
_INTEGER: Final = 4
_VERDICT: Final = 0xFFFFFF00
_A_DAY: Final = 24 * 3600 * 1000


class Role(StrEnum):
    """What a table of this make is for; the value is its name."""

    ALONE = "nodeport"
    """All of it: mode nftables."""
    BESIDE_IPVS = "nodeport-ipvs"
    """All but spreading the connections of pods and of the node: those pass, and IPVS spreads them."""


def table(family: Family, role: Role = Role.ALONE) -> Table:
    """The one table of this role in a family."""
    return Table(role.value, dialect(family).netfilter_family)


def masquerade_set(protocol: Protocol, *, node_only: bool) -> str:
    """The set of NodePorts of one protocol whose connections are masqueraded: all, or only the node's own."""
    return f"masquerade-{'node-' if node_only else ''}{protocol.name.lower()}"


def number(value: int) -> bytes:
    """A class or a ticket, as ``meta priority`` holds it: 32 bits, host-endian."""
    return struct.pack("=I", value)


@lru_cache(maxsize=1024)
def class_key(size: int, timeout: int = 0) -> bytes:
    """The class of frontends with ``size`` endpoints and, with session affinity, a timeout in seconds."""
    return number(timeout << _SIZE_BITS | size)


def numbers_of(key: bytes) -> tuple[int, int] | None:
    """The number of endpoints and the timeout that a class stands for; None: it refuses or drops, or says nothing."""
    timeout, size = divmod(int.from_bytes(key, sys.byteorder), 1 << _SIZE_BITS)
    return (size, timeout) if len(key) == _CLASS_LENGTH and 0 < size <= MAXIMUM_ENDPOINTS else None


def constant_elements(node: NodeFacts, role: Role) -> Elements:
    """The elements that do not depend on any Service."""
    elements: Elements = {
        PROTOCOLS: {bytes((protocol.value,)): b"" for protocol in Protocol},
        POD_NETWORKS: intervals(node.pod_networks, node.family),
        SERVICE_NETWORKS: intervals(node.service_networks, node.family),
        NODEPORT_ADDRESSES: intervals(node.nodeport_networks, node.family),
    }
    for lookup in LOOKUPS:
        elements[lookup.verdicts] = {
            class_key(REJECT_CLASS): VerdictData(Code.GOTO, REFUSE),
            class_key(DROP_CLASS): VerdictData(Code.DROP),
        }
        if role is Role.BESIDE_IPVS:
            elements[lookup.verdicts][class_key(ELSEWHERE_CLASS)] = VerdictData(Code.GOTO, ELSEWHERE)
    return elements


def intervals(networks: Iterable[IPNetwork], family: Family) -> dict[bytes, Data]:
    """Networks as elements of an interval set; touching and overlapping ones become one."""
    ranges = sorted((int(item.network_address), int(item.broadcast_address)) for item in networks)
    merged: list[list[int]] = []
    for first, last in ranges:
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], last + 1)
        else:
            merged.append([first, last + 1])
    length = dialect(family).address_length
    end = 1 << 8 * length
    return {
        first.to_bytes(length, "big") + (after.to_bytes(length, "big") if after < end else b""): b""
        for first, after in merged
    }


def sets(node: NodeFacts, role: Role) -> dict[str, Set]:
    """Every set and map of the table."""
    return dict(_sets(dialect(node.family), role, AFFINITY_SIZE))


@lru_cache(maxsize=4)
def _sets(words: Dialect, role: Role, remembered: int) -> dict[str, Set]:
    made = [*_plain_sets(words), *_source_sets(words), *_maps(words, remembered)]
    if role is Role.BESIDE_IPVS:
        made.append(
            Set(HELD_ADDRESSES, words.address_type, words.address_length, userdata=typeof.network_order())
        )
    return {item.name: item for item in made}


def _plain_sets(words: Dialect) -> Iterable[Set]:
    network_order, no_order = typeof.network_order(), typeof.no_order()
    address, length = words.address_type, words.address_length
    for name in (POD_NETWORKS, SERVICE_NETWORKS, NODEPORT_ADDRESSES):
        yield Set(name, address, length, SetFlag.INTERVAL, userdata=network_order)
    yield Set(PROTOCOLS, _PROTOCOL, 1, userdata=no_order)
    for name in (CLUSTER_IPS, LOCAL_ENDPOINTS):
        yield Set(name, address, length, userdata=network_order)
    yield Set(HAIRPINS, _joined(address, address), 2 * length, userdata=no_order)
    for name in (MASQUERADE_IPS, MASQUERADE_NODE_IPS, RESTRICTED_IPS):
        yield Set(name, _joined(*_fields(words, by_address=True)), length + 8, userdata=no_order)
    yield Set(RESTRICTED_NODEPORTS, _joined(_PROTOCOL, _PORT), 8, userdata=no_order)
    for protocol in Protocol:
        for node_only in (False, True):
            yield _ports(masquerade_set(protocol, node_only=node_only), network_order)


def _ports(name: str, userdata: bytes) -> Set:
    """A set of ports that the kernel keeps as a hash table.

    A plain set of so short keys would become a bitmap with a list beside it, through which it looks for each element
    that comes or goes; those of sets with timeouts cannot. None of ours has one, so there is nothing to look for.
    """
    return Set(name, _PORT, 2, SetFlag.TIMEOUT, userdata=userdata, gc_interval=_A_DAY)


def _source_sets(words: Dialect) -> Iterable[Set]:
    """Who may: a frontend and the networks that its packets may come from."""
    for name, by_address in ((ALLOWED_SOURCES, True), (ALLOWED_NODEPORT_SOURCES, False)):
        yield Set(
            name,
            _joined(*_fields(words, by_address=by_address), words.address_type),
            words.frontend_length(by_address=by_address) + words.address_length,
            SetFlag.INTERVAL | SetFlag.CONCAT,
            userdata=typeof.no_order(),
            fields=(*((words.address_length,) if by_address else ()), 1, 2, words.address_length),
        )


def _maps(words: Dialect, remembered: int) -> Iterable[Set]:
    numbers = typeof.class_data()
    for lookup in LOOKUPS:
        fields = _fields(words, by_address=lookup.by_address)
        length = words.frontend_length(by_address=lookup.by_address)
        key, slot, seat = _joined(*fields), _joined(*fields, _INTEGER), _joined(*fields, _CLASS)
        endpoint, endpoint_length = _joined(words.address_type, _PORT), words.endpoint_length
        by_slot = typeof.endpoints_by_slot(words.family, by_address=lookup.by_address)
        seat_by_slot = typeof.seats_by_slot(words.family, by_address=lookup.by_address)
        yield Set(lookup.classes, key, length, SetFlag.MAP, _CLASS, 4, numbers)
        yield Set(lookup.verdicts, _CLASS, 4, SetFlag.MAP, _VERDICT, userdata=typeof.class_verdicts())
        yield Set(lookup.endpoints, slot, length + 4, SetFlag.MAP, endpoint, endpoint_length, by_slot)
        yield Set(lookup.choices, slot, length + 4, SetFlag.MAP, _CLASS, 4, seat_by_slot)
        yield Set(lookup.seats, seat, length + 4, SetFlag.MAP, endpoint, endpoint_length, typeof.no_orders())
    yield Set(
        AFFINITY,
        _joined(words.address_type, _CLASS),
        words.address_length + 4,
        SetFlag.MAP | SetFlag.TIMEOUT | SetFlag.EVAL,
        _CLASS,
        4,
        numbers,
        remembered,
    )


def _fields(words: Dialect, *, by_address: bool) -> tuple[int, ...]:
    """nft's types of a frontend's fields."""
    return (words.address_type, _PROTOCOL, _PORT) if by_address else (_PROTOCOL, _PORT)


def _joined(*types: int) -> int:
    """nft's number for a concatenation: six bits per field."""
    joined = 0
    for kind in types:
        joined = joined << 6 | kind
    return joined
