"""The pod network of one node in its kernel: read, compared with the plan, mended. Synchronous, milliseconds."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nodeport.netlink import route, vxlan
from nodeport.netlink.route import RTPROT_PEERS, IPAddress, IPNetwork, Route
from nodeport.netlink.vxlan import FoundVxlan, Vxlan, VxlanSocket
from nodeport.node.podnetwork import guard
from nodeport.node.podnetwork.diff import Found, changes
from nodeport.node.podnetwork.plan import LINK, Mode, Peer, Place, Plan, Way, plan, tunnel_mac, tunnel_mtu

VERSIONS = (4, 6)


class AddressMissing(OSError):
    """This machine does not have the address that the node is to have."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Setup:
    """One node's choice. ``netns`` None: this machine's own network."""

    netns: Path | None
    address: IPAddress
    pod_cidrs: tuple[IPNetwork, ...]
    way: Way = field(default_factory=Way)


@dataclass(frozen=True, slots=True)
class Ensured:
    """``links``: the indexes of those it depends on."""

    plan: Plan
    links: frozenset[int]


def ensure(setup: Setup, peers: Sequence[Peer]) -> Ensured:
    """Have the kernel know the way to all pods of ``peers``, and no other that we once told it.

    What is as it should be is not touched. Raises OSError, NetlinkError, LinkTaken (then the kernel may know a part).
    """
    with VxlanSocket(setup.netns) as kernel:
        link = _ensure_tunnel(kernel, setup) if setup.way.mode is Mode.VXLAN else 0
        routes = _routes(kernel)
        wanted = plan(setup.way.mode, _place(kernel, setup, routes, link), peers)
        kernel.apply(changes(wanted, _found(kernel, link, routes)))
        if setup.way.mode is Mode.VXLAN:
            guard.apply(setup.netns, setup.address.version, setup.way.port, wanted.forwarding.values())
        elif _remove_tunnel(kernel):
            guard.remove(setup.netns)
        return Ensured(wanted, frozenset((link, _underlay(kernel, setup.address)[0])) - {0})


def remove(netns: Path | None) -> bool:
    """Take all of it away; False: there was nothing."""
    with VxlanSocket(netns) as kernel:
        routes = _routes(kernel)
        requests = changes(Plan(), Found(routes=routes))
        kernel.apply(requests)
        guard.remove(netns)
        return _remove_tunnel(kernel) or bool(requests)


def pod_mtu(setup: Setup) -> int:
    """The MTU of this node's pods. Raises AddressMissing."""
    with VxlanSocket(setup.netns) as kernel:
        _, mtu = _underlay(kernel, setup.address)
        return mtu if setup.way.mode is Mode.ROUTES else tunnel_mtu(mtu, setup.address.version)


def _routes(kernel: VxlanSocket) -> list[Route]:
    return [found for version in VERSIONS for found in kernel.all_routes(version)]


def _place(kernel: VxlanSocket, setup: Setup, routes: Sequence[Route], tunnel: int) -> Place:
    ends = {each for version in VERSIONS for each in kernel.interfaces(version, tunnel)} if tunnel else set()
    subnets = tuple(
        each.network
        for version in VERSIONS
        for each in kernel.interfaces(version)
        if each not in ends and not each.ip.is_loopback and not each.ip.is_link_local
    )
    foreign = frozenset(each.destination for each in routes if each.protocol != RTPROT_PEERS)
    return Place(setup.address, setup.pod_cidrs, subnets, foreign)


def _found(kernel: VxlanSocket, link: int, routes: Sequence[Route]) -> Found:
    if not link:
        return Found(routes=routes)
    return Found(
        link, routes,
        addresses=[each for version in VERSIONS for each in kernel.interfaces(version, link)],
        neighbours=[each for version in VERSIONS for each in kernel.neighbours(link, version)],
        forwarding=list(kernel.forwarding_entries(link)),
    )  # fmt: skip


def _underlay(kernel: VxlanSocket, address: IPAddress) -> tuple[int, int]:
    """Index and MTU of the link that has the node's address."""
    found = kernel.link_with(address)
    if found is None:
        raise AddressMissing(
            errno.EADDRNOTAVAIL, f"--node-ip {address}: no link of this machine has this address"
        )
    return found


def _ensure_tunnel(kernel: VxlanSocket, setup: Setup) -> int:
    """The index of the tunnel's link, as wanted. Only its MTU and MAC can be changed; else it is made anew."""
    _, underlay = _underlay(kernel, setup.address)
    mtu = tunnel_mtu(underlay, setup.address.version)
    mac = tunnel_mac(setup.address)
    wanted = Vxlan(LINK, setup.way.vni, setup.way.port, setup.address, mac, mtu)
    found = kernel.vxlan(LINK)
    if found is not None and not _is_same_tunnel(found, wanted):
        kernel.apply([route.link_delete(found.index)])
        found = None
    if found is None:
        kernel.apply([vxlan.vxlan(wanted)])
    elif not found.up or found.vxlan != wanted:
        kernel.apply([vxlan.reshape(found.index, wanted)])
    made = kernel.vxlan(LINK)
    if made is None:
        raise OSError(errno.ENODEV, "the tunnel's link vanished while it was set up", LINK)
    return made.index


def _is_same_tunnel(found: FoundVxlan, wanted: Vxlan) -> bool:
    is_ = found.vxlan
    return (is_.vni, is_.port, is_.local) == (wanted.vni, wanted.port, wanted.local)


def _remove_tunnel(kernel: VxlanSocket) -> bool:
    if LINK not in kernel.links() or (found := kernel.vxlan(LINK)) is None:
        return False
    kernel.apply([route.link_delete(found.index)])
    return True
