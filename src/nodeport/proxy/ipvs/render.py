"""Forwardings spelled as virtual services. Pure.

A frontend that forwards is a virtual service, a NodePort one on each of the node's addresses it answers on. Who comes
from outside to a frontend with policy Local, who must come back to one endpoint, and who is refused or dropped, never
gets as far as IPVS: the table beside it has decided (``nftables.layout.Role.BESIDE_IPVS``). So what is spelled here is
the route of pods and of the node, where there is no session affinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, KeysView, Sequence
from dataclasses import dataclass, field
from typing import Final

from nodeport.forwarding.table import (
    Forwarding,
    IPNetwork,
    NodePort,
    ServicePortName,
    Verdict,
)
from nodeport.netlink.ipvs.messages import DestinationKey, ServiceFlag, ServiceKey, VirtualService

SIGNATURE: Final = ServiceFlag.SCHEDULER_3
"""Every virtual service of ours carries this flag, which the kernel keeps and ignores; ``ipvsadm`` calls it flag-3."""


@dataclass(frozen=True, slots=True)
class Spelled:
    """One virtual service as it is wanted; all destinations weigh the same."""

    service: VirtualService
    destinations: frozenset[DestinationKey]


@dataclass(slots=True)
class Rendered:
    """What one Service port needs: virtual services by address, those of NodePorts, and addresses that must be
    delivered to the node one by one (packed): external ones, and ClusterIPs where no service network is known.
    ``beside``: frontends that IPVS has nothing to do with, since the table beside it decides about everybody's packets.
    """

    exact: dict[ServiceKey, Spelled] = field(default_factory=dict)
    by_port: dict[ServiceKey, Spelled] = field(default_factory=dict)
    beside: set[ServiceKey] = field(default_factory=set)
    addresses: set[bytes] = field(default_factory=set)

    @property
    def keys(self) -> set[ServiceKey]:
        """All frontends, on every address that they have on this node."""
        return self.exact.keys() | self.by_port.keys() | self.beside


@dataclass(frozen=True, slots=True)
class Spelling:
    """``nodeport_addresses``: packed, on which NodePorts answer; ``networks``: delivered to the node as a whole."""

    nodeport_addresses: Sequence[bytes]
    scheduler: str = "rr"
    networks: Sequence[IPNetwork] = ()


def render_forwarding(name: ServicePortName, forwarding: Forwarding, spelling: Spelling) -> Rendered:
    """What IPVS must have for one Service port."""
    rendered = Rendered()
    spelled: dict[int, frozenset[DestinationKey]] = {}
    for frontend in forwarding.frontends:
        if isinstance(frontend, NodePort):
            where, addresses = rendered.by_port, spelling.nodeport_addresses
        else:
            where, addresses = rendered.exact, (frontend.address.packed,)
            if not any(frontend.address in network for network in spelling.networks):
                rendered.addresses.update(addresses)
        keys = [ServiceKey(name.protocol.value, address, frontend.port) for address in addresses]
        route = forwarding.routes(frontend).node
        if route.verdict is not Verdict.FORWARD or forwarding.affinity is not None:
            rendered.beside.update(keys)
            continue
        destinations = spelled.get(id(route.endpoints))
        if destinations is None:
            destinations = spelled[id(route.endpoints)] = frozenset(
                DestinationKey(endpoint.packed, endpoint.port) for endpoint in route.endpoints
            )
        for key in keys:
            where[key] = Spelled(VirtualService(key, spelling.scheduler, SIGNATURE), destinations)
    return rendered


class Wanted:
    """All virtual services that a table wants. An exact address goes before a NodePort on the same address and port."""

    def __init__(self) -> None:
        self._exact: dict[ServiceKey, Spelled] = {}
        self._by_port: dict[ServiceKey, Spelled] = {}
        self._beside: Counter[ServiceKey] = Counter()
        self._addresses: dict[bytes, int] = {}

    @classmethod
    def of(cls, table: Iterable[tuple[ServicePortName, Forwarding]], spelling: Spelling) -> Wanted:
        wanted = cls()
        for name, forwarding in table:
            wanted.put(render_forwarding(name, forwarding, spelling))
        return wanted

    def get(self, key: ServiceKey) -> Spelled | None:
        return self._exact.get(key) or self._by_port.get(key)

    def keys(self) -> set[ServiceKey]:
        return self._exact.keys() | self._by_port.keys()

    def is_gone(self, key: ServiceKey) -> bool:
        """Whether no Service port has this frontend, not even one that IPVS has nothing to do with."""
        return self.get(key) is None and not self._beside[key]

    @property
    def addresses(self) -> KeysView[bytes]:
        """Packed addresses that some Service port wants delivered here."""
        return self._addresses.keys()

    def withdraw(self, old: Rendered) -> None:
        """Of several changes withdraw all that was before putting any that will be: a frontend may change hands."""
        for key in old.exact:
            self._exact.pop(key, None)
        for key in old.by_port:
            self._by_port.pop(key, None)
        for key in old.beside:
            self._beside[key] -= 1
            if self._beside[key] <= 0:
                del self._beside[key]
        for address in old.addresses:
            count = self._addresses.get(address, 0) - 1
            if count > 0:
                self._addresses[address] = count
            else:
                self._addresses.pop(address, None)

    def put(self, new: Rendered) -> None:
        self._exact.update(new.exact)
        self._by_port.update(new.by_port)
        self._beside.update(new.beside)
        for address in new.addresses:
            self._addresses[address] = self._addresses.get(address, 0) + 1
