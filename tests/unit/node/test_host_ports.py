from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from nodeport.api.meta import JsonObject
from nodeport.netlink.nftables.objects import MessageType
from nodeport.node import hostports
from nodeport.node.hostports import EVERYWHERE, HostPort, Target, requests, wanted_by

POD = IPv4Address("10.244.1.2")
TCP, UDP = 6, 17


def pod(*ports: JsonObject, **spec: object) -> JsonObject:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "ports": list(ports)}], **spec}}


def test_a_pod_asks_for_the_ports_that_name_one_of_the_host() -> None:
    found = wanted_by(
        pod(
            {"containerPort": 80, "hostPort": 8080, "protocol": "TCP"},
            {"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "172.30.0.11"},
            {"containerPort": 9, "protocol": "TCP"},
        ),
        POD,
    )
    assert found == {
        HostPort(EVERYWHERE, TCP, 8080): Target(POD, 80),
        HostPort(IPv4Address("172.30.0.11"), UDP, 5353): Target(POD, 53),
    }


def test_on_the_nodes_network_there_is_nothing_to_translate() -> None:
    assert wanted_by(pod({"containerPort": 80, "hostPort": 80}, hostNetwork=True), POD) == {}


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE, TCP, 80), True),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(POD, TCP, 80), True),
        (HostPort(POD, TCP, 80), HostPort(EVERYWHERE, TCP, 80), True),
        (HostPort(POD, TCP, 80), HostPort(IPv4Address("1.1.1.1"), TCP, 80), False),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE, UDP, 80), False),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE, TCP, 81), False),
    ],
)
def test_an_address_and_all_addresses_are_the_same_port(
    one: HostPort, other: HostPort, overlap: bool
) -> None:
    assert one.overlaps(other) is overlap


def test_without_ports_no_table_is_left() -> None:
    assert [kind for kind, _, _ in requests({})] == [MessageType.NEWTABLE, MessageType.DELTABLE]
    full = [kind for kind, _, _ in requests({HostPort(EVERYWHERE, TCP, 80): Target(POD, 80)})]
    assert full[:3] == [MessageType.NEWTABLE, MessageType.DELTABLE, MessageType.NEWTABLE]
    assert str(HostPort(EVERYWHERE, UDP, 53)) == "0.0.0.0:53/UDP"
    assert hostports.TABLE.name == "nodeport-hostports"
