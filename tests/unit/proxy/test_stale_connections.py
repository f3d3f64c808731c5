"""Which tracked UDP connections are forgotten: exactly those, and no other."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.table import (
    Change,
    ClusterIP,
    Endpoint,
    Forwarding,
    NodeFacts,
    NodePort,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)
from nodeport.netlink.conntrack import Asked, Entry, Tuple
from nodeport.proxy.conntrack import Stale, concerns_udp

NODE = NodeFacts("n1", (IPv4Address("172.30.0.11"),))
CLIENT = IPv4Address("198.51.100.7")
VIP, NODE_IP, ELSEWHERE = IPv4Address("10.96.0.10"), NODE.addresses[0], IPv4Address("203.0.113.9")
OLD, NEW, OTHER = (IPv4Address(f"10.244.1.{number}") for number in (2, 3, 4))
NAME = ServicePortName(NamespacedName("default", "dns"), "", Protocol.UDP)
NOWHERE = Route(Verdict.REJECT)


def forwarding(*serving: IPv4Address, node_port: bool = True) -> Forwarding:
    frontends = (ClusterIP(VIP, 53), *((NodePort(30053),) if node_port else ()))
    routes = Routes(NOWHERE, NOWHERE, NOWHERE)
    return Forwarding(
        frontends, routes, routes, tuple(Endpoint.of(address, 5353, is_local=False) for address in serving)
    )


def entry(destination: IPv4Address, port: int, served_by: IPv4Address, served_port: int = 5353) -> Entry:
    original = Tuple(CLIENT, destination, 17, 4000, port)
    return Entry(original, Tuple(served_by, CLIENT, 17, served_port, 4000), b"")


def is_stale(item: Entry, old: Forwarding | None, new: Forwarding | None) -> bool:
    return list(Stale([Change(NAME, old, new)], NODE.addresses).entries([item])) == [item]


@pytest.mark.parametrize(
    ("destination", "port"), [(VIP, 53), (NODE_IP, 30053)], ids=["ClusterIP", "NodePort"]
)
class TestFrontend:
    def test_an_endpoint_that_went_away_is_forgotten(self, destination: IPv4Address, port: int) -> None:
        assert is_stale(entry(destination, port, OLD), forwarding(OLD), forwarding(NEW))

    def test_an_endpoint_that_still_serves_is_kept(self, destination: IPv4Address, port: int) -> None:
        assert not is_stale(entry(destination, port, OLD), forwarding(OLD), forwarding(OLD, NEW))

    def test_a_path_from_before_the_service_is_forgotten(self, destination: IPv4Address, port: int) -> None:
        assert is_stale(entry(destination, port, destination, port), None, forwarding(NEW))

    def test_the_last_endpoint_is_forgotten_too(self, destination: IPv4Address, port: int) -> None:
        assert is_stale(entry(destination, port, OLD), forwarding(OLD), forwarding())

    def test_what_a_deleted_service_translated_is_forgotten(
        self, destination: IPv4Address, port: int
    ) -> None:
        assert is_stale(entry(destination, port, OLD), forwarding(OLD), None)
        assert not is_stale(entry(destination, port, OTHER), forwarding(OLD), None)

    def test_another_port_is_not_ours(self, destination: IPv4Address, port: int) -> None:
        assert not is_stale(entry(destination, port + 1, OLD), forwarding(OLD), forwarding(NEW))


def test_a_node_port_on_somebody_elses_address_is_not_ours() -> None:
    passing = entry(ELSEWHERE, 30053, ELSEWHERE, 30053)
    assert not is_stale(passing, None, forwarding(NEW))
    translated_by_others = entry(ELSEWHERE, 30053, OTHER)
    assert not is_stale(translated_by_others, forwarding(OLD), forwarding(NEW))
    ours_on_a_second_address = entry(ELSEWHERE, 30053, OLD)
    assert is_stale(ours_on_a_second_address, forwarding(OLD), forwarding(NEW))


def test_a_frontend_that_goes_takes_its_connections_with_it() -> None:
    old, new = forwarding(OLD), forwarding(OLD, node_port=False)
    assert is_stale(entry(NODE_IP, 30053, OLD), old, new)
    assert not is_stale(entry(VIP, 53, OLD), old, new)


def test_only_changes_of_udp_endpoints_or_frontends_are_worth_a_look() -> None:
    tcp = ServicePortName(NAME.service, "", Protocol.TCP)
    assert not concerns_udp(Change(tcp, None, forwarding(NEW)))
    assert not concerns_udp(Change(NAME, forwarding(NEW), forwarding(NEW)))
    assert concerns_udp(Change(NAME, forwarding(OLD), forwarding(NEW)))
    assert concerns_udp(Change(NAME, forwarding(OLD), forwarding(OLD, node_port=False)))


def test_a_frontend_that_changes_hands_is_judged_by_its_new_owner_in_either_order() -> None:
    other = ServicePortName(NamespacedName("default", "other"), "", Protocol.UDP)
    lost, won = Change(NAME, forwarding(OLD), None), Change(other, None, forwarding(NEW))
    for changes in ([lost, won], [won, lost]):
        stale = Stale(changes, NODE.addresses)
        kept, old, never_translated = (
            entry(NODE_IP, 30053, served, port)
            for served, port in ((NEW, 5353), (OLD, 5353), (NODE_IP, 30053))
        )
        assert list(stale.entries([kept, old, never_translated])) == [old, never_translated]


def test_few_frontends_are_listed_one_by_one_and_many_at_once() -> None:
    one = Stale([Change(NAME, None, forwarding(NEW))], NODE.addresses)
    assert one.asked() == [Asked(17, VIP, 53), Asked(17, port=30053)]
    names = [
        ServicePortName(NamespacedName("default", f"s{number}"), "", Protocol.UDP) for number in range(40)
    ]
    frontends = [ClusterIP(VIP + number, 53) for number in range(40)]
    routes = Routes(NOWHERE, NOWHERE, NOWHERE)
    changes = [
        Change(name, None, Forwarding((frontend,), routes, routes))
        for name, frontend in zip(names, frontends, strict=True)
    ]
    assert Stale(changes, ()).asked() == [Asked(17)]
