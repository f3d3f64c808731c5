"""The host ports of a node's pods: a small table of its own in the node's network namespace, ``ip nodeport-hostports``.

What comes to one of the node's own addresses (loopback apart) at a host port goes to the pod, whoever sent it; with
a ``hostIP`` only what comes to that address. It is looked at before the proxy's table. The whole table is replaced by
each change, in one batch: there are few, and connections that exist do not pass it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

from nodeport.api.meta import JsonObject
from nodeport.netlink import codec
from nodeport.netlink.nftables import expressions as nft
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import element_payloads
from nodeport.netlink.nftables.expressions import Code, Data, Expression, VerdictData, expression, register
from nodeport.netlink.nftables.kernel import Nftables, Request
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Set, SetFlag, Table

TABLE: Final = Table("nodeport-hostports")
BEFORE_THE_PROXY: Final = -101
SOURCE_NAT: Final = 100
PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132}
EVERYWHERE: Final = IPv4Address(0)
_LOOPBACK, _LOOPBACK_MASK = bytes((127, 0, 0, 0)), bytes((255, 0, 0, 0))
_ADDRESS, _PROTOCOL, _PORT = 7, 12, 13
_CREATE: Final = codec.NLM_F_CREATE
_APPEND: Final = codec.NLM_F_CREATE | codec.NLM_F_APPEND


class HostPortTaken(Exception):
    """Another pod of the node has the port; the text names both."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """``address`` 0.0.0.0: all of the node's."""

    address: IPv4Address
    protocol: int
    port: int

    def overlaps(self, other: HostPort) -> bool:
        same = (self.protocol, self.port) == (other.protocol, other.port)
        return same and (self.address == other.address or EVERYWHERE in (self.address, other.address))

    def __str__(self) -> str:
        name = next(name for name, number in PROTOCOLS.items() if number == self.protocol)
        return f"{self.address}:{self.port}/{name}"


@dataclass(frozen=True, slots=True)
class Target:
    address: IPv4Address
    port: int


def wanted_by(pod: JsonObject, address: IPv4Address) -> dict[HostPort, Target]:
    """What the pod asks for. On the node's own network its ports are the node's anyway."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return {}
    found = {}
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for port in container.get("ports") or ():
            if not port.get("hostPort"):
                continue
            try:
                at = IPv4Address(port.get("hostIP") or EVERYWHERE)
            except AddressValueError:
                continue  # of the other family, which this node does not have
            key = HostPort(at, PROTOCOLS[port.get("protocol") or "TCP"], port["hostPort"])
            found[key] = Target(address, port["containerPort"])
    return found


@dataclass(slots=True)
class HostPorts:
    """Those of one node, by pod. ``netns`` None: this machine's."""

    netns: Path | None
    _by_pod: dict[str, dict[HostPort, Target]] = field(default_factory=dict)

    def hold(self, uid: str, wanted: Mapping[HostPort, Target]) -> None:
        """Give the pod its ports. Raises HostPortTaken, OSError, NetlinkError; then it has none."""
        if self._by_pod.get(uid, {}) == dict(wanted):
            return
        for other, theirs in self._by_pod.items():
            for port in wanted:
                if other != uid and (taken := next((one for one in theirs if one.overlaps(port)), None)):
                    raise HostPortTaken(f"host port {port} is taken: another pod of this node has {taken}")
        before = dict(self._by_pod)
        self._by_pod[uid] = dict(wanted)
        try:
            self.apply()
        except BaseException:
            self._by_pod = before
            raise

    def note(self, uid: str, wanted: Mapping[HostPort, Target]) -> None:
        """Ports that a pod had before we came; `apply` is still to be called."""
        self._by_pod[uid] = dict(wanted)

    def release(self, uid: str) -> None:
        """Raises OSError, NetlinkError."""
        if self._by_pod.pop(uid, None):
            self.apply()

    def apply(self) -> None:
        """Have the kernel know these ports and no others."""
        everything = {port: target for ports in self._by_pod.values() for port, target in ports.items()}
        with Nftables(self.netns) as kernel:
            kernel.commit(list(requests(everything)))


def remove(netns: Path | None) -> None:
    """Take the table away; nothing when it is not there."""
    with Nftables(netns) as kernel:
        kernel.commit(list(requests({})))


def requests(ports: Mapping[HostPort, Target]) -> Iterator[Request]:
    """The batch that replaces the table; none is left without ports. Pure."""
    yield MessageType.NEWTABLE, _CREATE, TABLE.address
    yield MessageType.DELTABLE, 0, TABLE.address
    if not ports:
        return
    yield MessageType.NEWTABLE, _CREATE, TABLE.address
    elements = dict(_elements(ports))
    for identity, item in enumerate(elements, 1):
        yield MessageType.NEWSET, _CREATE, objects.set_payload(TABLE, item, identity)
    chains = list(_chains())
    for chain in reversed(chains):  # what is jumped to comes first
        yield MessageType.NEWCHAIN, _CREATE, objects.chain_payload(TABLE, chain)
    for chain in chains:
        for rule in chain.rules:
            yield MessageType.NEWRULE, _APPEND, objects.rule_payload(TABLE, chain.name, rule)
    for item, content in elements.items():
        for payload in element_payloads(TABLE, item, content):
            yield MessageType.NEWSETELEM, _CREATE, payload


def _elements(ports: Mapping[HostPort, Target]) -> Iterator[tuple[Set, dict[bytes, Data]]]:
    target_type = _joined(_ADDRESS, _PORT)
    here = Set("by-address", _joined(_ADDRESS, _PROTOCOL, _PORT), 12, SetFlag.MAP, target_type, 8)
    anywhere = Set("everywhere", _joined(_PROTOCOL, _PORT), 8, SetFlag.MAP, target_type, 8)
    hairpins = Set("hairpins", _joined(_ADDRESS, _ADDRESS), 8)
    yield here, {
        port.address.packed + _service(port): _target(target)
        for port, target in ports.items() if port.address != EVERYWHERE
    }  # fmt: skip
    yield (
        anywhere,
        {_service(port): _target(target) for port, target in ports.items() if port.address == EVERYWHERE},
    )
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


def _chains() -> Iterable[Chain]:
    to_us = (
        expression("fib", dreg=register(0), result=nft.FIB_ADDRESS_TYPE, flags=nft.FIB_DADDR),
        _compared(nft.CMP_EQ, struct.pack("=I", nft.RTN_LOCAL)),
    )
    not_loopback = (
        _loaded(16, register(0)),
        expression(
            "bitwise", sreg=register(0), dreg=register(0), length=4, mask=_LOOPBACK_MASK, xor=bytes(4)
        ),
        _compared(nft.CMP_NEQ, _LOOPBACK),
    )
    enter = expression("immediate", dreg=nft.VERDICT_REGISTER, data=VerdictData(Code.JUMP, "hostports"))
    first = (Rule((*to_us, *not_loopback, enter)),)
    yield Chain("prerouting", first, BaseHook("nat", Hook.PREROUTING, BEFORE_THE_PROXY))
    yield Chain("output", first, BaseHook("nat", Hook.OUTPUT, BEFORE_THE_PROXY))
    itself = (
        _loaded(12, register(0)), _loaded(16, register(1)),
        expression("lookup", set="hairpins", sreg=register(0)), expression("masq"),
    )  # fmt: skip
    hairpin = (Rule(itself, "a pod through its own host port"),)
    yield Chain("postrouting", hairpin, BaseHook("nat", Hook.POSTROUTING, SOURCE_NAT))
    yield Chain("hostports", (Rule(_to_pod("by-address")), Rule(_to_pod("everywhere"))))


def _to_pod(ports: str) -> tuple[Expression, ...]:
    """Loads ``[ip daddr .] meta l4proto . th dport``, finds the pod and translates."""
    words = [register(0), register(1), register(2)]
    address = (_loaded(16, words.pop(0)),) if ports == "by-address" else ()
    return (
        *address,
        expression("meta", dreg=words[0], key=nft.META_L4PROTO),
        expression("payload", dreg=words[1], base=nft.TRANSPORT_HEADER, offset=2, length=2),
        expression("lookup", set=ports, sreg=register(0), dreg=register(0)),
        expression(
            "nat", type=nft.DNAT, family=objects.FAMILY_IPV4, address=register(0), port=register(1),
            flags=nft.NAT_ADDRESS_AND_PORT,
        ),
    )  # fmt: skip


def _loaded(offset: int, word: int) -> Expression:
    """An address out of the IP header: 12 the source, 16 the destination."""
    return expression("payload", dreg=word, base=nft.NETWORK_HEADER, offset=offset, length=4)


def _compared(how: int, value: bytes) -> Expression:
    return expression("cmp", sreg=register(0), op=how, data=value)
