"""What virtual services stand on in one namespace: kernel settings, a link, and local routes over it.

IPVS looks at packets that are delivered to the node. ClusterIPs are, because of one local route for each service
network over a dummy link of ours; external and load-balancer addresses by a route each. The node's own packets to them
leave with an address of the node.

What the settings were before us stands in the alias of the link, so that whoever removes it can put them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family, IPAddress, IPNetwork, NodeFacts
from nodeport.netlink import localroute, route
from nodeport.netlink.ipvs.kernel import Ipvs
from nodeport.netlink.ipvs.messages import Timeouts
from nodeport.netlink.localroute import LocalRoute, LocalRoutes, OwnLink
from nodeport.netlink.namespace import open_in
from nodeport.proxy.proxier import ProxierError

LINKS: Final[Mapping[Family, str]] = {Family.IPV4: "np-ipvs4", Family.IPV6: "np-ipvs6"}
SETTINGS: Final[Mapping[str, str]] = {
    "conntrack": "1",  # masquerading needs an entry for each connection, and the cleaner finds stale ones there
    "expire_nodest_conn": "1",  # a connection whose destination was deleted ends with its next packet
    "expire_quiescent_template": "1",  # a client leaves a destination that takes no new connections
}
"""What we set in ``net.ipv4.vs``, which every namespace has for itself and both families share."""
_TIMEOUTS: Final = ("tcp", "tcp_fin", "udp")


class Ground:
    """``prepare`` before anything else, ``clear`` in the end. Raises what netlink raises, ProxierError, OSError."""

    def __init__(self, routes: LocalRoutes, ipvs: Ipvs, family: Family, netns: Path | None) -> None:
        self._routes = routes
        self._ipvs = ipvs
        self._family = family
        self._netns = netns
        self._link = 0
        self._source: IPAddress | None = None
        self._known: dict[IPNetwork, LocalRoute] = {}
        self.addresses: tuple[IPAddress, ...] = ()
        """The node's own, as last read; ours do not count."""

    def prepare(self, node: NodeFacts, timeouts: Timeouts) -> int:
        """Reads what is there and makes the settings and the link what they must be; returns how much that was."""
        self.addresses = self.read_addresses()
        self._source = _source(node, self.addresses)
        link = self._routes.own_link(LINKS[self._family])
        done = 0
        if link is None or not link.up:
            memory = (link.alias if link is not None else "") or self._memory()
            if link is not None:
                self._routes.apply([route.link_delete(link.index)])
            self._routes.apply(localroute.dummy(LINKS[self._family], memory))
            link = self._routes.own_link(LINKS[self._family])
            done += 1
        if link is None:
            raise ProxierError(f"link {LINKS[self._family]} vanished as soon as it was made")
        self._link = link.index
        done += self._set(SETTINGS)
        done += self._set_timeouts(timeouts)
        self._known = {
            found.network: found for found in self._routes.local_routes(self._link, int(self._family))
        }
        return done

    def read_addresses(self) -> tuple[IPAddress, ...]:
        """The node's own now."""
        return tuple(self._routes.own_addresses(int(self._family)))

    def route(self, networks: Iterable[IPNetwork]) -> int:
        """Makes ours those local routes that lead to ``networks``, and no others; returns how many that changed."""
        wanted = {network: LocalRoute(network, self._source) for network in networks}
        requests = [
            localroute.remove(self._link, network) for network in self._known if network not in wanted
        ]
        requests += [
            localroute.add(self._link, item)
            for network, item in wanted.items()
            if self._known.get(network) != item
        ]
        self._routes.apply(requests)
        self._known = wanted
        return len(requests)

    def change_routes(self, added: Iterable[bytes], removed: Iterable[bytes]) -> int:
        """The same for single addresses (packed) that come and go."""
        gone = [network for network in map(ip_network, removed) if network in self._known]
        new = [
            LocalRoute(network, self._source)
            for network in map(ip_network, added)
            if network not in self._known
        ]
        requests = [localroute.remove(self._link, network) for network in gone]
        requests += [localroute.add(self._link, item) for item in new]
        self._routes.apply(requests)
        for network in gone:
            del self._known[network]
        self._known.update((item.network, item) for item in new)
        return len(requests)

    def is_undisturbed(self) -> bool:
        """Whether link and addresses are what they were; a few requests, however many routes there are."""
        link = self._routes.own_link(LINKS[self._family])
        if link is None or not link.up or link.index != self._link:
            return False
        return self.read_addresses() == self.addresses

    def discrepancies(self, networks: Iterable[IPNetwork], node: NodeFacts) -> Iterable[tuple[str, str, str]]:
        """Where link, routes and settings are not what ``networks`` need: what, wanted, found."""
        source = _source(node, self.read_addresses())
        wanted = {network: LocalRoute(network, source) for network in networks}
        name = LINKS[self._family]
        link = self._routes.own_link(name)
        if link is None or not link.up:
            yield f"link {name}", "up", "absent" if link is None else "down"
            return
        there = {item.network: item for item in self._routes.local_routes(link.index, int(self._family))}
        for network in sorted(wanted.keys() | there.keys(), key=str):
            ours, found = wanted.get(network), there.get(network)
            if ours != found:
                yield f"local route {network}", _source_of(ours), _source_of(found)
        for setting, value in self._settings().items():
            if value != SETTINGS[setting]:
                yield f"net.ipv4.vs.{setting}", SETTINGS[setting], value

    def is_intact(self) -> bool:
        """Whether link, routes and settings are as we left them; lists the routes."""
        if not self.is_undisturbed() or any(
            value != SETTINGS[name] for name, value in self._settings().items()
        ):
            return False
        there = {item.network: item for item in self._routes.local_routes(self._link, int(self._family))}
        return there == self._known

    def clear(self) -> None:
        """Removes link and routes; the last family to go puts the settings back."""
        link = self._routes.own_link(LINKS[self._family])
        if link is None:
            return
        if self._sibling() is None:
            self._restore(link.alias)
        self._routes.apply([route.link_delete(link.index)])
        self._link, self._known = 0, {}

    def _sibling(self) -> OwnLink | None:
        others = [name for family, name in LINKS.items() if family is not self._family]
        return next((link for link in map(self._routes.own_link, others) if link is not None), None)

    def _memory(self) -> str:
        """What to write into the alias: what the other family remembers, or what is so now."""
        sibling = self._sibling()
        if sibling is not None:
            return sibling.alias
        timeouts = self._ipvs.timeouts()
        before = {**self._settings(), **{name: str(getattr(timeouts, name)) for name in _TIMEOUTS}}
        return "before: " + " ".join(f"{name}={value}" for name, value in before.items())

    def _restore(self, memory: str) -> None:
        pairs = dict(word.split("=", 1) for word in memory.split() if "=" in word)
        self._set({name: pairs[name] for name in SETTINGS if pairs.get(name, "").isdecimal()})
        seconds = {name: int(pairs[name]) for name in _TIMEOUTS if pairs.get(name, "").isdecimal()}
        self._set_timeouts(Timeouts(**seconds))

    def _set_timeouts(self, wanted: Timeouts) -> int:
        there = self._ipvs.timeouts()
        different = any(getattr(wanted, name) not in (0, getattr(there, name)) for name in _TIMEOUTS)
        if different:
            self._ipvs.set_timeouts(wanted)
        return int(different)

    def _settings(self) -> dict[str, str]:
        return open_in(self._netns, lambda: {name: _setting(name).read_text().strip() for name in SETTINGS})

    def _set(self, wanted: Mapping[str, str]) -> int:
        """Only what differs is written: a reader of the kernel's log may watch these."""
        there = self._settings()
        changed = {name: value for name, value in wanted.items() if there[name] != value}

        def write() -> None:
            for name, value in changed.items():
                _setting(name).write_text(value)

        open_in(self._netns, write)
        return len(changed)


def _source(node: NodeFacts, own: Sequence[IPAddress]) -> IPAddress | None:
    """From which of its addresses the node speaks to Services: the first that its Node object names."""
    return next((address for address in (*node.addresses, *own) if address in own), None)


def _setting(name: str) -> Path:
    return Path("/proc/sys/net/ipv4/vs") / name


def _source_of(item: LocalRoute | None) -> str:
    return "absent" if item is None else f"from {item.source}" if item.source else "present"
