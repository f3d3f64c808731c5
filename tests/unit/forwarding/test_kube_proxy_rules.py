"""kube-proxy's rules, row by row: which endpoints a sender may be sent to, and whether he is masqueraded.

Each row says the rule it obeys, what the Service asks for, which endpoints there are, and what comes of it for a pod of
this node, the node itself and somebody from outside. Endpoints: ``l`` on this node, ``r`` on another one in this zone,
``f`` far away in another zone; behind it ``-`` not ready, ``~`` terminating but serving, ``!`` terminating and no
longer serving. A star: masqueraded.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.decide import Packet, decide
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable, NodeFacts, Protocol, Verdict

NODE_ADDRESS = IPv4Address("172.30.0.11")
NODE = NodeFacts(
    "n1",
    (NODE_ADDRESS,),
    (IPv4Network("10.244.1.0/24"),),
    (IPv4Network("172.30.0.11/32"),),
    zone="east",
)
UNTOLD = NodeFacts("n1", (NODE_ADDRESS,), (), NODE.nodeport_networks, zone="east")
"""A node that cannot tell its pods from others."""
SENDERS = {
    "pod": (IPv4Address("10.244.1.99"), False),
    "node": (NODE_ADDRESS, True),
    "outside": (IPv4Address("198.51.100.7"), False),
}
ENDPOINTS = {"l": "10.244.1.2", "r": "10.244.2.2", "f": "10.244.3.2"}
NODES = {"l": ("n1", "east"), "r": ("n2", "east"), "f": ("n3", "west")}
CONDITIONS: dict[str, JsonObject] = {
    "": {"ready": True},
    "-": {"ready": False, "serving": False},
    "~": {"ready": False, "serving": True, "terminating": True},
    "!": {"ready": False, "serving": False, "terminating": True},
}
LOCAL = {"externalTrafficPolicy": "Local"}
INTERNAL = {"internalTrafficPolicy": "Local"}
ZONES = {"zones": True}
OWN_NODE = {"zones": True, "nodes": True}

ROWS: list[tuple[str, str, dict[str, Any], str, str, str, str]] = [
    # rule, frontend, what the Service (and its slices) say, endpoints, pod, node, outside
    ("all ready endpoints are used", "ClusterIP", {}, "l r f", "l r f", "l r* f*", "l r* f*"),
    ("those that are not ready are not", "ClusterIP", {}, "l- r f!", "r", "r*", "r*"),
    ("terminating ones while nothing is ready", "ClusterIP", {}, "l~ r~ f!", "l r", "l r*", "l r*"),
    ("one ready endpoint ends that", "ClusterIP", {}, "l~ r~ f", "f", "f*", "f*"),
    ("nothing that serves: reject", "ClusterIP", {}, "l- r!", "reject", "reject", "reject"),
    ("no endpoint: reject", "ClusterIP", {}, "", "reject", "reject", "reject"),
    ("internal Local: this node's", "ClusterIP", INTERNAL, "l r", "l", "l", "l"),
    ("internal Local, none here: drop", "ClusterIP", INTERNAL, "r f", "drop", "drop", "drop"),
    ("internal Local, none anywhere: reject", "ClusterIP", INTERNAL, "r-", "reject", "reject", "reject"),
    ("internal Local, terminating here", "ClusterIP", INTERNAL, "l~ r", "l", "l", "l"),
    ("internal Local leaves NodePorts alone", "NodePort", INTERNAL, "l r", "l r*", "l r*", "l r*"),
    ("external Local leaves ClusterIPs alone", "ClusterIP", LOCAL, "l r", "l r", "l r*", "l r*"),
    ("NodePort: all, masqueraded", "NodePort", {}, "l r f", "l r* f*", "l r* f*", "l r* f*"),
    ("external Local: outsiders to this node's", "NodePort", LOCAL, "l r", "l r", "l r*", "l"),
    ("external Local, none here: drop", "NodePort", LOCAL, "r f", "r f", "r* f*", "drop"),
    ("external Local, terminating here", "NodePort", LOCAL, "l~ r", "r", "r*", "l"),
    ("external Local, dying here: drop", "NodePort", LOCAL, "l! r", "r", "r*", "drop"),
    ("external Local, none anywhere: reject", "NodePort", LOCAL, "l! r-", "reject", "reject", "reject"),
    ("short circuit: external IPs too", "ExternalIP", LOCAL, "l r", "l r", "l r*", "l"),
    ("short circuit: VIPs too", "VIP", LOCAL, "l r", "l r", "l r*", "l"),
    ("zones: this node's zone", "ClusterIP", ZONES, "l r f", "l r", "l r*", "l r*"),
    ("zones: nobody ready in it, so all", "ClusterIP", ZONES, "l- f", "f", "f*", "f*"),
    (
        "zones: one ready without a hint, so all",
        "ClusterIP",
        {"zones": "l"},
        "l r f",
        "l r f",
        "l r* f*",
        "l r* f*",
    ),
    ("zones: the unready need no hint", "ClusterIP", {"zones": "lf"}, "l r- f", "l", "l", "l"),
    ("nodes: this node's", "ClusterIP", OWN_NODE, "l r f", "l", "l", "l"),
    ("nodes: none here, so the zone", "ClusterIP", OWN_NODE, "r f", "r", "r*", "r*"),
    ("hints narrow NodePorts too", "NodePort", ZONES, "l r f", "l r*", "l r*", "l r*"),
    (
        "Local takes no notice of hints",
        "NodePort",
        {**LOCAL, "zones": True, "west": "l"},
        "l f",
        "l f",
        "l f*",
        "l",
    ),
    ("not ready but published: ready", "ClusterIP", {"published": True}, "l- r", "l r", "l r*", "l r*"),
]
WITHOUT_DETECTION = [
    ("nobody is known as a pod: ClusterIPs keep addresses", "ClusterIP", {}, "l r", "l r", "l r", "l r"),
    ("and pods have no short circuit", "NodePort", LOCAL, "l r", "l", "l r*", "l"),
]


def endpoint(word: str, asked: dict[str, Any]) -> JsonObject:
    name, condition = word[0], word[1:]
    node, zone = NODES[name]
    zone = "west" if name in asked.get("west", "") else zone
    found: JsonObject = {
        "addresses": [ENDPOINTS[name]],
        "nodeName": node,
        "conditions": {"ready": True} if asked.get("published") else CONDITIONS[condition],
    }
    hinted = asked.get("zones")
    if hinted is True or (hinted and name in hinted):
        found["hints"] = {"forZones": [{"name": zone}]}
        if asked.get("nodes"):
            found["hints"]["forNodes"] = [{"name": node}]
    return found


def outcome(node: NodeFacts, frontend: str, asked: dict[str, Any], endpoints: str, sender: str) -> str:
    """What the oracle says, in the words of the rows."""
    spec = {key: value for key, value in asked.items() if key.endswith("Policy")}
    service = {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "externalIPs": ["192.0.2.1"],
            "ports": [{"port": 80, "nodePort": 30007}],
            **spec,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}},
    }
    found = {
        "metadata": {},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [endpoint(word, asked) for word in endpoints.split()],
    }
    table = ForwardingTable()
    table.replace(NamespacedName.of(service), build_service(service, [found], node, ForwardingOptions()))
    places = {
        "ClusterIP": ("10.96.0.10", 80),
        "NodePort": (str(NODE_ADDRESS), 30007),
        "ExternalIP": ("192.0.2.1", 80),
        "VIP": ("192.0.2.9", 80),
    }
    address, port = places[frontend]
    source, from_node = SENDERS[sender]
    to_node = frontend == "NodePort"
    packet = Packet(source, ip_address(address), Protocol.TCP, port, from_node=from_node, to_node=to_node)
    decision = decide(table.items(), node, packet)
    if decision.verdict is not Verdict.FORWARD:
        return decision.verdict.value
    names = {address: name for name, address in ENDPOINTS.items()}
    words = {names[str(item.endpoint.address)] + "*" * item.masquerade for item in decision.outcomes}
    return " ".join(sorted(words, key=lambda word: list(ENDPOINTS).index(word[0])))


@pytest.mark.parametrize(
    ("rule", "frontend", "asked", "endpoints", "pod", "node", "outside"),
    ROWS,
    ids=lambda cell: str(cell)[:40],
)
def test_the_rule_holds(
    rule: str, frontend: str, asked: dict[str, Any], endpoints: str, pod: str, node: str, outside: str
) -> None:
    found = {sender: outcome(NODE, frontend, asked, endpoints, sender) for sender in SENDERS}
    assert found == {"pod": pod, "node": node, "outside": outside}, rule


@pytest.mark.parametrize(
    ("rule", "frontend", "asked", "endpoints", "pod", "node", "outside"),
    WITHOUT_DETECTION,
    ids=lambda cell: str(cell)[:40],
)
def test_the_rule_holds_where_pods_cannot_be_told(
    rule: str, frontend: str, asked: dict[str, Any], endpoints: str, pod: str, node: str, outside: str
) -> None:
    found = {sender: outcome(UNTOLD, frontend, asked, endpoints, sender) for sender in SENDERS}
    assert found == {"pod": pod, "node": node, "outside": outside}, rule
