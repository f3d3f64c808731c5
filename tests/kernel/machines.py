"""Machines as network namespaces: on one subnet, or each on a subnet of its own with a router between them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from nodeport.netlink import route
from nodeport.netlink.route import IPAddress, IPNetwork, RouteSocket, VethEnd
from nodeport.node import namespaces, network
from nodeport.node.namespaces import NamespaceFile

ETH0 = 10
_SWITCH = 10


@dataclass(frozen=True)
class Machine:
    """``gateway``: the router, or, on one subnet, a host that is nobody's node: ``outside``."""

    name: str
    netns: Path
    address: IPAddress
    gateway: IPAddress
    pod_cidrs: tuple[IPNetwork, ...]


@dataclass(frozen=True)
class Machines:
    """``outside``: the router's namespace, or that of a host on the machines' subnet; clients live there."""

    outside: Path
    members: tuple[Machine, ...]


def _address(version: int, number: int, host: int, *, routed: bool) -> str:
    """With prefix. On one subnet all are 192.0.2.0/24; else each machine has a /26."""
    if version == 4:
        return f"192.0.2.{64 * (number - 1) + host}/26" if routed else f"192.0.2.{host}/24"
    return f"2001:db8:0:{number if routed else 0}::{host}/64"


@contextmanager
def machines(count: int, *, routed: bool, version: int = 4, mtu: int = 1500) -> Iterator[Machines]:
    """``version``: of the machines' addresses. Their pods have addresses of both."""
    tag = f"tm{secrets.token_hex(4)}"
    with ExitStack() as stack:

        def made(name: str) -> Path:
            path = namespaces.NETNS_ROOT / f"{tag}.{name}"
            namespaces.create([NamespaceFile("net", path)], _let_forward)
            stack.callback(namespaces.remove, path)
            return path

        namespaces.prepare_netns_root()
        outside = made("outside")
        with RouteSocket(outside) as router:
            router.apply([route.link_up(1)])
            if not routed:
                router.apply([route.bridge("switch", _SWITCH, b"\x0a\0\0\0\0\1", mtu)])
                gateway = ip_interface(_address(version, 1, 1, routed=False))
                router.apply([route.address(_SWITCH, gateway)])
            found = [_machine(router, made(f"m{n}"), n, routed, version, mtu) for n in range(1, count + 1)]
        yield Machines(outside, tuple(found))


def _machine(router: RouteSocket, path: Path, number: int, routed: bool, version: int, mtu: int) -> Machine:
    own = ip_interface(_address(version, number, 10 + number, routed=routed))
    gateway = ip_interface(_address(version, number, 1, routed=routed))
    port = 100 + number
    with network.open_namespace(path) as target:
        end = VethEnd(
            f"m{number}", b"\x0a\0\0\0\1" + bytes([number]), index=port, master=0 if routed else _SWITCH
        )
        router.apply([
            route.veth(end, VethEnd("eth0", b"\x0a\0\0\0\2" + bytes([number]), index=ETH0, netns=target), mtu),
            *([route.address(port, gateway)] if routed else []),
        ])  # fmt: skip
    with RouteSocket(path) as inside:
        anywhere = ip_network("0.0.0.0/0" if version == 4 else "::/0")
        inside.apply([
            route.link_up(1), route.link_up(ETH0), route.address(ETH0, own),
            route.route(anywhere, gateway=gateway.ip),
        ])  # fmt: skip
    with namespaces.entered(
        [NamespaceFile("net", path)]
    ):  # many machines filter by the way back; not for pods' links
        Path("/proc/sys/net/ipv4/conf/eth0/rp_filter").write_text("1")
    cidrs = ip_network(f"10.201.{number}.0/24"), ip_network(f"fd00:201:0:{number}::/64")
    return Machine(f"m{number}", path, own.ip, ip_address(gateway.ip), cidrs)


def _let_forward() -> None:
    """In the namespace that the thread is in."""
    settings = {
        "ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
        "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0",
    }  # fmt: skip
    for name, value in settings.items():
        Path("/proc/sys/net", name).write_text(value)
