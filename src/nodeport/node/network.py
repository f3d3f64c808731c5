"""The wires of a local cluster: fabric, nodes and pods as network namespaces, joined by veths.

::

    host ── np-NAME ──┐
                      ├ fabric0 (bridge, in np.NAME.fabric)
    node-1 ── eth0 ───┤
      │               │        pods: eth0 (a /32) ── veth in the node's namespace, no bridge:
      └ p<id> ─ pod   │        every packet of a pod passes its node's netfilter, replies too
    node-2 ── eth0 ───┘

Everything is level-based: ``ensure_*`` compares and mends, ``remove_cluster`` finds what is there by its names, also
when every file is lost. All calls are synchronous and take milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket, VethEnd
from nodeport.netlink.socket import KernelRefused
from nodeport.node import namespaces
from nodeport.node.addresses import ClusterPlan, NodePlan
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
GATEWAY = IPv4Address("169.254.1.1")
"""What a pod's default route names; nobody has it, a permanent neighbour entry stands in."""
GATEWAY_MAC = bytes.fromhex("0a5800000001")
LINK_NAME_LENGTH = 15
ANYWHERE = IPv4Network("0.0.0.0/0")

NODE_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "1",  # a pod can send from its own address only
    "net/ipv6/conf/default/disable_ipv6": "1",
}
POD_SETTINGS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv6/conf/default/disable_ipv6": "1",
}
FABRIC_SETTINGS = {"net/ipv6/conf/default/disable_ipv6": "1"}


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


def mac_of(address: IPv4Address) -> bytes:
    """A locally administered MAC that says the address, so that neighbours are known beforehand."""
    return b"\x0a\x58" + address.packed


def ensure_cluster(plan: ClusterPlan) -> None:
    """Fabric, host link, and the namespaces of all planned nodes, as wanted."""
    namespaces.prepare_netns_root()
    fabric = fabric_netns(plan.name)
    _ensure_namespace(fabric, FABRIC_SETTINGS)
    with RouteSocket(fabric) as fabric_socket:
        if BRIDGE not in fabric_socket.links():
            mac = b"\x0a\x58" + plan.fabric.network_address.packed
            fabric_socket.apply([route.bridge(BRIDGE, UPLINK_INDEX, mac, MTU), route.link_up(1)])
        ports = fabric_socket.links()
        _ensure_host(plan, fabric_socket, has_port="host" in ports)
        for node in plan.nodes:
            _ensure_node(plan, node, fabric_socket, has_port=node.name in ports)


def _ensure_host(plan: ClusterPlan, fabric: RouteSocket, *, has_port: bool) -> None:
    """The host's veth, its address .1, and its routes to the nodes' pods."""
    name = host_link(plan.name)
    with RouteSocket() as host, open_namespace(None) as here:
        if host.link(name) is None or not has_port:
            _remove_host_link(host, name)
            outer = VethEnd(name, mac_of(plan.host), netns=here)
            fabric.apply([route.veth(_port("host", 0), outer, MTU)])
        link = host.link(name)
        if link is None:
            raise OSError(errno.ENODEV, "the host's link vanished while it was set up", name)
        _write_settings({f"net/ipv4/conf/{name}/rp_filter": "0", f"net/ipv6/conf/{name}/disable_ipv6": "1"})
        address = IPv4Interface((plan.host, plan.fabric.prefixlen))
        pods = [route.route(node.pod_cidr, gateway=node.address, source=plan.host) for node in plan.nodes]
        host.apply([route.link_up(link.index), route.address(link.index, address), *pods])


def _ensure_node(plan: ClusterPlan, node: NodePlan, fabric: RouteSocket, *, has_port: bool) -> None:
    path = node_netns(plan.name, node.name)
    _ensure_namespace(path, NODE_SETTINGS)
    with RouteSocket(path) as inside, open_namespace(path) as target:
        if inside.link(UPLINK) is None:
            if has_port and (stale := fabric.link(node.name)):
                fabric.apply([route.link_delete(stale.index)])
            number = int(node.address) - int(plan.fabric.network_address)
            port = _port(node.name, number)
            end = VethEnd(UPLINK, mac_of(node.address), index=UPLINK_INDEX, netns=target)
            fabric.apply([route.veth(port, end, MTU)])
        inside.apply([
            route.link_up(1),
            route.link_up(UPLINK_INDEX),
            route.address(UPLINK_INDEX, IPv4Interface((node.address, plan.fabric.prefixlen))),
            route.route(ANYWHERE, gateway=plan.host),
            route.unreachable(node.pod_cidr),
        ])  # fmt: skip


def _port(name: str, number: int) -> VethEnd:
    """A port of the bridge. The kernel heeds the peer's index only when this end has one too."""
    mac = b"\x0a\x59\0\0" + number.to_bytes(2, "big")
    return VethEnd(name, mac, index=FIRST_PORT_INDEX + number, master=UPLINK_INDEX)


def ensure_pod(
    netns: Path | None, pod: Path, pod_id: str, address: IPv4Address, node: IPv4Address, *, mtu: int = MTU
) -> None:
    """The pod's link to its node, both sides; the pod's namespace must exist.

    The pod has a /32 and reaches everything through its gateway; both sides know each other's MAC.
    """
    name = pod_link(pod_id)
    with RouteSocket(netns) as outside, RouteSocket(pod) as inside, open_namespace(pod) as target:
        link = outside.link(name)
        if link is None or inside.link(UPLINK) is None:
            if link is not None:
                outside.apply([route.link_delete(link.index)])
            end = VethEnd(UPLINK, mac_of(address), index=UPLINK_INDEX, netns=target)
            outside.apply([route.veth(end, VethEnd(name, GATEWAY_MAC), mtu)])
            link = outside.link(name)
        if link is None:
            raise OSError(errno.ENODEV, "the pod's link vanished while it was set up", name)
        inside.apply([
            route.link_up(1),
            route.link_up(UPLINK_INDEX, mtu),
            route.address(UPLINK_INDEX, IPv4Interface(address)),
            route.route(IPv4Network(GATEWAY), link=UPLINK_INDEX),
            route.route(ANYWHERE, gateway=GATEWAY),
            route.neighbour(UPLINK_INDEX, GATEWAY, GATEWAY_MAC),
        ])  # fmt: skip
        outside.apply([
            route.link_up(link.index, mtu),
            route.route(IPv4Network(address), link=link.index, source=node),
            route.neighbour(link.index, address, mac_of(address)),
        ])  # fmt: skip


def let_loopback_in(netns: Path | None, pod_id: str) -> None:
    """Let what comes from 127.0.0.0/8 leave the node through the pod's link, for its host ports."""
    setting = {f"net/ipv4/conf/{pod_link(pod_id)}/route_localnet": "1"}
    open_in(netns, lambda: _write_settings(setting))


def create_pod_namespaces(files: Mapping[str, Path], hostname: str | None) -> None:
    """New network, UTS and IPC namespaces of a pod at the paths given by kind. ``hostname`` needs a UTS namespace."""

    def set_up() -> None:
        _write_settings(POD_SETTINGS)
        if hostname is not None:
            socket.sethostname(hostname)

    wanted = [NamespaceFile(kind, path) for kind, path in files.items()]
    namespaces.create(wanted, set_up)


def remove_pod(netns: Path | None, pod: Path, address: IPv4Address | None) -> None:
    """Ends the pod's network: the route now, the link with the namespace (the kernel does that on its own time)."""
    if address is not None:
        with contextlib.suppress(OSError, KernelRefused), RouteSocket(netns) as outside:
            outside.apply([route.route_delete(IPv4Network(address))])
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


def allow_forwarding() -> None:
    """Let this machine forward, as a node must: ours to switch on for a node that is a machine."""
    _write_settings({"net/ipv4/ip_forward": "1"})


def host_has_link(name: str) -> bool:
    with RouteSocket() as host:
        return host.link(name) is not None


def taken_networks() -> list[IPv4Network]:
    """What the host already routes to or is part of."""
    with RouteSocket() as host:
        routed = [found.destination for found in host.routes()]
        own = [found.network for found in host.addresses()]
        return [each for each in routed if isinstance(each, IPv4Network)] + own


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
