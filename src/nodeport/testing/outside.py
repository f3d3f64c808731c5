"""A client that is no node: a namespace of its own on the network of a local cluster's nodes."""

from __future__ import annotations

import http.client
import itertools
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket, VethEnd
from nodeport.node import namespaces, network
from nodeport.node.namespaces import NamespaceFile

LAST_OFFSETS = range(2, 200)
"""Counted from the end of the nodes' subnet, where there are no nodes."""


@dataclass(frozen=True, slots=True)
class OutsideClient:
    """Sends from ``address``; knows no pod network, so that only answers from the called node reach it."""

    netns: Path
    address: IPv4Address

    @classmethod
    @contextmanager
    def on(cls, cluster: str) -> Iterator[OutsideClient]:
        """A client beside the nodes of the running local cluster of that name. Raises OSError when there is none."""
        netns = namespaces.NETNS_ROOT / f"{network.PREFIX}{cluster}.client-{secrets.token_hex(3)}"
        with RouteSocket(network.node_netns(cluster, "node-1")) as node:
            fabric = next(found.network for found in node.addresses() if found.network.prefixlen == 22)
        namespaces.create([NamespaceFile("net", netns)], lambda: None)
        try:
            yield cls(netns, _attach(cluster, netns, fabric))
        finally:
            namespaces.remove(netns)

    def get(self, address: str, port: int, path: str = "/", *, timeout: float = 10.0) -> str:
        """The body of one HTTP answer over a new connection. Raises OSError when there is none."""
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        connection.sock = self.connect(address, port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{address}:{port} answered no HTTP: {error!r}") from error
        finally:
            connection.close()

    def connect(self, address: str, port: int, *, timeout: float = 10.0) -> socket.socket:
        """A TCP connection from the client."""
        sock = open_in(self.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def datagrams(self, *, timeout: float = 10.0) -> socket.socket:
        """An unconnected UDP socket of the client."""
        sock = open_in(self.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.settimeout(timeout)
        return sock


def _attach(cluster: str, netns: Path, fabric: IPv4Network) -> IPv4Address:
    """Join the nodes' bridge with an address that no other client has; the port's name keeps it."""
    with network.open_namespace(netns) as target, RouteSocket(network.fabric_netns(cluster)) as bridge:
        taken = bridge.links()
        offset = next(offset for offset in LAST_OFFSETS if f"client-{offset}" not in taken)
        address = fabric[-offset]
        bridge_index = taken[network.BRIDGE].index
        free = next(
            index for index in itertools.count(2000) if index not in {link.index for link in taken.values()}
        )
        port = VethEnd(f"client-{offset}", b"\x0a\x5b" + address.packed, index=free, master=bridge_index)
        inner = VethEnd(network.UPLINK, network.mac_of(address), index=network.UPLINK_INDEX, netns=target)
        bridge.apply([route.veth(port, inner, network.MTU)])
    with RouteSocket(netns) as inside:
        interface = IPv4Interface((address, fabric.prefixlen))
        up = [route.link_up(1), route.link_up(network.UPLINK_INDEX)]
        inside.apply([*up, route.address(network.UPLINK_INDEX, interface)])
    return address
