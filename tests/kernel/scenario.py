"""One Service for every policy and endpoint situation of the packet suite, as API objects and as a table.

Everything is there once per family of addresses: ``family`` is 4 or 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address, ip_network

from kernel.packets import FrontendKind, Policy, Row, Sender, Situation
from kernel.topology import PLANS, PORT, IPAddress
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable, NodeFacts, Protocol

NAMESPACE = "suite"
_READY = {"ready": True, "serving": True, "terminating": False}
_UNREADY = {"ready": False, "serving": False, "terminating": False}
_ENDING = {"ready": False, "serving": True, "terminating": True}

ENDPOINTS: dict[Situation, dict[str, dict[str, bool]]] = {
    Situation.NONE: {},
    Situation.LOCAL: {"local": _READY},
    Situation.REMOTE: {"remote": _READY},
    Situation.BOTH: {"local": _READY, "remote": _READY},
    Situation.UNREADY: {"local": _UNREADY, "remote": _UNREADY},
    Situation.ENDING: {"local": _ENDING, "remote": _ENDING},
    Situation.HANDOVER: {"local": _ENDING, "remote": _READY},
}
SENDERS = {
    Sender.POD: "other",
    Sender.ENDPOINT: "local",
    Sender.NODE: "n1",
    Sender.OUTSIDE: "client",
    Sender.REMOTE_POD: "far",
}
"""The namespace of each sender."""
_CLUSTER_IPS = {4: "10.96.1.{}", 6: "fd00:96::1:{}"}
_EXTERNAL_IPS = {4: "192.0.2.{}", 6: "2001:db8::{}"}
_LOAD_BALANCER_IPS = {4: "198.51.100.{}", 6: "2001:db8:1::{}"}
SERVICE_NETWORKS = {4: "10.96.0.0/16", 6: "fd00:96::/108"}
LOOPBACK = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
NODE: JsonObject = {
    "metadata": {"name": "n1"},
    "spec": {
        "podCIDR": PLANS[4].pod_networks["n1"],
        "podCIDRs": [plan.pod_networks["n1"] for plan in PLANS.values()],
    },
    "status": {
        "addresses": [{"type": "InternalIP", "address": str(plan.nodes["n1"])} for plan in PLANS.values()]
    },
}
LOCAL_ADDRESSES = frozenset({PLANS[4].nodes["n1"], IPv4Address("127.0.0.1")})


def facts(*nodeport_addresses: str) -> NodeFacts:
    return node_facts(
        "n1",
        NODE,
        nodeport_addresses=nodeport_addresses or ("primary",),
        service_networks=(ip_network(SERVICE_NETWORKS[4]),),
    )


def index(policy: Policy, situation: Situation) -> int:
    return 1 + list(Policy).index(policy) * len(Situation) + list(Situation).index(situation)


def service(policy: Policy, situation: Situation, *, family: int = 4) -> JsonObject:
    number = index(policy, situation)
    ports = [
        {"name": name, "port": 80, "protocol": name.upper(), "nodePort": 30100 + number}
        for name in ("tcp", "udp")
    ]
    vip = {"ip": _LOAD_BALANCER_IPS[family].format(number), "ipMode": "VIP"}
    cluster_ip = _CLUSTER_IPS[family].format(number)
    return {
        "metadata": {"namespace": NAMESPACE, "name": f"{policy.value}-{situation.value}".lower()},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "externalIPs": [_EXTERNAL_IPS[family].format(number)],
            "internalTrafficPolicy": policy.value,
            "externalTrafficPolicy": policy.value,
            "ports": ports,
        },
        "status": {"loadBalancer": {"ingress": [vip]}},
    }


def without_external(item: JsonObject) -> JsonObject:
    """The same Service with a ClusterIP and NodePorts only."""
    return {
        "metadata": item["metadata"],
        "spec": {**item["spec"], "type": "NodePort", "externalIPs": []},
    }


def slices(
    service_object: JsonObject, endpoints: Mapping[str, Mapping[str, bool]], *, family: int = 4
) -> list[JsonObject]:
    """One slice per endpoint: uniting them is part of what is tested."""
    name = service_object["metadata"]["name"]
    ports = [{"name": protocol, "port": PORT, "protocol": protocol.upper()} for protocol in ("tcp", "udp")]
    pods = PLANS[family].pods
    return [
        {
            "metadata": {
                "namespace": NAMESPACE,
                "name": f"{name}-{pod}",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": f"IPv{family}",
            "ports": ports,
            "endpoints": [
                {"addresses": [str(pods[pod][1])], "nodeName": pods[pod][0], "conditions": conditions}
            ],
        }
        for pod, conditions in endpoints.items()
    ]


def table(node: NodeFacts, options: ForwardingOptions | None = None, *, family: int = 4) -> ForwardingTable:
    made = ForwardingTable()
    for policy in Policy:
        for situation in Situation:
            item = service(policy, situation, family=family)
            found = slices(item, ENDPOINTS[situation], family=family)
            built = build_service(item, found, node, options or ForwardingOptions())
            made.replace(NamespacedName.of(item), built)
    return made


def frontend(row: Row, *, family: int = 4) -> tuple[IPAddress, int]:
    number = index(row.policy, row.situation)
    match row.frontend:
        case FrontendKind.CLUSTER_IP:
            return ip_address(_CLUSTER_IPS[family].format(number)), 80
        case FrontendKind.NODE_PORT:
            return PLANS[family].nodes["n1"], 30100 + number
        case FrontendKind.EXTERNAL_IP:
            return ip_address(_EXTERNAL_IPS[family].format(number)), 80
        case FrontendKind.LOAD_BALANCER_IP:
            return ip_address(_LOAD_BALANCER_IPS[family].format(number)), 80


def address_of(sender: Sender, *, family: int = 4) -> IPAddress:
    """What ``sender`` sends from."""
    plan = PLANS[family]
    match sender:
        case Sender.NODE:
            return plan.nodes["n1"]
        case Sender.OUTSIDE:
            return plan.client
        case _:
            return plan.pods[SENDERS[sender]][1]


def packet(row: Row, protocol: Protocol, *, family: int = 4) -> Packet:
    address, port = frontend(row, family=family)
    return Packet(
        address_of(row.sender, family=family),
        address,
        protocol,
        port,
        from_node=row.sender is Sender.NODE,
        to_node=row.frontend is FrontendKind.NODE_PORT,
    )


def expected_answers(row: Row, *, family: int = 4) -> set[str]:
    """What ``topology.ask`` may return: ``reject``, ``drop``, or pod and the address it sees."""
    if row.expected in ("reject", "drop"):
        return {row.expected}
    answers = set()
    for cell in row.expected.split():
        pod = "local" if cell[0] == "L" else "remote"
        sender = Sender.NODE if cell.endswith("*") else row.sender
        answers.add(f"{pod} {address_of(sender, family=family)}")
    return answers
