"""Bands, claims and reservations."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network

import pytest

from nodeport.apiserver.allocators.bands import AlreadyAllocated, Full, OutOfRange, band_offset
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
    ],
)  # fmt: skip
def test_automatic_addresses_fill_the_dynamic_band_first(cidr: str, first: str, last: str) -> None:
    allocator = ClusterIPAllocator(IPv4Network(cidr), random.Random(1))
    size = int(IPv4Address(last)) - int(IPv4Address(first)) + 1
    found = {allocator.claim_any() for _ in range(size)}
    assert (min(found), max(found), len(found)) == (IPv4Address(first), IPv4Address(last), size)


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
    allocator = ClusterIPAllocator(IPv4Network("10.0.0.0/28"), random.Random(1))
    for text in ("10.0.0.0", "10.0.0.15", "10.0.1.1"):
        with pytest.raises(OutOfRange):
            allocator.claim(IPv4Address(text))
        allocator.free(IPv4Address(text))


def test_loading_ignores_what_is_out_of_range() -> None:
    ports = NodePortAllocator(range(30000, 30100), random.Random(1))
    ports.load([30001, 30001, 12])
    assert (ports.allocated, ports.is_taken(30001)) == (1, True)
    addresses = ClusterIPAllocator(IPv4Network("10.0.0.0/24"), random.Random(1))
    addresses.load(["10.0.0.9", "10.1.0.9", "nonsense"])
    assert addresses.allocated == 1


def test_a_reservation_gives_claims_back_unless_it_is_committed() -> None:
    log: list[str] = []

    def reserve() -> Reservation:
        made = Reservation()
        made.claim("/a", "n/s", lambda: log.append("claim undone"))
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
        reservation.claim("/a", "n/s", lambda: log.append("undone"))
        reservation.hand_over()
    assert log == []
    reservation.release()
    assert log == ["undone"]
