"""Bands, claims and reservations."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest

from nodeport.apiserver.allocators.bands import (
    AllocationError,
    AlreadyAllocated,
    Full,
    NotReady,
    OutOfRange,
    band_offset,
)
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator
from nodeport.apiserver.allocators.nodeport import NodePortAllocator
from nodeport.apiserver.allocators.reservation import Reservation
from nodeport.store.base import Delete, Put


@pytest.mark.parametrize(
    ("size", "offset"), [(2768, 86), (1000, 31), (4096, 128), (10000, 128), (16, 0), (17, 16), (1, 0)]
)
def test_the_static_band_of_node_ports(size: int, offset: int) -> None:
    assert band_offset(size, divisor=32, maximum=128) == offset


@pytest.mark.parametrize(
    ("cidr", "first", "last"),
    [
        ("10.0.0.0/24", "10.0.0.17", "10.0.0.254"), ("10.96.0.0/16", "10.96.1.1", "10.96.255.254"),
        ("10.0.0.0/28", "10.0.0.1", "10.0.0.14"), ("10.0.0.0/27", "10.0.0.17", "10.0.0.30"),
        ("10.0.16.0/20", "10.0.17.1", "10.0.31.254"), ("fd00::/112", "fd00::101", "fd00::ffff"),
        ("fd00::/124", "fd00::1", "fd00::f"), ("fd00::/123", "fd00::11", "fd00::1f"),
    ],
)  # fmt: skip
def test_automatic_addresses_fill_the_dynamic_band_first(cidr: str, first: str, last: str) -> None:
    network = ip_network(cidr)
    allocator = ClusterIPAllocator(random.Random(1), [network])
    size = int(ip_address(last)) - int(ip_address(first)) + 1
    found = {allocator.claim_any(network.version) for _ in range(size)}
    assert (str(min(found)), str(max(found)), len(found)) == (first, last, size)


def test_when_the_dynamic_band_is_full_the_static_band_is_used_and_then_nothing() -> None:
    allocator = NodePortAllocator(range(30000, 30020), random.Random(1))
    dynamic = {allocator.claim_any() for _ in range(4)}
    assert dynamic == set(range(30016, 30020))
    assert {allocator.claim_any() for _ in range(16)} == set(range(30000, 30016))
    with pytest.raises(Full, match="range is full"):
        allocator.claim_any()
    allocator.free(30003)
    assert allocator.claim_any() == 30003


def test_random_ports_differ_from_run_to_run() -> None:
    first = [NodePortAllocator(range(30000, 32768), random.Random(seed)).claim_any() for seed in range(20)]
    assert len(set(first)) > 15


def test_claims_are_exact_and_exclusive() -> None:
    allocator = NodePortAllocator(range(30000, 32768), random.Random(1))
    allocator.claim(30007)
    with pytest.raises(AlreadyAllocated, match="provided port is already allocated"):
        allocator.claim(30007)
    for port in (29999, 32768, -1, 0):
        with pytest.raises(OutOfRange, match="The range of valid ports is 30000-32767"):
            allocator.claim(port)
    allocator.free(30007)
    allocator.free(30007)
    allocator.claim(30007)
    assert allocator.allocated == 1


def test_network_and_broadcast_addresses_are_nobodys() -> None:
    allocator = ClusterIPAllocator(random.Random(1), [IPv4Network("10.0.0.0/28")])
    for text in ("10.0.0.0", "10.0.0.15", "10.0.1.1"):
        with pytest.raises(OutOfRange):
            allocator.claim(IPv4Address(text))
        allocator.free(IPv4Address(text))


def test_an_ipv6_range_of_a_whole_link_needs_no_bitmap_of_its_size() -> None:
    allocator = ClusterIPAllocator(random.Random(1), [IPv6Network("fd00::/64")])
    allocator.claim(IPv6Address("fd00::1"))
    allocator.claim(IPv6Address("fd00::ffff:ffff:ffff:ffff"))
    found = {allocator.claim_any(6) for _ in range(1000)}
    assert len(found) == 1000
    assert min(found) > IPv6Address("fd00::100")
    for text in ("fd00::", "fd00:0:0:1::1"):
        with pytest.raises(OutOfRange):
            allocator.claim(IPv6Address(text))


def test_ranges_are_used_one_after_another_and_only_while_they_are_ready() -> None:
    small, large = IPv4Network("10.0.0.0/30"), IPv4Network("10.1.0.0/28")
    allocator = ClusterIPAllocator(random.Random(1), [small, large])
    assert {allocator.claim_any() for _ in range(2)} == {IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")}
    assert allocator.claim_any() in large
    allocator.configure({small: True, large: False})
    with pytest.raises(Full):
        allocator.claim_any()
    with pytest.raises(OutOfRange, match="the provided network does not match the current range"):
        allocator.claim(IPv4Address("10.1.0.9"))
    with pytest.raises(Full):
        allocator.claim_any(6)
    allocator.configure({large: True})
    allocator.claim(
        IPv4Address("10.1.0.9")
        if not allocator.is_taken(IPv4Address("10.1.0.9"))
        else IPv4Address("10.1.0.8")
    )


def test_an_address_in_two_ranges_is_taken_in_both_whichever_came_first() -> None:
    outer, inner = IPv4Network("10.0.0.0/24"), IPv4Network("10.0.0.0/28")
    allocator = ClusterIPAllocator(random.Random(1), [outer])
    allocator.claim(IPv4Address("10.0.0.5"))
    allocator.configure({outer: False, inner: True})
    with pytest.raises(AlreadyAllocated):
        allocator.claim(IPv4Address("10.0.0.5"))
    assert [each.taken.count for each in allocator.ranges] == [1, 1]
    allocator.free(IPv4Address("10.0.0.5"))
    assert [each.taken.count for each in allocator.ranges] == [0, 0]
    allocator.claim(IPv4Address("10.0.0.5"))


def test_what_is_in_doubt_stays_taken_until_it_is_settled() -> None:
    allocator = ClusterIPAllocator(random.Random(1), [IPv4Network("10.0.0.0/28")])
    address = IPv4Address("10.0.0.5")
    allocator.claim(address)
    assert not allocator.settle(address, in_use=False)
    allocator.doubt(address)
    assert allocator.is_taken(address)
    assert allocator.settle(address, in_use=True)
    assert allocator.is_taken(address)
    allocator.doubt(address)
    assert allocator.settle(address, in_use=False)
    assert not allocator.is_taken(address)


def test_a_dry_run_looks_at_the_range_only() -> None:
    allocator = ClusterIPAllocator(random.Random(1), [IPv4Network("10.0.0.0/28")])
    allocator.check(IPv4Address("10.0.0.5"))
    with pytest.raises(
        OutOfRange,
        match=r"the provided IP \(10.1.0.5\) is not in the valid range. The range of valid IPs is 10.0.0.0/28",
    ):
        allocator.check(IPv4Address("10.1.0.5"))
    assert str(allocator.pretend_any(4)) == "10.0.0.0"
    for ask in (lambda: allocator.pretend_any(6), lambda: allocator.check(IPv6Address("fd00::1"))):
        with pytest.raises(NotReady, match="allocator not ready"):
            ask()


def test_allocators_count_what_they_did() -> None:
    ports = NodePortAllocator(range(30000, 30002), random.Random(1))
    for _ in range(2):
        ports.claim_any()
    for attempt in (ports.claim_any, lambda: ports.claim(30000), lambda: ports.claim(1)):
        with pytest.raises(AllocationError):
            attempt()
    found = list(ports.metrics())
    assert "kube_apiserver_nodeport_allocator_allocated_ports 2" in found
    assert "kube_apiserver_nodeport_allocator_available_ports 0" in found
    assert 'kube_apiserver_nodeport_allocator_allocation_total{scope="dynamic"} 2' in found
    assert 'kube_apiserver_nodeport_allocator_allocation_errors_total{scope="dynamic"} 1' in found
    assert 'kube_apiserver_nodeport_allocator_allocation_errors_total{scope="static"} 2' in found
    addresses = ClusterIPAllocator(random.Random(1), [IPv4Network("10.0.0.0/30")])
    addresses.claim(IPv4Address("10.0.0.1"))
    found = list(addresses.metrics())
    assert 'kube_apiserver_clusterip_allocator_available_ips{cidr="10.0.0.0/30"} 1' in found
    assert 'kube_apiserver_clusterip_allocator_allocation_total{cidr="10.0.0.0/30",scope="static"} 1' in found
    took = "kube_apiserver_clusterip_allocator_allocation_duration_seconds"
    assert f'{took}_count{{cidr="10.0.0.0/30"}} 1' in found
    assert f'{took}_bucket{{cidr="10.0.0.0/30",le="+Inf"}} 1' in found


def test_loading_ignores_what_is_out_of_range() -> None:
    ports = NodePortAllocator(range(30000, 30100), random.Random(1))
    ports.load([30001, 30001, 12])
    assert (ports.allocated, ports.is_taken(30001)) == (1, True)
    addresses = ClusterIPAllocator(random.Random(1), [IPv4Network("10.0.0.0/24")])
    assert addresses.mark(IPv4Address("10.0.0.9"))
    assert addresses.mark(IPv4Address("10.1.0.9"))
    assert not addresses.mark(IPv4Address("10.1.0.9"))
    assert [each.taken.count for each in addresses.ranges] == [1]


def test_a_reservation_gives_claims_back_unless_it_is_committed() -> None:
    log: list[str] = []

    def reserve() -> Reservation:
        made = Reservation()
        made.claim("/a", b"n/s", lambda: log.append("claim undone"))
        made.give_back("/b", lambda: log.append("given back"))
        return made

    with reserve() as reservation:
        assert reservation.operations == [Put("/a", b"n/s", expect=0), Delete("/b")]
    assert log == ["claim undone"]
    log.clear()
    with reserve() as reservation:
        reservation.commit()
        reservation.commit()
    assert log == ["given back"]
    log.clear()
    with pytest.raises(RuntimeError), reserve():
        raise RuntimeError
    assert log == ["claim undone"]


def test_a_reservation_that_was_handed_over_is_left_to_its_new_owner() -> None:
    log: list[str] = []
    with Reservation() as reservation:
        reservation.claim("/a", b"n/s", lambda: log.append("undone"))
        reservation.hand_over()
    assert log == []
    reservation.release()
    assert log == ["undone"]
