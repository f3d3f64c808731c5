"""SCTP as real packets, in every mode: each sender to each frontend does what the oracle says."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from kernel.packets import Policy, Sender, Situation
from kernel.topology import NODES, PODS, PORT, Topology, topology
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.decide import Decision, Packet, decide
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable, Protocol, Verdict
from nodeport.netlink.namespace import open_in

NODE = scenario.facts()
OPTIONS = ForwardingOptions()
SITUATIONS = (Situation.NONE, Situation.REMOTE, Situation.BOTH)
SERVICES = [(policy, situation) for policy in Policy for situation in SITUATIONS]
NAMES_BY_ADDRESS = {address: pod for pod, (_, address) in PODS.items()}
_IP_RECVERR, _SCTP_RTOINFO = 11, 0
ANSWER_TIMEOUT, DROP_TIMEOUT, PATIENCE = 20.0, 0.3, 60.0


def lacks_sctp() -> str:
    try:
        _socket().close()
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise
        return "this kernel has no SCTP: run `make test-ipvs`"
    return ""


def _socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)


pytestmark = pytest.mark.skipif(bool(lacks_sctp()), reason=lacks_sctp())


class SctpPods:
    """Both endpoints answer every association with their name and the sender's address, until ``close``."""

    def __init__(self, made: Topology) -> None:
        self._listeners = {pod: open_in(made.namespace(pod), _socket) for pod in ("local", "remote")}
        self._threads = []
        for pod, listener in self._listeners.items():
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", PORT))
            listener.listen(64)
            listener.settimeout(0.1)
            self._threads.append(threading.Thread(target=self._serve, args=(pod, listener)))
        self._stop = False
        for thread in self._threads:
            thread.start()

    def _serve(self, pod: str, listener: socket.socket) -> None:
        while not self._stop:
            with suppress(TimeoutError, ConnectionError):
                association, (sender, _) = listener.accept()
                with association:
                    association.settimeout(ANSWER_TIMEOUT)
                    association.recv(100)
                    association.sendall(f"{pod} {sender}".encode())

    def close(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        for listener in self._listeners.values():
            listener.close()


def service(policy: Policy, situation: Situation) -> JsonObject:
    """The scenario's Service of that kind with its one port on SCTP."""
    item = scenario.service(policy, situation)
    (port, *_) = item["spec"]["ports"]
    item["spec"]["ports"] = [{**port, "name": "sctp", "protocol": "SCTP"}]
    return item


def table() -> ForwardingTable:
    made = ForwardingTable()
    for policy, situation in SERVICES:
        item = service(policy, situation)
        slices = scenario.slices(item, scenario.ENDPOINTS[situation])
        for found in slices:
            found["ports"] = [{"name": "sctp", "port": PORT, "protocol": "SCTP"}]
        made.replace(NamespacedName.of(item), build_service(item, slices, NODE, OPTIONS))
    return made


TABLE = table()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with topology() as made, closing(SctpPods(made)):
        yield made


@pytest.fixture(scope="module", params=MODES, ids=str)
def mode(request: pytest.FixtureRequest, cluster: Topology) -> Iterator[SuiteMode]:
    used: SuiteMode = request.param
    if used.lacks():
        pytest.skip(used.lacks())
    with used.open(cluster.namespace("n1"), NODE.family, OPTIONS) as proxier:
        proxier.resync(TABLE, NODE)
        yield used
        proxier.remove()


def expected(decision: Decision, sender: IPv4Address) -> set[str]:
    if decision.verdict is not Verdict.FORWARD:
        return {decision.verdict.value}
    return {
        f"{NAMES_BY_ADDRESS[item.endpoint.address]} {NODES['n1'] if item.masquerade else sender}"
        for item in decision.outcomes
    }


def ask(made: Topology, sender: Sender, address: IPv4Address, port: int, timeout: float) -> str:
    with open_in(made.namespace(scenario.SENDERS[sender]), _socket) as asking:
        asking.settimeout(timeout)
        # SCTP takes an ICMP refusal for an error only if it is asked to, and not while it is still sending: the
        # refusal of its second attempt counts, which by itself would come after three seconds.
        asking.setsockopt(socket.SOL_IP, _IP_RECVERR, 1)
        asking.setsockopt(socket.IPPROTO_SCTP, _SCTP_RTOINFO, struct.pack("=iIII", 0, 50, 1000, 50))
        try:
            asking.connect((str(address), port))
            asking.sendall(b"who?")
            return asking.recv(100).decode()
        except ConnectionRefusedError:
            return "reject"
        except TimeoutError:
            return "drop"


@pytest.mark.parametrize("frontend", ["ClusterIP", "NodePort", "ExternalIP"])
@pytest.mark.parametrize("sender", Sender, ids=lambda sender: sender.value)
@pytest.mark.parametrize(
    ("policy", "situation"), SERVICES, ids=[f"{policy.value}-{item.value}" for policy, item in SERVICES]
)
def test_associations_go_where_the_oracle_says(
    mode: SuiteMode, cluster: Topology, sender: Sender, frontend: str, policy: Policy, situation: Situation
) -> None:
    spec = service(policy, situation)["spec"]
    address, port = {
        "ClusterIP": (IPv4Address(spec["clusterIP"]), 80),
        "NodePort": (NODES["n1"], spec["ports"][0]["nodePort"]),
        "ExternalIP": (IPv4Address(spec["externalIPs"][0]), 80),
    }[frontend]
    source = scenario.address_of(sender)
    packet = Packet(
        source,
        address,
        Protocol.SCTP,
        port,
        from_node=sender is Sender.NODE,
        to_node=frontend == "NodePort",
    )
    wanted = expected(decide(TABLE.items(), NODE, packet), source)
    timeout = DROP_TIMEOUT if wanted == {"drop"} else ANSWER_TIMEOUT
    seen: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while seen < wanted and time.monotonic() < deadline:
        seen.add(ask(cluster, sender, address, port, timeout))
    assert seen == wanted
