"""The host ports of a node's pods, of both families; `hostportrules` says how the kernel is told of them.

What comes to one of the node's own addresses at a host port goes to the pod, whoever sent it; with a ``hostIP`` only
what comes to that address. The whole table is replaced by each change, in one batch: there are few, and connections
that exist do not pass it. Tracked UDP connections that lead elsewhere than a changed port does are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from nodeport.api.meta import JsonObject
from nodeport.netlink.conntrack import Asked, Conntrack, Entry
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.route import RouteSocket
from nodeport.node import hostportrules
from nodeport.node.hostportrules import PROTOCOLS, UDP, HostPort, IPAddress, Target

EVERYWHERE: Final[dict[int, IPAddress]] = {4: IPv4Address(0), 6: IPv6Address(0)}
"""By IP version."""
Ports = Mapping[HostPort, Target]


class HostPortTaken(Exception):
    """Another pod of the node has the port; the text names both."""


def wanted_by(pod: JsonObject, addresses: Sequence[IPAddress]) -> dict[HostPort, Target]:
    """What the pod, which has these addresses, asks for. On the node's own network its ports are the node's anyway."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return {}
    found = {}
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for port in container.get("ports") or ():
            if not port.get("hostPort"):
                continue
            for address in addresses:
                at = ip_address(port["hostIP"]) if port.get("hostIP") else EVERYWHERE[address.version]
                if at.version == address.version:
                    key = HostPort(at, PROTOCOLS[port.get("protocol") or "TCP"], port["hostPort"])
                    found[key] = Target(address, port["containerPort"])
    return found


@dataclass(slots=True)
class HostPorts:
    """Those of one node, by pod. ``netns`` None: this machine's."""

    netns: Path | None
    _by_pod: dict[str, dict[HostPort, Target]] = field(default_factory=dict)

    def hold(self, uid: str, wanted: Ports) -> None:
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
            self._change(before)
        except BaseException:
            self._by_pod = before
            raise

    def note(self, uid: str, wanted: Ports) -> None:
        """Ports that a pod had before we came; `apply` is still to be called."""
        self._by_pod[uid] = dict(wanted)

    def release(self, uid: str) -> None:
        """Raises OSError, NetlinkError."""
        if self._by_pod.get(uid):
            before = dict(self._by_pod)
            del self._by_pod[uid]
            self._change(before)

    def apply(self) -> None:
        """Have the kernel know these ports and no others."""
        with Nftables(self.netns) as kernel:
            kernel.commit(list(hostportrules.requests(_together(self._by_pod))))

    def _change(self, before: Mapping[str, Ports]) -> None:
        self.apply()
        _forget(self.netns, _together(before), _together(self._by_pod))


def remove(netns: Path | None) -> None:
    """Take the tables away; nothing when they are not there."""
    with Nftables(netns) as kernel:
        kernel.commit(list(hostportrules.requests({})))


def _together(by_pod: Mapping[str, Ports]) -> dict[HostPort, Target]:
    return {port: target for ports in by_pod.values() for port, target in ports.items()}


def _forget(netns: Path | None, before: Ports, now: Ports) -> None:
    """UDP knows no end of a connection: a client that goes on sending would be led to where its first packet went."""
    changed = [
        port for port in {**before, **now}
        if port.protocol == UDP and before.get(port) != now.get(port)
    ]  # fmt: skip
    if not changed:
        return
    with Conntrack(netns) as conntrack, RouteSocket(netns) as routes:
        for port in changed:
            version = port.address.version
            at = None if port.address.is_unspecified else port.address
            own = routes.local_addresses(version) if at is None else {at}
            entries = list(conntrack.list(version, Asked(UDP, at, port.port)))
            conntrack.delete(stale(entries, own, before.get(port), now.get(port)))


def stale(
    entries: Iterable[Entry], own: Iterable[IPAddress], before: Target | None, now: Target | None
) -> Iterator[Entry]:
    """Those of one port's ``entries`` that lead elsewhere than it does ``now``. ``own``: the addresses it is at.

    Of a port that is gone only those to its pod: others may have been the node's own programs'. Pure.
    """
    places = set(own)
    for entry in entries:
        served_by = Target(entry.reply.source, entry.reply.source_port)
        is_wrong = served_by != now if now is not None else served_by == before
        if is_wrong and entry.original.destination in places:
            yield entry
