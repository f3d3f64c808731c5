from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from nodeport.api.meta import JsonObject
from nodeport.netlink.conntrack import Entry, Tuple
from nodeport.netlink.nftables.objects import MessageType
from nodeport.node.hostportrules import HostPort, Target, requests
from nodeport.node.hostports import stale, wanted_by

POD, POD6 = IPv4Address("10.244.1.2"), IPv6Address("fd00::2")
NODE, OTHER = IPv4Address("172.30.0.11"), IPv4Address("172.30.0.12")
EVERYWHERE, EVERYWHERE6 = IPv4Address(0), IPv6Address(0)
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
        [POD],
    )
    assert found == {
        HostPort(EVERYWHERE, TCP, 8080): Target(POD, 80),
        HostPort(NODE, UDP, 5353): Target(POD, 53),
    }


def test_a_host_port_is_at_the_addresses_of_each_family_that_the_pod_has() -> None:
    ports = pod({"containerPort": 80, "hostPort": 8080})
    assert wanted_by(ports, [POD, POD6]) == {
        HostPort(EVERYWHERE, TCP, 8080): Target(POD, 80),
        HostPort(EVERYWHERE6, TCP, 8080): Target(POD6, 80),
    }
    only = pod({"containerPort": 80, "hostPort": 8080, "hostIP": "fd00::1"})
    assert wanted_by(only, [POD, POD6]) == {HostPort(IPv6Address("fd00::1"), TCP, 8080): Target(POD6, 80)}
    assert wanted_by(only, [POD]) == {}


def test_on_the_nodes_network_there_is_nothing_to_translate() -> None:
    assert wanted_by(pod({"containerPort": 80, "hostPort": 80}, hostNetwork=True), [POD]) == {}


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE, TCP, 80), True),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(POD, TCP, 80), True),
        (HostPort(POD, TCP, 80), HostPort(EVERYWHERE, TCP, 80), True),
        (HostPort(POD, TCP, 80), HostPort(NODE, TCP, 80), False),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE, UDP, 80), False),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE, TCP, 81), False),
        (HostPort(EVERYWHERE, TCP, 80), HostPort(EVERYWHERE6, TCP, 80), False),
        (HostPort(EVERYWHERE6, TCP, 80), HostPort(POD6, TCP, 80), True),
    ],
)
def test_an_address_and_all_addresses_of_its_family_are_the_same_port(
    one: HostPort, other: HostPort, overlap: bool
) -> None:
    assert one.overlaps(other) is overlap


def test_without_ports_no_table_is_left() -> None:
    nothing = [MessageType.NEWTABLE, MessageType.DELTABLE]
    assert [kind for kind, _, _ in requests({})] == nothing * 2
    full = [kind for kind, _, _ in requests({HostPort(EVERYWHERE, TCP, 80): Target(POD, 80)})]
    assert full[:3] == [*nothing, MessageType.NEWTABLE]
    assert full[-2:] == nothing
    assert str(HostPort(EVERYWHERE, UDP, 53)) == "0.0.0.0:53/UDP"
    assert str(HostPort(EVERYWHERE6, UDP, 53)) == "[::]:53/UDP"


def flow(destination: str, served_by: str, port: int = 53) -> Entry:
    asked = Tuple(OTHER, ip_address(destination), UDP, 4000, 5353)
    return Entry(asked, Tuple(ip_address(served_by), OTHER, UDP, port, 4000), b"")


def test_flows_that_lead_elsewhere_than_a_changed_port_are_stale() -> None:
    before, now = Target(POD, 53), Target(IPv4Address("10.244.1.3"), 53)
    old = flow("172.30.0.11", "10.244.1.2")
    untranslated = flow("172.30.0.11", "172.30.0.11", 5353)
    passing = flow("172.30.0.12", "172.30.0.12", 5353)
    right = flow("172.30.0.11", "10.244.1.3")
    entries = [old, untranslated, passing, right]
    assert list(stale(entries, {NODE}, before, now)) == [old, untranslated]
    assert list(stale(entries, {NODE}, None, now)) == [old, untranslated]
    assert list(stale(entries, {NODE}, before, None)) == [old]
