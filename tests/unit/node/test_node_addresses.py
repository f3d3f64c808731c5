from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from nodeport.node.addresses import (
    AddressesExhausted,
    ClusterPlan,
    PodAddresses,
    free_fabric,
    free_pod_network,
    most_nodes,
)

CIDR = IPv4Network("10.244.1.0/24")


def test_the_first_free_subnet_is_taken_whatever_the_default_route_says() -> None:
    taken = [IPv4Network("0.0.0.0/0"), IPv4Network("172.30.0.0/22"), IPv4Network("172.30.5.1/32")]
    assert free_fabric(taken) == IPv4Network("172.30.8.0/22")
    assert free_pod_network([IPv4Network("10.244.7.0/24")]) == IPv4Network("10.245.0.0/16")


def test_no_free_subnet_is_an_error_that_names_the_range() -> None:
    with pytest.raises(
        AddressesExhausted, match=r"no free subnet for the nodes: all of 172\.30\.0\.0/22 to 172"
    ):
        free_fabric([IPv4Network("172.16.0.0/12")])


def test_nodes_follow_from_the_plan() -> None:
    plan = ClusterPlan("x", IPv4Network("172.30.4.0/22"), IPv4Network("10.244.0.0/16"), 2)
    assert plan.host == IPv4Address("172.30.4.1")
    assert [(node.name, str(node.address), str(node.pod_cidr)) for node in plan.nodes] == [
        ("node-1", "172.30.4.11", "10.244.1.0/24"), ("node-2", "172.30.4.12", "10.244.2.0/24"),
    ]  # fmt: skip
    last = plan.node(most_nodes())
    assert last.address in plan.fabric
    assert last.pod_cidr.subnet_of(plan.pods)
    with pytest.raises(AddressesExhausted, match="at most 255 nodes"):
        plan.node(most_nodes() + 1)


def test_pod_addresses_are_unique_and_a_released_one_comes_back_last() -> None:
    pods = PodAddresses(CIDR)
    first = pods.take("a")
    assert first == IPv4Address("10.244.1.2")
    pods.release(first, "a")
    later = [pods.take(f"p{number}") for number in range(253)]
    assert len(set(later)) == 253
    assert later[-1] == first
    assert IPv4Address("10.244.1.255") not in later
    with pytest.raises(
        AddressesExhausted, match=r"no free pod address in 10\.244\.1\.0/24: all 253 are taken"
    ):
        pods.take("one too many")


def test_an_adopted_address_is_held_by_one_pod_only() -> None:
    pods = PodAddresses(CIDR)
    assert pods.adopt(CIDR[7], "a")
    assert pods.adopt(CIDR[7], "a")
    assert not pods.adopt(CIDR[7], "b")
    assert pods.take("c") == CIDR[8]
    pods.release(CIDR[7], "b")
    assert not pods.adopt(CIDR[7], "d")
