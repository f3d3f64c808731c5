"""Two nodes, pods on each, and an outside client, as throw-away network namespaces of the real kernel.

Every pod hangs on its node by a veth of its own with a /32 address, so that all its traffic passes the node. Sockets are
made inside the namespaces by this process: no program runs in them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from nodeport.netlink.namespace import open_in

PORT = 8080
CLIENT = IPv4Address("172.31.7.2")
NODES = {"n1": IPv4Address("172.31.7.11"), "n2": IPv4Address("172.31.7.12")}
PODS = {
    "local": ("n1", IPv4Address("10.244.1.2")),
    "other": ("n1", IPv4Address("10.244.1.3")),
    "remote": ("n2", IPv4Address("10.244.2.2")),
    "far": ("n2", IPv4Address("10.244.2.3")),
}
POD_CIDRS = {"n1": "10.244.1.0/24", "n2": "10.244.2.0/24"}
SERVICE_CIDRS = ("10.96.0.0/16", "192.0.2.0/24")
"""Where the other node sends what its pods ask of the first: it runs no proxy of its own."""
_GATEWAY = "169.254.1.1"


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
    bridge = ["link add br0 type bridge", "link set br0 up", "addr add 172.31.7.1/24 dev br0"]
    for name in (*NODES, "client"):
        bridge.append(f"link add {name} type veth peer name eth0 netns {made.namespace(name).name}")
        bridge.append(f"link set {name} master br0 up")
    made.ip("fabric", *bridge)
    for node, address in NODES.items():
        made.ip(
            node,
            "link set lo up",
            "link set eth0 up",
            f"addr add {address}/24 dev eth0",
            "route add default via 172.31.7.1",
        )
    for node in NODES:
        others = (f"route add {POD_CIDRS[name]} via {NODES[name]}" for name in NODES if name != node)
        made.ip(node, *others)
    services = (f"route add {cidr} via {NODES['n1']}" for cidr in SERVICE_CIDRS)
    made.ip("n2", *services)
    made.ip("client", "link set lo up", "link set eth0 up", f"addr add {CLIENT}/24 dev eth0")
    made.ip("client", f"route add default via {NODES['n1']}")
    for pod, (node, address) in PODS.items():
        _add_pod(made, pod, node, address)


def _add_pod(made: Topology, pod: str, node: str, address: IPv4Address) -> None:
    """Static neighbours on both ends: there is nothing to resolve on a wire between two."""
    made.ip(
        node,
        f"link add {pod} address 02:00:00:00:00:01 type veth "
        f"peer name eth0 address 02:00:00:00:00:02 netns {made.namespace(pod).name}",
        f"link set {pod} up",
        f"route add {address}/32 dev {pod}",
        f"neigh add {address} lladdr 02:00:00:00:00:02 dev {pod}",
    )
    made.ip(
        pod,
        "link set lo up",
        "link set eth0 up",
        f"addr add {address}/32 dev eth0",
        f"neigh add {_GATEWAY} lladdr 02:00:00:00:00:01 dev eth0",
        f"route add {_GATEWAY}/32 dev eth0",
        f"route add default via {_GATEWAY}",
    )


def _set_sysctls() -> None:
    """Forwarding on; reverse-path filter off; refusals not rationed (the kernel sends one per second and client)."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv4/conf/{scope}/rp_filter").write_text("0")
        Path(f"/proc/sys/net/ipv4/conf/{scope}/send_redirects").write_text("0")


class EchoPods:
    """Every pod answers on TCP and UDP with its name and the sender's address, until ``close``."""

    def __init__(self, made: Topology, port: int = PORT) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop = False
        for pod in PODS:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                listener = open_in(made.namespace(pod), lambda kind=kind: socket.socket(socket.AF_INET, kind))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("0.0.0.0", port))
                listener.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    listener.listen(64)
                self._selector.register(listener, selectors.EVENT_READ, (pod, "listener"))
        self._thread = threading.Thread(target=self._serve, name="echo-pods")
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._stop:
            for key, _ in self._selector.select(0.05):
                with contextlib.suppress(OSError):
                    self._answer(key.fileobj, *key.data)

    def _answer(self, ready: socket.socket, pod: str, role: str) -> None:
        if ready.type == socket.SOCK_DGRAM:
            _, sender = ready.recvfrom(2048)
            ready.sendto(f"{pod} {sender[0]}".encode(), sender)
        elif role == "listener":
            connection, _ = ready.accept()
            self._selector.register(connection, selectors.EVENT_READ, (pod, "connection"))
        elif ready.recv(2048):
            ready.sendall(f"{pod} {ready.getpeername()[0]}".encode())
        else:
            self._selector.unregister(ready)
            ready.close()


def ask(namespace: Path, kind: socket.SocketKind, address: IPv4Address, port: int, timeout: float) -> str:
    """``<pod> <sender's address>``, ``reject`` or ``drop``, asked from inside ``namespace``."""
    with open_in(namespace, lambda: socket.socket(socket.AF_INET, kind)) as asking:
        asking.settimeout(timeout)
        try:
            asking.connect((str(address), port))
            with contextlib.suppress(
                PermissionError
            ):  # what a node's own UDP is told besides the ICMP error, or instead
                asking.sendall(b"who?")
            return asking.recv(2048).decode()
        except ConnectionRefusedError:
            return "reject"
        except TimeoutError:
            return "drop"
