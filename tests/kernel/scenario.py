"""One Service for every policy and endpoint situation of the packet suite, as API objects and as a table."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from kernel.packets import FrontendKind, Policy, Row, Sender, Situation
from kernel.topology import CLIENT, NODES, POD_CIDRS, PODS, PORT
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
SENDERS: dict[Sender, tuple[str, IPv4Address]] = {
    Sender.POD: ("other", PODS["other"][1]),
    Sender.ENDPOINT: ("local", PODS["local"][1]),
    Sender.NODE: ("n1", NODES["n1"]),
    Sender.OUTSIDE: ("client", CLIENT),
    Sender.REMOTE_POD: ("far", PODS["far"][1]),
}
NODE: JsonObject = {
    "metadata": {"name": "n1"},
    "spec": {"podCIDR": POD_CIDRS["n1"], "podCIDRs": [POD_CIDRS["n1"]]},
    "status": {"addresses": [{"type": "InternalIP", "address": str(NODES["n1"])}]},
}
LOCAL_ADDRESSES = frozenset({NODES["n1"], IPv4Address("127.0.0.1")})


def facts(*nodeport_addresses: str) -> NodeFacts:
    return node_facts(
        "n1",
        NODE,
        nodeport_addresses=nodeport_addresses or ("primary",),
        service_networks=(IPv4Network("10.96.0.0/16"),),
    )


def index(policy: Policy, situation: Situation) -> int:
    return 1 + list(Policy).index(policy) * len(Situation) + list(Situation).index(situation)


def service(policy: Policy, situation: Situation) -> JsonObject:
    number = index(policy, situation)
    ports = [
        {"name": name, "port": 80, "protocol": name.upper(), "nodePort": 30100 + number}
        for name in ("tcp", "udp")
    ]
    return {
        "metadata": {"namespace": NAMESPACE, "name": f"{policy.value}-{situation.value}".lower()},
        "spec": {
            "type": "NodePort",
            "clusterIP": f"10.96.1.{number}",
            "clusterIPs": [f"10.96.1.{number}"],
            "externalIPs": [f"192.0.2.{number}"],
            "internalTrafficPolicy": policy.value,
            "externalTrafficPolicy": policy.value,
            "ports": ports,
        },
    }


def slices(service_object: JsonObject, endpoints: dict[str, dict[str, bool]]) -> list[JsonObject]:
    """One slice per endpoint: uniting them is part of what is tested."""
    name = service_object["metadata"]["name"]
    ports = [{"name": protocol, "port": PORT, "protocol": protocol.upper()} for protocol in ("tcp", "udp")]
    return [
        {
            "metadata": {
                "namespace": NAMESPACE,
                "name": f"{name}-{pod}",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [
                {"addresses": [str(PODS[pod][1])], "nodeName": PODS[pod][0], "conditions": conditions}
            ],
        }
        for pod, conditions in endpoints.items()
    ]


def table(node: NodeFacts, options: ForwardingOptions | None = None) -> ForwardingTable:
    made = ForwardingTable()
    for policy in Policy:
        for situation in Situation:
            item = service(policy, situation)
            built = build_service(
                item, slices(item, ENDPOINTS[situation]), node, options or ForwardingOptions()
            )
            made.replace(NamespacedName.of(item), built)
    return made


def frontend(row: Row) -> tuple[IPv4Address, int]:
    number = index(row.policy, row.situation)
    match row.frontend:
        case FrontendKind.CLUSTER_IP:
            return IPv4Address(f"10.96.1.{number}"), 80
        case FrontendKind.NODE_PORT:
            return NODES["n1"], 30100 + number
        case FrontendKind.EXTERNAL_IP:
            return IPv4Address(f"192.0.2.{number}"), 80


def packet(row: Row, protocol: Protocol) -> Packet:
    address, port = frontend(row)
    return Packet(
        SENDERS[row.sender][1],
        address,
        protocol,
        port,
        from_node=row.sender is Sender.NODE,
        to_node=row.frontend is FrontendKind.NODE_PORT,
    )


def expected_answers(row: Row) -> set[str]:
    """What ``topology.ask`` may return: ``reject``, ``drop``, or pod and the address it sees."""
    if row.expected in ("reject", "drop"):
        return {row.expected}
    answers = set()
    for cell in row.expected.split():
        pod = "local" if cell[0] == "L" else "remote"
        seen = NODES["n1"] if cell.endswith("*") else SENDERS[row.sender][1]
        answers.add(f"{pod} {seen}")
    return answers
