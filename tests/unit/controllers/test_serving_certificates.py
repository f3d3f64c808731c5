"""Which server certificates a node gets without anybody being asked."""

from __future__ import annotations

import pytest

from nodeport.api.certificates import KUBELET_SERVING, Wanted
from nodeport.api.meta import JsonObject
from nodeport.controllers.certificates.reconcile import asks_for_own_server, serving_fault

USAGES = ["digital signature", "server auth"]


def node(name: str, *addresses: str) -> JsonObject:
    listed = [{"type": "InternalIP", "address": each} for each in addresses]
    return {
        "metadata": {"name": name},
        "status": {"addresses": [*listed, {"type": "Hostname", "address": name}]},
    }


def wanted(*addresses: str, dns: tuple[str, ...] = ("m1",), name: str = "m1") -> Wanted:
    return Wanted(f"system:node:{name}", ("system:nodes",), dns, addresses)


NODES = [
    node("m1", "10.0.0.1", "fd00::1", "10.0.0.9", "127.0.0.1", "10.0.0.100"),
    node("m2", "10.0.0.2", "10.0.0.9"),
]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (wanted("10.0.0.1", "fd00::1"), ""),
        (wanted(), ""),
        (wanted("10.0.0.2"), "10.0.0.2 is no address of node m1"),
        (wanted("10.0.0.9"), "10.0.0.9 is an address of node m2 too"),
        (wanted("127.0.0.1"), "127.0.0.1 is no address by which a machine is reached"),
        (wanted("10.0.0.100"), "10.0.0.100 is where the API is served"),
        (wanted(dns=("m2",)), "m2 is no address of node m1"),
        (wanted(dns=("kubernetes.default.svc",)), "kubernetes.default.svc is no address of node m1"),
        (wanted(name="m3"), "there is no node m3"),
    ],
)
def test_a_node_gets_one_for_addresses_that_are_its_alone(asked: Wanted, why: str) -> None:
    assert serving_fault(asked, NODES, {"10.0.0.100"}) == why


@pytest.mark.parametrize(
    ("spec", "is_own"),
    [
        ({}, True),
        ({"username": "system:node:m2"}, False),
        ({"groups": ["system:authenticated"]}, False),
        ({"usages": ["digital signature", "client auth"]}, False),
        ({"signerName": "example.com/mine"}, False),
    ],
)
def test_only_the_node_itself_asks_for_its_server(spec: JsonObject, is_own: bool) -> None:
    request = {"spec": {
        "signerName": KUBELET_SERVING, "username": "system:node:m1", "groups": ["system:nodes"], "usages": USAGES,
        **spec,
    }}  # fmt: skip
    assert asks_for_own_server(request, wanted("10.0.0.1")) is is_own
