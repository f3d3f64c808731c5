"""What to tell the kernel so that it knows exactly what is planned: first what is missing, then what goes. Pure.

In that order no packet finds a route whose gateway nobody knows yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodeport.netlink import route, vxlan
from nodeport.netlink.route import RTPROT_PEERS, IPAddress, IPInterface, Neighbour, Request, Route
from nodeport.node.podnetwork.plan import Plan


@dataclass(frozen=True, slots=True)
class Found:
    """What the kernel has. ``link``: the index of the tunnel's, 0 without one; the last three are about it."""

    link: int = 0
    routes: Sequence[Route] = ()
    addresses: Sequence[IPInterface] = ()
    neighbours: Sequence[Neighbour] = ()
    forwarding: Sequence[tuple[bytes, IPAddress]] = ()


def changes(plan: Plan, found: Found) -> list[Request]:
    """In the order in which they are to be made; none when all is as planned."""
    return [*_tunnel_gains(plan, found), *_route_changes(plan, found), *_tunnel_losses(plan, found)]


def _tunnel_gains(plan: Plan, found: Found) -> Iterator[Request]:
    link = found.link
    for interface in plan.addresses - set(found.addresses):
        yield route.address(link, interface)
    known = dict(found.forwarding)
    for mac, remote in plan.forwarding.items():
        if known.get(mac) != remote:
            yield vxlan.forwarding_entry(link, mac, remote)
    macs = {each.ip: each.mac for each in found.neighbours if each.permanent}
    for ip, mac in plan.neighbours.items():
        if macs.get(ip) != mac:
            yield route.neighbour(link, ip, mac)


def _route_changes(plan: Plan, found: Found) -> Iterator[Request]:
    ours = [each for each in found.routes if each.protocol == RTPROT_PEERS]
    reachable = {each.destination: each for each in ours if each.reachable}
    tunnelled = bool(plan.forwarding)
    for network, gateway in plan.routes.items():
        now = reachable.get(network)
        if now is None or (now.gateway, now.link == found.link != 0) != (gateway, tunnelled):
            link = found.link if tunnelled else 0
            yield route.route(network, gateway=gateway, link=link, onlink=tunnelled, protocol=RTPROT_PEERS)
    barriers = {each.destination for each in ours if not each.reachable}
    for network in plan.barriers - barriers:
        yield route.unreachable(network, protocol=RTPROT_PEERS)
    for network in reachable:
        if network not in plan.routes:
            yield route.route_delete(network, protocol=RTPROT_PEERS)
    for network in barriers - plan.barriers:
        yield route.route_delete(network, protocol=RTPROT_PEERS, reachable=False)


def _tunnel_losses(plan: Plan, found: Found) -> Iterator[Request]:
    link = found.link
    for neighbour in found.neighbours:
        if neighbour.permanent and neighbour.ip not in plan.neighbours:
            yield route.neighbour_delete(link, neighbour.ip)
    for mac, _ in found.forwarding:
        if mac not in plan.forwarding:
            yield vxlan.forwarding_entry_delete(link, mac)
    for interface in found.addresses:
        if interface not in plan.addresses and not interface.ip.is_link_local:
            yield route.address_delete(link, interface)
