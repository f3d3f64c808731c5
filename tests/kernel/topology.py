"""Two nodes, pods on each, and an outside client, as throw-away network namespaces of the real kernel.

Every pod hangs on its node by a veth of its own with a /32 (and a /128) address, so that all its traffic passes the
node. Sockets are made inside the namespaces by this process: no program runs in them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import selectors
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from nodeport.netlink.namespace import open_in

IPAddress = IPv4Address | IPv6Address
PORT = 8080
_LINK_LOCAL = {4: "169.254.1.1", 6: "fe80::ff"}
"""What a pod takes for its router."""
_POD_NODES = {"local": "n1", "other": "n1", "remote": "n2", "far": "n2"}


@dataclass(frozen=True)
class Plan:
    """The addresses of one family; ``pods``: name -> (node, address). ``service_networks``: where the other node sends
    what its pods ask of the first, since it runs no proxy of its own.
    """

    version: int
    client: IPAddress
    fabric: IPAddress
    nodes: dict[str, IPAddress]
    pods: dict[str, tuple[str, IPAddress]]
    pod_networks: dict[str, str]
    service_networks: tuple[str, ...]

    @property
    def host_bits(self) -> int:
        return 32 if self.version == 4 else 128

    @property
    def fabric_bits(self) -> int:
        return 24 if self.version == 4 else 64


def _plan(version: int, fabric: str, pods: str, *service_networks: str) -> Plan:
    """``fabric`` and ``pods`` are patterns: the host's and the node's number, then the pod's, go in."""
    numbers = {"local": 2, "other": 3, "remote": 2, "far": 3}
    nodes = {"n1": 1, "n2": 2}
    return Plan(
        version,
        ip_address(fabric.format(2)),
        ip_address(fabric.format(1)),
        {name: ip_address(fabric.format(10 + number)) for name, number in nodes.items()},
        {pod: (node, ip_address(pods.format(nodes[node], numbers[pod]))) for pod, node in _POD_NODES.items()},
        {
            name: f"{pods.format(number, '' if version == 6 else 0)}/{24 if version == 4 else 64}"
            for name, number in nodes.items()
        },
        service_networks,
    )


PLANS = {
    4: _plan(4, "172.31.7.{}", "10.244.{}.{}", "10.96.0.0/16", "192.0.2.0/24", "198.51.100.0/24"),
    6: _plan(6, "fd00:31:7::{}", "fd00:244:0:{}::{}", "fd00:96::/108", "2001:db8::/112", "2001:db8:1::/112"),
}
CLIENT = PLANS[4].client
NODES = PLANS[4].nodes
PODS = PLANS[4].pods
POD_CIDRS = PLANS[4].pod_networks


class Topology:
    """``namespace(name)`` for n1, n2, client and the pods. Made by ``topology()``, which also removes it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def namespace(self, name: str) -> Path:
        return Path("/run/netns") / f"{self._prefix}.{name}"

    def names(self) -> list[str]:
        return ["fabric", *NODES, "client", *PODS]

    def nft(self, node: str, *arguments: str) -> str:
        """Runs the real nft inside a node."""
        command = ["ip", "netns", "exec", self.namespace(node).name, "nft", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def ip(self, name: str, *lines: str) -> None:
        command = ["ip", "-n", self.namespace(name).name, "-batch", "-"]
        subprocess.run(command, input="\n".join(lines), check=True, capture_output=True, text=True)


@contextlib.contextmanager
def topology() -> Iterator[Topology]:
    made = Topology(f"npk.{os.getpid()}.{secrets.token_hex(2)}")
    try:
        _build(made)
        yield made
    finally:
        for name in made.names():
            subprocess.run(
                ["ip", "netns", "del", made.namespace(name).name], check=False, capture_output=True
            )


def _build(made: Topology) -> None:
    for name in made.names():
        subprocess.run(["ip", "netns", "add", made.namespace(name).name], check=True)
        open_in(made.namespace(name), _set_sysctls)
    bridge = ["link add br0 type bridge", "link set br0 up"]
    for name in (*NODES, "client"):
        bridge.append(f"link add {name} type veth peer name eth0 netns {made.namespace(name).name}")
        bridge.append(f"link set {name} master br0 up")
    made.ip("fabric", *bridge)
    for name in (*NODES, "client"):
        made.ip(name, "link set lo up", "link set eth0 up")
    for pod, node in _POD_NODES.items():
        _add_pod(made, pod, node)
    for plan in PLANS.values():
        _address(made, plan)


def _address(made: Topology, plan: Plan) -> None:
    def on_fabric(address: IPAddress) -> str:
        return f"addr add {address}/{plan.fabric_bits} dev {{}} {'nodad' if plan.version == 6 else ''}"

    made.ip("fabric", on_fabric(plan.fabric).format("br0"))
    for node, address in plan.nodes.items():
        others = [
            f"route add {plan.pod_networks[name]} via {plan.nodes[name]}" for name in NODES if name != node
        ]
        made.ip(node, on_fabric(address).format("eth0"), f"route add default via {plan.fabric}", *others)
    made.ip("n2", *(f"route add {cidr} via {plan.nodes['n1']}" for cidr in plan.service_networks))
    made.ip("client", on_fabric(plan.client).format("eth0"), f"route add default via {plan.nodes['n1']}")
    for pod, (node, address) in plan.pods.items():
        _address_pod(made, plan, pod, node, address)


def _add_pod(made: Topology, pod: str, node: str) -> None:
    made.ip(
        node,
        f"link add {pod} address 02:00:00:00:00:01 type veth "
        f"peer name eth0 address 02:00:00:00:00:02 netns {made.namespace(pod).name}",
        f"link set {pod} up",
    )
    made.ip(pod, "link set lo up", "link set eth0 up")


def _address_pod(made: Topology, plan: Plan, pod: str, node: str, address: IPAddress) -> None:
    """Static neighbours on both ends: there is nothing to resolve on a wire between two."""
    gateway = _LINK_LOCAL[plan.version]
    made.ip(
        node,
        f"route add {address}/{plan.host_bits} dev {pod}",
        f"neigh add {address} lladdr 02:00:00:00:00:02 dev {pod}",
    )
    made.ip(
        pod,
        f"addr add {address}/{plan.host_bits} dev eth0 {'nodad' if plan.version == 6 else ''}",
        f"neigh add {gateway} lladdr 02:00:00:00:00:01 dev eth0",
        f"route add {gateway}/{plan.host_bits} dev eth0",
        f"route add default via {gateway} dev eth0",
    )


def _set_sysctls() -> None:
    """Forwarding on; reverse-path filter off; refusals not rationed (the kernel sends one per second and client).

    IPv6 addresses are usable at once, without asking whether somebody else has them.
    """
    settings = {
        "ipv4/ip_forward": "1",
        "ipv4/icmp_ratelimit": "0",
        "ipv6/conf/all/forwarding": "1",
        "ipv6/icmp/ratelimit": "0",
        "ipv6/conf/default/accept_dad": "0",
    }
    for scope in ("all", "default"):
        settings[f"ipv4/conf/{scope}/rp_filter"] = "0"
        settings[f"ipv4/conf/{scope}/send_redirects"] = "0"
    for name, value in settings.items():
        Path("/proc/sys/net", name).write_text(value)


class EchoPods:
    """Every pod answers on TCP and UDP with its name and the sender's address, until ``close``."""

    def __init__(self, made: Topology, port: int = PORT) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop = False
        for pod in PODS:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                listener = open_in(
                    made.namespace(pod), lambda kind=kind: socket.socket(socket.AF_INET6, kind)
                )
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("::", port))
                listener.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    listener.listen(1024)
                self._selector.register(listener, selectors.EVENT_READ, (pod, "listener"))
        self._thread = threading.Thread(target=self._serve, name="echo-pods")
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def wait_until_quiet(self) -> None:
        """Until every answer that was given over TCP has been acknowledged."""
        while any(_unacknowledged(key.fileobj) for key in list(self._selector.get_map().values())):
            time.sleep(0.005)

    def _serve(self) -> None:
        while not self._stop:
            for key, _ in self._selector.select(0.05):
                with contextlib.suppress(OSError):
                    self._answer(key.fileobj, *key.data)

    def _answer(self, ready: socket.socket, pod: str, role: str) -> None:
        if ready.type == socket.SOCK_DGRAM:
            _, sender = ready.recvfrom(2048)
            ready.sendto(_told(pod, sender), sender)
        elif role == "listener":
            connection, _ = ready.accept()
            self._selector.register(connection, selectors.EVENT_READ, (pod, "connection"))
        elif ready.recv(2048):
            ready.sendall(_told(pod, ready.getpeername()))
        else:
            self._selector.unregister(ready)
            ready.close()


def _unacknowledged(connection: socket.socket) -> bool:
    if connection.type != socket.SOCK_STREAM:
        return False
    try:
        waiting = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # a listener, or closed meanwhile
        return False
    return any(waiting)


def _told(pod: str, sender: tuple[str, ...]) -> bytes:
    return f"{pod} {sender[0].removeprefix('::ffff:')}".encode()


class ClientPorts:
    """Hands out the ports that clients ask from, so that none comes twice in a long while.

    A client that the kernel gives the port of another one, who speaks to the same endpoint through another frontend,
    may wait for ever for its answers in mode ipvs: IPVS tells connections apart, on the way back, by client and endpoint.
    """

    def __init__(self, first: int = 33_000, last: int = 60_000) -> None:
        self._next = itertools.cycle(range(first, last))

    def bind(self, asking: socket.socket, source: str) -> None:
        """From ``source`` ("": any address), at the next port that nobody has."""
        if asking.type == socket.SOCK_STREAM:  # what has ended and waits for late packets is not in the way
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                asking.bind((source, next(self._next)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return


def ask(
    namespace: Path,
    kind: socket.SocketKind,
    address: IPAddress,
    port: int,
    timeout: float = 10.0,
    source: IPAddress | None = None,
    ports: ClientPorts | None = None,
) -> str:
    """``<pod> <sender's address>``, ``reject``, ``drop`` or ``unreachable``, asked from inside ``namespace``.

    ``source``: the address to ask from, ``ports``: where the port comes from, where the kernel shall not choose.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with open_in(namespace, lambda: socket.socket(family, kind)) as asking:
        asking.settimeout(timeout)
        try:
            if ports is not None:
                ports.bind(asking, "" if source is None else str(source))
            elif source is not None:
                asking.bind((str(source), 0))
            asking.connect((str(address), port))
            with contextlib.suppress(PermissionError):
                # what a node's own UDP is told besides the ICMP error, or instead
                asking.sendall(b"who?")
            return asking.recv(2048).decode()
        except ConnectionRefusedError:
            return "reject"
        except TimeoutError:
            return "drop"
        except OSError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                raise
            return "unreachable"


@contextlib.contextmanager
def answering_topology() -> Iterator[Topology]:
    """A topology whose pods all answer, each with its name and whom it sees."""
    with topology() as made, contextlib.closing(EchoPods(made)):
        yield made
