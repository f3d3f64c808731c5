"""The mode at work: virtual services, the table beside them and the ground they stand on, kept as the table wants them.

IPVS knows no transactions, so a change is three steps, in an order in which no packet meets half of a Service: what is
new is made in IPVS, then one atomic commit of the table beside it sends packets there, then what is old leaves IPVS.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import (
    Change,
    Family,
    Forwarding,
    ForwardingTable,
    IPAddress,
    IPNetwork,
    NodeFacts,
    Protocol,
    ServicePortName,
)
from nodeport.netlink.codec import NetlinkError
from nodeport.netlink.conntrack import Asked, Conntrack, Entry
from nodeport.netlink.generic import NoSuchFamily
from nodeport.netlink.ipvs.kernel import Ipvs, delete_service
from nodeport.netlink.ipvs.messages import (
    Destination,
    DestinationKey,
    ListedDestination,
    Method,
    ServiceKey,
    VirtualService,
)
from nodeport.netlink.localroute import LocalRoutes
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.socket import KernelRefused
from nodeport.proxy.ipvs.ground import LINKS, Ground
from nodeport.proxy.ipvs.plan import Present, Step, bury, narrow, widen
from nodeport.proxy.ipvs.refusal import Refusal
from nodeport.proxy.ipvs.render import SIGNATURE, Rendered, Spelling, Wanted, render_forwarding
from nodeport.proxy.ipvs.silence import TABLE, Silence, ruleset
from nodeport.proxy.ipvs.verify import differences, spread
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.layout import Role
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.proxier import Discrepancy, SlotMemory, UnsupportedMode
from nodeport.proxy.questions import Questions

_SAMPLE: Final = 16
"""How many virtual services every look asks the kernel for, in turn."""
_FOREIGN: Final = -1
"""The weight we see in a destination that is not of our make in something else."""


@contextlib.contextmanager
def open_ipvs(family: Family, netns: Path | None, options: ProxyOptions) -> Iterator[IpvsProxier]:
    """The mode as ``proxy.modes`` opens it."""
    with ExitStack() as stack:
        try:
            ipvs = stack.enter_context(Ipvs(netns))
        except NoSuchFamily as error:
            raise UnsupportedMode("proxy mode ipvs: this kernel has no IPVS (CONFIG_IP_VS)") from error
        kernel = stack.enter_context(Nftables(netns))
        routes = stack.enter_context(LocalRoutes(netns))
        beside = NftablesProxier(kernel, options.forwarding, family, Role.BESIDE_IPVS)
        silence = Silence(kernel, beside.expect_commit) if family is Family.IPV4 else None
        refusal = Refusal(family, kernel, beside.expect_commit)
        yield IpvsProxier(
            family, ipvs, beside, Ground(routes, ipvs, family, netns), silence, refusal, options
        )


def remove_ipvs(family: Family, netns: Path | None) -> None:
    """Takes away what the mode has for a family, and cuts what it carries."""
    if _was_at_work(family, netns):
        with open_ipvs(family, netns, ProxyOptions()) as proxier:
            proxier.remove()


def drain_ipvs(family: Family, netns: Path | None) -> bool:
    """For when another mode does the work: takes away what the mode has for a family, but for what its connections
    need. True when nothing is left; before that, call again.
    """
    if not _was_at_work(family, netns):
        return True
    with open_ipvs(family, netns, ProxyOptions()) as proxier, Conntrack(netns) as conntrack:
        ended = proxier.withdraw()
        if ended:
            flows = conntrack.list(family.value, Asked(Protocol.UDP.value))
            conntrack.delete([flow for flow in flows if flow.translated and _frontend_of(flow) in ended])
        return proxier.is_drained()


def _was_at_work(family: Family, netns: Path | None) -> bool:
    """Where it never was, it does not even ask for IPVS."""
    with LocalRoutes(netns) as routes, Nftables(netns) as kernel:
        table = layout.table(family, Role.BESIDE_IPVS)
        return routes.own_link(LINKS[family]) is not None or kernel.table_handle(table) is not None


def _frontend_of(flow: Entry) -> ServiceKey:
    asked = flow.original
    return ServiceKey(asked.protocol, asked.destination.packed, asked.destination_port)


class IpvsProxier:
    """Programs one family of the namespace that its parts are connected to. See ``proxier.Proxier``.

    ``silence``: only IPv4 needs it. A virtual service that somebody else made at an address of a Service becomes ours;
    all others are left alone.
    """

    def __init__(
        self,
        family: Family,
        ipvs: Ipvs,
        beside: NftablesProxier,
        ground: Ground,
        silence: Silence | None,
        refusal: Refusal,
        options: ProxyOptions,
    ) -> None:
        self._family = family
        self._ipvs = ipvs
        self._beside = beside
        self._ground = ground
        self._silence = silence
        self._refusal = refusal
        self._options = options.ipvs
        self._forwarding = options.forwarding
        self._wanted = Wanted()
        self._present: dict[ServiceKey, Present] = {}
        self._leaving: set[ServiceKey] = set()
        self._turn: Iterator[ServiceKey] = iter(())
        self._odd: ServiceKey | None = None

    def slots(self) -> SlotMemory:
        return self._beside.slots()

    def resync(self, table: ForwardingTable, node: NodeFacts) -> int:
        done = self._ground.prepare(node, self._options.timeouts)
        own = self._ground.addresses
        facts = _facts(node, own)
        self._wanted = Wanted.of(table.items(), self._spelling(facts))
        self._present = self._read()
        done += self._widen(self._wanted.keys())
        done += self._beside.resync(table, facts)
        held = _held(self._wanted.addresses, own)
        if self._silence is not None:
            done += self._silence.resync(facts.service_networks, held)
        done += self._ground.route(_local_networks(node, held))
        done += self._narrow(list(self._present))
        self._leaving = {key for key, present in self._present.items() if present.leaving}
        return done + self._refusal.resync(self._gone(self._leaving))

    def _gone(self, keys: Iterable[ServiceKey]) -> set[ServiceKey]:
        """Frontends on the node's own addresses that no Service has any more. The table beside knows the others."""
        own = {address.packed for address in self._ground.addresses}
        return {
            key
            for key in keys
            if key in self._leaving
            and key.address in own
            and self._wanted.is_gone(key)
            and not self._present[key].serving
        }

    def apply(self, changes: Sequence[Change], node: NodeFacts) -> int:
        facts = _facts(node, self._ground.addresses)
        spelling = self._spelling(facts)
        old = [_render(change.name, change.old, spelling) for change in changes]
        new = [_render(change.name, change.new, spelling) for change in changes]
        held = {address for item in (*old, *new) for address in item.addresses}
        before = held & self._wanted.addresses
        for item in old:
            self._wanted.withdraw(item)
        for item in new:
            self._wanted.put(item)
        touched = {key for item in (*old, *new) for key in item.keys}
        step = Step()
        done = self._widen(touched, step)
        try:
            done += self._beside.apply(changes, facts)
        except BaseException:
            with contextlib.suppress(NetlinkError, OSError):
                self._ipvs.apply(step.undo())
            raise
        if held:
            done += self._hold(held & self._wanted.addresses - before, before - self._wanted.addresses)
        done += self._narrow(touched)
        return done + self._refusal.change(touched, self._gone(touched))

    def _hold(self, added: Iterable[bytes], removed: Iterable[bytes]) -> int:
        """Delivers other external addresses to the node, and those that no Service wants any more not."""
        new = _held(added, self._ground.addresses)
        done = self._silence.change(new, removed) if self._silence is not None else 0
        return done + self._ground.change_routes(new, removed)

    def _widen(self, keys: Iterable[ServiceKey], step: Step | None = None) -> int:
        step = step if step is not None else Step()
        changed: dict[ServiceKey, Present] = {}
        for key in keys:
            wanted = self._wanted.get(key)
            if wanted is not None:
                changed[key] = widen(self._present.get(key), wanted, step)
        try:
            self._ipvs.apply(step.requests)
        except KernelRefused as refused:
            if (
                refused.errno == errno.ENOENT
            ):  # what NEW_SERVICE and SET_SERVICE say when there is no such scheduler
                scheduler = self._options.scheduler
                raise UnsupportedMode(f"this kernel has no IPVS scheduler {scheduler!r}") from refused
            raise
        self._present.update(changed)
        return len(step.requests)

    def _narrow(self, keys: Iterable[ServiceKey]) -> int:
        step = Step()
        changed: dict[ServiceKey, Present | None] = {}
        for key in keys:
            there = self._present.get(key)
            if there is not None:
                changed[key] = narrow(there, self._wanted.get(key), step)
        self._ipvs.apply(step.requests)
        self._settle(changed)
        return len(step.requests)

    def _settle(self, changed: dict[ServiceKey, Present | None]) -> None:
        for key, present in changed.items():
            if present is None:
                del self._present[key]
                self._leaving.discard(key)
                continue
            self._present[key] = present
            if present.leaving:
                self._leaving.add(key)
            else:
                self._leaving.discard(key)

    def _sweep(self) -> None:
        """Deletes destinations whose last connection has ended."""
        step = Step()
        changed: dict[ServiceKey, Present | None] = {}
        for key in self._leaving:
            there = self._present[key]
            busy = {item.destination.key for item in self._ipvs.destinations(key) if _is_busy(item)}
            ended = [destination for destination in there.leaving if destination not in busy]
            changed[key] = bury(there, ended, wanted=self._wanted.get(key) is not None, step=step)
        self._ipvs.apply(step.requests)
        self._settle(changed)

    def _read(self) -> dict[ServiceKey, Present]:
        """Our virtual services, and those of others at addresses where a Service must be."""
        return {
            key: Present(service, self._weights(key))
            for key, service in self._services().items()
            if service.flags & SIGNATURE or self._wanted.get(key) is not None
        }

    def _services(self) -> dict[ServiceKey, VirtualService]:
        """Everybody's virtual services of this family."""
        length = 4 if self._family is Family.IPV4 else 16
        listed = (item.service for item in self._ipvs.services())
        return {service.key: service for service in listed if len(service.key.address) == length}

    def _weights(self, key: ServiceKey) -> dict[DestinationKey, int]:
        listed = (item.destination for item in self._ipvs.destinations(key))
        return {item.key: _weight(item) for item in listed}

    def is_undisturbed(self) -> bool:
        """Looks at the table beside, the link, the node's addresses, and a few virtual services in turn.

        On the way, destinations that have been waiting for their connections to end are deleted.
        """
        self._sweep()
        self._refusal.refuse(self._gone(self._leaving))
        return self._beside.is_undisturbed() and self._ground.is_undisturbed() and self._is_sample_there()

    def _is_sample_there(self) -> bool:
        """A few of all virtual services: a flush is seen at once, one alone that is changed when its turn comes."""
        sample = list(islice(self._turn, _SAMPLE))
        if len(sample) < _SAMPLE:
            self._turn = iter(list(self._present))
        self._odd = next((key for key in sample if not self._is_there(key)), None)
        return self._odd is None

    def _is_there(self, key: ServiceKey) -> bool:
        present = self._present.get(key)
        if present is None:
            return True
        listed = self._ipvs.service(key)
        return listed is not None and Present(listed.service, self._weights(key)) == present

    def is_intact(self) -> bool:
        """Lists all but the destinations: ``verify`` sees those."""
        if not self._beside.is_intact() or not self._ground.is_intact():
            return False
        if self._silence is not None and not self._silence.is_intact():
            return False
        if not self._refusal.is_intact():
            return False
        if self._odd is not None and not self._is_there(self._odd):
            return False
        ours = {key: item for key, item in self._services().items() if item.flags & SIGNATURE}
        return ours == {key: present.service for key, present in self._present.items()}

    def remove(self) -> None:
        self._wanted = Wanted()
        ours = [key for key, service in self._services().items() if service.flags & SIGNATURE]
        self._ipvs.apply([delete_service(key) for key in ours])
        self._ground.clear()
        self._beside.remove()
        self._refusal.remove()
        if self._silence is not None:
            self._silence.remove()
        self._present, self._leaving = {}, set()

    def withdraw(self) -> set[ServiceKey]:
        """Sends no new connection to IPVS and leaves those that it has; returns the UDP frontends that ended with it:
        UDP has no end that could be waited for.
        """
        self._wanted, self._present = Wanted(), {}
        self._present = self._read()
        ended = {key for key in self._present if key.protocol == Protocol.UDP}
        self._beside.remove()
        self._refusal.remove()
        self._narrow(list(self._present))
        self._sweep()
        return ended

    def is_drained(self) -> bool:
        """After ``withdraw``: whether no connection is left; then all the rest goes as well."""
        if self._present:
            return False
        self.remove()
        return True

    def verify(self, table: ForwardingTable, node: NodeFacts) -> list[Discrepancy]:
        own = self._ground.read_addresses()
        facts = _facts(node, own)
        wanted = Wanted.of(table.items(), self._spelling(facts))
        there = self._read()
        known = spread(wanted, there)
        held = _held(wanted.addresses, own)
        networks = _local_networks(node, held)
        found = self._beside.verify(table, facts, known)
        found += [Discrepancy(*item) for item in self._ground.discrepancies(networks, node)]
        if self._silence is not None and not self._silence.has(ruleset(node.service_networks, held)):
            found.append(
                Discrepancy(f"table arp {TABLE.name}", "silence about held addresses", "something else")
            )
        beside, _, _ = render(table.items(), facts, self._forwarding, Role.BESIDE_IPVS)
        found += differences(wanted, there, beside, Questions(table.items(), facts), known)
        return found

    def _spelling(self, facts: NodeFacts) -> Spelling:
        addresses = [network.network_address.packed for network in facts.nodeport_networks]
        return Spelling(addresses, self._options.scheduler, facts.service_networks)


def _facts(node: NodeFacts, own: Sequence[IPAddress]) -> NodeFacts:
    """``node`` with the addresses that it really has: NodePorts need each by itself."""
    answering = [address for address in own if any(address in network for network in node.nodeport_networks)]
    addresses = (*node.addresses, *(address for address in own if address not in node.addresses))
    return replace(node, addresses=addresses, nodeport_networks=tuple(map(ip_network, answering)))


def _held(addresses: Iterable[bytes], own: Iterable[IPAddress]) -> list[bytes]:
    """Those of the packed ``addresses`` that are the node's only because Services want it so."""
    really = {address.packed for address in own}
    return [address for address in addresses if address not in really]


def _local_networks(node: NodeFacts, held: Iterable[bytes]) -> set[IPNetwork]:
    return {*node.service_networks, *(ip_network(address) for address in held)}


def _render(name: ServicePortName, forwarding: Forwarding | None, spelling: Spelling) -> Rendered:
    return render_forwarding(name, forwarding, spelling) if forwarding is not None else Rendered()


def _is_busy(item: ListedDestination) -> bool:
    return bool(item.active or item.inactive)


def _weight(destination: Destination) -> int:
    plain = destination.method is Method.MASQUERADING and not destination.upper_threshold
    return destination.weight if plain else _FOREIGN
