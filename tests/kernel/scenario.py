"""One Service for every policy and endpoint situation of the packet suite, as API objects and as a table.

Everything is there once per family of addresses: ``family`` is 4 or 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from kernel.aspects import Aspect, AspectRow
from kernel.packets import FrontendKind, Policy, Row, Sender, Situation, index
from kernel.topology import PLANS, PORT, IPAddress
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable, NodeFacts, Protocol

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
    "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "ours"}},
    "spec": {
        "podCIDR": PLANS[4].pod_networks["n1"],
        "podCIDRs": [plan.pod_networks["n1"] for plan in PLANS.values()],
    },
    "status": {
        "addresses": [{"type": "InternalIP", "address": str(plan.nodes["n1"])} for plan in PLANS.values()]
    },
}


def local_addresses(family: int = 4) -> frozenset[IPAddress]:
    return frozenset({PLANS[family].nodes["n1"], LOOPBACK[family]})


def facts(*nodeport_addresses: str, family: int = 4) -> NodeFacts:
    return node_facts(
        "n1",
        NODE,
        family=Family(family),
        nodeport_addresses=nodeport_addresses or ("primary",),
        service_networks=(ip_network(SERVICE_NETWORKS[family]),),
    )


def service(policy: Policy, situation: Situation, *, family: int = 4) -> JsonObject:
    name = f"{policy.value}-{situation.value}".lower()
    policies = {"internalTrafficPolicy": policy.value, "externalTrafficPolicy": policy.value}
    return _service(name, index(policy, situation), family, policies)


def _service(name: str, number: int, family: int, spec: JsonObject) -> JsonObject:
    ports = [
        {"name": protocol, "port": 80, "protocol": protocol.upper(), "nodePort": 30100 + number}
        for protocol in ("tcp", "udp")
    ]
    vip = {"ip": _LOAD_BALANCER_IPS[family].format(number), "ipMode": "VIP"}
    cluster_ip = _CLUSTER_IPS[family].format(number)
    return {
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "externalIPs": [_EXTERNAL_IPS[family].format(number)],
            "ports": ports,
            **spec,
        },
        "status": {"loadBalancer": {"ingress": [vip]}},
    }


def aspect_service(aspect: Aspect, *, family: int = 4) -> JsonObject:
    plan = PLANS[family]
    only_client, only_node = (f"{address}/{plan.host_bits}" for address in (plan.client, plan.nodes["n1"]))
    internal, external = {"internalTrafficPolicy": "Local"}, {"externalTrafficPolicy": "Local"}
    specs: dict[Aspect, JsonObject] = {
        Aspect.INTERNAL_LOCAL: internal,
        Aspect.EXTERNAL_LOCAL: external,
        Aspect.RANGES_CLIENT: {"loadBalancerSourceRanges": [only_client]},
        Aspect.RANGES_NODE: {"loadBalancerSourceRanges": [only_node]},
        Aspect.AFFINITY: {
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        },
        Aspect.LOCAL_AND_ZONE: {**internal, **external},
    }
    number = AspectRow(aspect, Sender.POD, FrontendKind.CLUSTER_IP, "").number
    made = _service(aspect.name.lower().replace("_", "-"), number, family, specs.get(aspect, {}))
    if aspect is Aspect.RANGES_NODEPORT:
        made["metadata"]["annotations"] = {NODEPORT_SOURCE_RANGES: only_client}
    if aspect is Aspect.IP_MODE_PROXY:
        made["status"]["loadBalancer"]["ingress"][0]["ipMode"] = "Proxy"
    return made


_HINTS: dict[Aspect, dict[str, JsonObject]] = {
    Aspect.ZONE_HERE: {
        "local": {"forZones": [{"name": "ours"}]},
        "remote": {"forZones": [{"name": "theirs"}]},
    },
    Aspect.ZONE_ELSEWHERE: {
        "local": {"forZones": [{"name": "theirs"}]},
        "remote": {"forZones": [{"name": "ours"}]},
    },
    Aspect.ZONE_PARTLY: {"local": {"forZones": [{"name": "ours"}]}},
    Aspect.NODE_HERE: {
        "local": {"forNodes": [{"name": "n1"}]},
        "remote": {"forNodes": [{"name": "n2"}]},
    },
}
_HINTS[Aspect.LOCAL_AND_ZONE] = _HINTS[Aspect.ZONE_ELSEWHERE]


def aspect_slices(aspect: Aspect, *, family: int = 4) -> list[JsonObject]:
    both = ENDPOINTS[Situation.BOTH]
    made = slices(aspect_service(aspect, family=family), both, family=family)
    for item, pod in zip(made, both, strict=True):
        hints = _HINTS.get(aspect, {}).get(pod)
        if hints:
            item["endpoints"][0]["hints"] = hints
    return made


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
            "addressType": f"IPv{int(family)}",
            "ports": ports,
            "endpoints": [
                {"addresses": [str(pods[pod][1])], "nodeName": pods[pod][0], "conditions": conditions}
            ],
        }
        for pod, conditions in endpoints.items()
    ]


def table(node: NodeFacts, options: ForwardingOptions | None = None) -> ForwardingTable:
    """Of the main table's Services, in the node's family."""
    made = ForwardingTable()
    for policy in Policy:
        for situation in Situation:
            item = service(policy, situation, family=node.family)
            _put(made, item, slices(item, ENDPOINTS[situation], family=node.family), node, options)
    return made


def whole_table(node: NodeFacts, options: ForwardingOptions | None = None) -> ForwardingTable:
    """Of all the suite's Services."""
    made = table(node, options)
    for aspect in Aspect:
        found = aspect_slices(aspect, family=node.family)
        _put(made, aspect_service(aspect, family=node.family), found, node, options)
    return made


def _put(
    made: ForwardingTable,
    item: JsonObject,
    found: list[JsonObject],
    node: NodeFacts,
    options: ForwardingOptions | None,
) -> None:
    built = build_service(item, found, node, options or ForwardingOptions())
    made.replace(NamespacedName.of(item), built)


def frontend(row: Row | AspectRow, *, family: int = 4) -> tuple[IPAddress, int]:
    match row.frontend:
        case FrontendKind.CLUSTER_IP:
            return ip_address(_CLUSTER_IPS[family].format(row.number)), 80
        case FrontendKind.NODE_PORT:
            return PLANS[family].nodes["n1"], 30100 + row.number
        case FrontendKind.EXTERNAL_IP:
            return ip_address(_EXTERNAL_IPS[family].format(row.number)), 80
        case FrontendKind.LOAD_BALANCER_IP:
            return ip_address(_LOAD_BALANCER_IPS[family].format(row.number)), 80


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


def packet(row: Row | AspectRow, protocol: Protocol, *, family: int = 4) -> Packet:
    address, port = frontend(row, family=family)
    return Packet(
        address_of(row.sender, family=family),
        address,
        protocol,
        port,
        from_node=row.sender is Sender.NODE,
        to_node=row.frontend is FrontendKind.NODE_PORT,
    )


def expected_answers(row: Row | AspectRow, *, family: int = 4) -> set[str]:
    """What ``topology.ask`` may return: ``reject``, ``drop``, ``pass``, or pod and the address it sees."""
    if row.expected in ("reject", "drop", "pass"):
        return {row.expected}
    answers = set()
    for cell in row.expected.replace("|", " ").split():
        pod = "local" if cell[0] == "L" else "remote"
        sender = Sender.NODE if cell.endswith("*") else row.sender
        answers.add(f"{pod} {address_of(sender, family=family)}")
    return answers
