"""Which changes may be committed one after the other, and which only together."""

from __future__ import annotations

from ipaddress import IPv4Address

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.table import (
    Change,
    ClusterIP,
    ExternalIP,
    Forwarding,
    Frontend,
    LoadBalancerIP,
    NodePort,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)
from nodeport.proxy.portions import halves

NOWHERE = Routes(*[Route(Verdict.REJECT)] * 3)
SHARED = IPv4Address("192.0.2.1")


def change(service: str, old: list[Frontend] | None, new: list[Frontend] | None, port: str = "") -> Change:
    name = ServicePortName(NamespacedName("default", service), port, Protocol.TCP)
    before, after = (
        None if frontends is None else Forwarding(tuple(frontends), NOWHERE, NOWHERE)
        for frontends in (old, new)
    )
    return Change(name, before, after)


def cluster_ip(number: int) -> ClusterIP:
    return ClusterIP(IPv4Address(f"10.96.0.{number}"), 80)


def test_changes_that_share_nothing_are_halved() -> None:
    changes = [change(f"s{number}", None, [cluster_ip(number)]) for number in range(1, 6)]
    first, second = halves(changes)
    assert [*first, *second] == changes
    assert len(first) == 2


def test_the_ports_of_one_service_stay_together() -> None:
    changes = [change("s", None, [cluster_ip(number)], port=str(number)) for number in range(1, 5)]
    assert halves(changes) == (changes, [])


def test_a_frontend_that_changes_hands_does_so_in_one_step() -> None:
    taken, given = change("a", [ExternalIP(SHARED, 80)], []), change("b", None, [LoadBalancerIP(SHARED, 80)])
    other = change("c", None, [cluster_ip(1)])
    for order in ([taken, other, given], [given, other, taken], [other, taken, given]):
        first, second = halves(order)
        assert {len(first), len(second)} == {1, 2}
        assert [other] in (first, second)


def test_what_is_joined_by_a_third_stays_together() -> None:
    changes = [
        change("a", [NodePort(30001)], None),
        change("b", [NodePort(30002)], None),
        change("c", None, [NodePort(30001), NodePort(30002)]),
    ]
    first, second = halves(changes)
    assert sorted(item.name.service.name for item in first) == ["a", "b", "c"]
    assert second == []


def test_a_single_change_cannot_be_halved() -> None:
    only = [change("a", None, [cluster_ip(1)])]
    assert halves(only) == (only, [])
