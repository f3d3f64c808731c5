"""The wires of a local cluster: fabric, nodes and pods as network namespaces, joined by veths.

::

    host ── np-NAME ──┐
                      ├ fabric0 (bridge, in np.NAME.fabric)
    node-1 ── eth0 ───┤
      │               │        pods: eth0 (a /32, a /128) ── veth in the node's namespace, no
      └ p<id> ─ pod   │        bridge: every packet of a pod passes its node's netfilter, replies too
    node-2 ── eth0 ───┘

Each end has an address of each of the cluster's IP families. Nobody asks whether an IPv6 address is taken (duplicate
address detection would take a second), nor for routers.

Everything is level-based: ``ensure_*`` compares and mends, ``remove_cluster`` finds what is there by its names, also
when every file is lost. All calls are synchronous and take milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from pathlib import Path
from typing import Final

from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import Request, RouteSocket, VethEnd
from nodeport.netlink.socket import KernelRefused
from nodeport.node import namespaces, sources
from nodeport.node.addresses import ClusterPlan, IPAddress, IPNetwork, NodePlan
from nodeport.node.namespaces import NETNS_ROOT, NamespaceFile

PREFIX = "np."
MTU = 1500
BRIDGE = "fabric0"
UPLINK = "eth0"
UPLINK_INDEX = 1_000_000
"""Chosen by us, so that nothing has to be looked up, and far from what the kernel chooses: with the modules ``sit``,
``ipip`` or ``ip_gre`` every fresh namespace has links of theirs, from 2 on.
"""
FIRST_PORT_INDEX = UPLINK_INDEX + 16
GATEWAYS: Final[dict[int, IPAddress]] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::1")}
"""What a pod's default routes name, by IP version; nobody has it, a permanent neighbour entry stands in."""
GATEWAY_MAC = bytes.fromhex("0a5800000001")
LINK_NAME_LENGTH = 15
ANYWHERE: Final[dict[int, IPNetwork]] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""The destination of a default route, by IP version."""
LINK_LOCAL_PREFIX = 64

NODE_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "1",  # a pod can send from its own address only
}
POD_SETTINGS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}
WITHOUT_IPV6 = {"net/ipv6/conf/default/disable_ipv6": "1"}
WITH_IPV6 = {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
}
"""Before the links are made, which get the settings ``default``."""
FORWARDS_IPV6 = {"net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/default/forwarding": "1"}


def digest(text: str, length: int) -> str:
    return hashlib.blake2s(text.encode()).hexdigest()[:length]


def fabric_netns(cluster: str) -> Path:
    return NETNS_ROOT / f"{PREFIX}{cluster}.fabric"


def node_netns(cluster: str, node: str) -> Path:
    return NETNS_ROOT / f"{PREFIX}{cluster}.{node}"


def pod_netns(cluster: str, pod_id: str) -> Path:
    return NETNS_ROOT / f"{PREFIX}{cluster}.pod.{pod_id}"


def cluster_netns(cluster: str) -> list[Path]:
    """All namespace files of the cluster. Cluster names hold no dots, so no other cluster's prefix matches."""
    return sorted(NETNS_ROOT.glob(f"{PREFIX}{cluster}.*"))


def host_link(cluster: str) -> str:
    """The name of the host's end, at most 15 characters."""
    name = f"np-{cluster}"
    return name if len(name) <= LINK_NAME_LENGTH else f"np-{cluster[:5]}-{digest(cluster, 6)}"


def pod_link(pod_id: str) -> str:
    return f"p{pod_id}"[:LINK_NAME_LENGTH]


def mac_of(address: IPAddress) -> bytes:
    """A locally administered MAC that says the end of the address, so that neighbours are known beforehand."""
    return b"\x0a\x58" + address.packed[-4:]


def link_local_of(mac: bytes) -> IPv6Address:
    """The address that the kernel too derives from a link's MAC (RFC 4291, appendix A), but only when it comes to it:
    a link without one asks for no neighbours."""
    identifier = bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def has_ipv6(root: Path = Path("/proc/sys")) -> bool:
    """Whether this machine's kernel has IPv6, and nobody has switched it off."""
    try:
        return (root / "net/ipv6/conf/all/disable_ipv6").read_text().strip() != "1"
    except OSError:
        return False


def ensure_cluster(plan: ClusterPlan) -> None:
    """Fabric, host link, and the namespaces of all planned nodes, as wanted."""
    namespaces.prepare_netns_root()
    fabric = fabric_netns(plan.name)
    _ensure_namespace(fabric, WITHOUT_IPV6)
    with RouteSocket(fabric) as fabric_socket:
        if BRIDGE not in fabric_socket.links():
            mac = mac_of(plan.fabrics[0].network_address)
            fabric_socket.apply([route.bridge(BRIDGE, UPLINK_INDEX, mac, MTU), route.link_up(1)])
        ports = fabric_socket.links()
        _ensure_host(plan, fabric_socket, has_port="host" in ports)
        for node in plan.nodes:
            _ensure_node(plan, node, fabric_socket, has_port=node.name in ports)


def _ensure_host(plan: ClusterPlan, fabric: RouteSocket, *, has_port: bool) -> None:
    """The host's veth, its addresses (…1), and its routes to the nodes' pods."""
    name = host_link(plan.name)
    with RouteSocket() as host, open_namespace(None) as here:
        if host.link(name) is None or not has_port:
            _remove_host_link(host, name)
            outer = VethEnd(name, mac_of(plan.host), netns=here)
            fabric.apply([route.veth(_port("host", 0), outer, MTU)])
        link = host.link(name)
        if link is None:
            raise OSError(errno.ENODEV, "the host's link vanished while it was set up", name)
        _write_settings(_host_settings(name, ipv6=6 in plan.versions))
        pods = [
            route.route(cidr, gateway=gateway, source=source)
            for node in plan.nodes
            for cidr, gateway, source in zip(node.pod_cidrs, node.addresses, plan.hosts, strict=True)
        ]  # fmt: skip
        addresses = _addresses(link.index, plan.hosts, plan.fabrics, mac_of(plan.host))
        host.apply([route.link_up(link.index), *addresses, *pods])


def _host_settings(name: str, *, ipv6: bool) -> dict[str, str]:
    off = {f"net/ipv4/conf/{name}/rp_filter": "0", f"net/ipv6/conf/{name}/disable_ipv6": "0" if ipv6 else "1"}
    quiet = {
        f"net/ipv6/conf/{name}/{setting}": "0"
        for setting in ("accept_dad", "accept_ra", "router_solicitations")
    }
    return {**(quiet if ipv6 else {}), **off}


def _addresses(
    index: int, addresses: Iterable[IPAddress], fabrics: Iterable[IPNetwork], mac: bytes
) -> Iterator[Request]:
    """A link's addresses on the fabrics; with an IPv6 one that which neighbours are asked from."""
    for address, fabric in zip(addresses, fabrics, strict=True):
        yield route.address(index, ip_interface((address, fabric.prefixlen)))
        if address.version == 6:
            yield route.address(index, ip_interface((link_local_of(mac), LINK_LOCAL_PREFIX)))


def _ensure_node(plan: ClusterPlan, node: NodePlan, fabric: RouteSocket, *, has_port: bool) -> None:
    path = node_netns(plan.name, node.name)
    _ensure_namespace(path, {**NODE_SETTINGS, **ipv6_settings(plan.versions, forwards=True)})
    mac = mac_of(node.address)
    with RouteSocket(path) as inside, open_namespace(path) as target:
        if inside.link(UPLINK) is None:
            if has_port and (stale := fabric.link(node.name)):
                fabric.apply([route.link_delete(stale.index)])
            number = int(node.address) - int(plan.fabrics[0].network_address)
            port = _port(node.name, number)
            end = VethEnd(UPLINK, mac, index=UPLINK_INDEX, netns=target)
            fabric.apply([route.veth(port, end, MTU)])
        inside.apply([
            route.link_up(1),
            route.link_up(UPLINK_INDEX),
            *_addresses(UPLINK_INDEX, node.addresses, plan.fabrics, mac),
            *(route.route(ANYWHERE[host.version], gateway=host) for host in plan.hosts),
            *map(route.unreachable, node.pod_cidrs),
        ])  # fmt: skip
    if 6 in plan.versions:
        sources.ensure(path, UPLINK_INDEX)


def ipv6_settings(versions: Sequence[int], *, forwards: bool = False) -> dict[str, str]:
    """Sysctls of a new network namespace of a node or pod that has addresses of these IP versions."""
    if 6 not in versions:
        return WITHOUT_IPV6
    return {**(FORWARDS_IPV6 if forwards else {}), **WITH_IPV6}


def _port(name: str, number: int) -> VethEnd:
    """A port of the bridge. The kernel heeds the peer's index only when this end has one too."""
    mac = b"\x0a\x59\0\0" + number.to_bytes(2, "big")
    return VethEnd(name, mac, index=FIRST_PORT_INDEX + number, master=UPLINK_INDEX)


def ensure_pod(
    netns: Path | None, pod: Path, pod_id: str, addresses: Sequence[IPAddress], node: Iterable[IPAddress], *,
    mtu: int = MTU,
) -> None:  # fmt: skip
    """The pod's link to its node, both sides; the pod's namespace must exist. ``node``: the node's addresses.

    The pod has a /32, a /128, and reaches everything through its gateway; both sides know each other's MAC.
    """
    name, mac = pod_link(pod_id), mac_of(addresses[0])
    with RouteSocket(netns) as outside, RouteSocket(pod) as inside, open_namespace(pod) as target:
        link = outside.link(name)
        if link is None or inside.link(UPLINK) is None:
            if link is not None:
                outside.apply([route.link_delete(link.index)])
            end = VethEnd(UPLINK, mac, index=UPLINK_INDEX, netns=target)
            outside.apply([route.veth(end, VethEnd(name, GATEWAY_MAC), mtu)])
            link = outside.link(name)
        if link is None:
            raise OSError(errno.ENODEV, "the pod's link vanished while it was set up", name)
        own: dict[int, IPAddress] = {address.version: address for address in node}
        inside.apply([route.link_up(1), route.link_up(UPLINK_INDEX, mtu), *_in_pod(addresses)])
        group = sources.POD_LINKS
        outside.apply([route.link_up(link.index, mtu, group), *_to_pod(link.index, addresses, own, mac)])


def _in_pod(addresses: Iterable[IPAddress]) -> Iterator[Request]:
    for address in addresses:
        gateway = GATEWAYS[address.version]
        yield route.address(UPLINK_INDEX, ip_interface(address))
        if address.version == 4:  # in IPv6 a link-local gateway is on its link
            yield route.route(ip_network(gateway), link=UPLINK_INDEX)
        yield route.route(ANYWHERE[address.version], gateway=gateway, link=UPLINK_INDEX)
        yield route.neighbour(UPLINK_INDEX, gateway, GATEWAY_MAC)


def _to_pod(
    index: int, addresses: Iterable[IPAddress], sources: Mapping[int, IPAddress], mac: bytes
) -> Iterator[Request]:
    for address in addresses:
        yield route.route(ip_network(address), link=index, source=sources.get(address.version))
        yield route.neighbour(index, address, mac)


def let_loopback_in(netns: Path | None, pod_id: str) -> None:
    """Let what comes from 127.0.0.0/8 leave the node through the pod's link, for its host ports."""
    setting = {f"net/ipv4/conf/{pod_link(pod_id)}/route_localnet": "1"}
    open_in(netns, lambda: _write_settings(setting))


def create_pod_namespaces(
    files: Mapping[str, Path], hostname: str | None, versions: Sequence[int] = (4,)
) -> None:
    """New network, UTS and IPC namespaces of a pod at the paths given by kind. ``hostname`` needs a UTS namespace;
    ``versions``: the IP versions of its addresses."""

    def set_up() -> None:
        _write_settings({**POD_SETTINGS, **ipv6_settings(versions)})
        if hostname is not None:
            socket.sethostname(hostname)

    wanted = [NamespaceFile(kind, path) for kind, path in files.items()]
    namespaces.create(wanted, set_up)


def remove_pod(netns: Path | None, pod: Path, addresses: Iterable[IPAddress]) -> None:
    """Ends the pod's network: the routes now, the link with the namespace (the kernel does that on its own time)."""
    if gone := [route.route_delete(ip_network(address)) for address in addresses]:
        with contextlib.suppress(OSError, KernelRefused), RouteSocket(netns) as outside:
            outside.apply(gone)
    namespaces.remove(pod)


def set_node_link(cluster: str, node: str, *, up: bool) -> None:
    """Plug the node's cable into the fabric, or pull it out. Raises OSError."""
    with RouteSocket(fabric_netns(cluster)) as fabric:
        if link := fabric.link(node):
            fabric.apply([route.link_up(link.index) if up else route.link_down(link.index)])


def remove_node(cluster: str, node: str) -> None:
    namespaces.remove(node_netns(cluster, node))


def remove_cluster(cluster: str) -> list[str]:
    """Removes every namespace, link and route of the cluster; returns the names of what was there."""
    removed = [path.name for path in cluster_netns(cluster) if namespaces.remove(path)]
    name = host_link(cluster)
    with RouteSocket() as host:
        if _remove_host_link(host, name):
            removed.append(name)
    return removed


def _remove_host_link(host: RouteSocket, name: str) -> bool:
    """The link takes its address and routes along."""
    link = host.link(name)
    if link is not None:
        host.apply([route.link_delete(link.index)])
    return link is not None


def allow_forwarding(versions: Collection[int] = (4,)) -> None:
    """Let this machine forward, as a node must: ours to switch on for a node that is a machine.

    A router heeds no router's advertisements: links that do so now are told to go on (accept_ra 2), since they may
    have their addresses and routes from there.
    """
    if 4 in versions:
        _write_settings({"net/ipv4/ip_forward": "1"})
    if 6 in versions:
        for path in Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra"):
            if path.read_text().strip() == "1":
                path.write_text("2")
        _write_settings(FORWARDS_IPV6)


def host_has_link(name: str) -> bool:
    with RouteSocket() as host:
        return host.link(name) is not None


def taken_networks() -> list[IPNetwork]:
    """What the host already routes to or is part of."""
    with RouteSocket() as host:
        routed = [found.destination for version in ANYWHERE for found in host.routes(version)]
        return routed + [found.network for version in ANYWHERE for found in host.interfaces(version)]


def _ensure_namespace(path: Path, settings: Mapping[str, str]) -> None:
    if not namespaces.exists(path):
        namespaces.create([NamespaceFile("net", path)], lambda: _write_settings(settings))


def _write_settings(settings: Mapping[str, str]) -> None:
    """Sysctls of the network namespace that the thread is in. IPv6's are absent on kernels without it."""
    for name, value in settings.items():
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys", name).write_text(value)


@contextlib.contextmanager
def open_namespace(path: Path | None) -> Iterator[int]:
    """A descriptor of a network namespace; None: the current one."""
    descriptor = os.open(path or "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
