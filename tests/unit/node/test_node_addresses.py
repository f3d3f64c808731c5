from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest

from nodeport.node.addresses import (
    FABRICS,
    POD_NETWORKS,
    AddressesExhausted,
    ClusterPlan,
    PodAddresses,
    free_fabric,
    free_pod_network,
    most_nodes,
    overlap,
)

CIDR, CIDR6 = IPv4Network("10.244.1.0/24"), IPv6Network("fd00:10:244:1::/64")


def test_the_first_free_subnet_is_taken_whatever_the_default_route_says() -> None:
    taken = [IPv4Network("0.0.0.0/0"), IPv4Network("172.30.0.0/22"), IPv4Network("172.30.5.1/32")]
    assert free_fabric(taken) == IPv4Network("172.30.8.0/22")
    assert free_pod_network([IPv4Network("10.244.7.0/24")]) == IPv4Network("10.245.0.0/16")


def test_subnets_of_one_family_are_in_the_way_of_that_family_only() -> None:
    taken = list(
        map(ip_network, ("::/0", "10.244.0.0/16", "fd00:172:30::/64", "fd00:10:244:7::/64", "fd00::/64"))
    )
    assert free_fabric(taken, 6) == IPv6Network("fd00:172:30:1::/64")
    assert free_pod_network(taken, 6) == IPv6Network("fd00:10:245::/56")
    assert free_fabric(taken, 4) == IPv4Network("172.30.0.0/22")


def test_no_free_subnet_is_an_error_that_names_the_range() -> None:
    with pytest.raises(
        AddressesExhausted, match=r"no free subnet for the nodes: all of 172\.30\.0\.0/22 to 172"
    ):
        free_fabric([IPv4Network("172.16.0.0/12")])
    with pytest.raises(
        AddressesExhausted, match=r"for the pods: all of fd00:10:244::/56 to fd00:10:243::/56"
    ):
        free_pod_network([IPv6Network("fd00::/8")], 6)


def test_networks_that_are_given_out_are_private_and_apart() -> None:
    for version in (4, 6):
        for known in (FABRICS[version], POD_NETWORKS[version]):
            assert all(network.is_private for network in known)
            assert not any(overlap(one, other) for one in known for other in known if one is not other)
    services = IPv6Network("fd00:10:96::/112")
    assert not any(overlap(services, network) for network in (*POD_NETWORKS[6], *FABRICS[6]))


def test_nodes_follow_from_the_plan() -> None:
    plan = ClusterPlan("x", (IPv4Network("172.30.4.0/22"),), (IPv4Network("10.244.0.0/16"),), 2)
    assert plan.hosts == (IPv4Address("172.30.4.1"),)
    assert [(node.name, *map(str, (*node.addresses, *node.pod_cidrs))) for node in plan.nodes] == [
        ("node-1", "172.30.4.11", "10.244.1.0/24"), ("node-2", "172.30.4.12", "10.244.2.0/24"),
    ]  # fmt: skip
    with pytest.raises(AddressesExhausted, match="at most 255 nodes"):
        plan.node(most_nodes() + 1)


@pytest.mark.parametrize("versions", [(4,), (6,), (4, 6), (6, 4)])
def test_every_node_has_an_address_and_a_pod_network_of_each_family(versions: tuple[int, ...]) -> None:
    fabrics = tuple(free_fabric([], version) for version in versions)
    plan = ClusterPlan("x", fabrics, tuple(free_pod_network([], version) for version in versions), 2)
    assert (plan.versions, plan.host.version) == (versions, versions[0])
    for node in (plan.node(1), plan.node(most_nodes())):
        assert [address.version for address in node.addresses] == list(versions)
        for address, fabric in zip(node.addresses, plan.fabrics, strict=True):
            assert address in fabric
        for cidr, pods in zip(node.pod_cidrs, plan.pods, strict=True):
            assert cidr.subnet_of(pods)  # type: ignore[arg-type]
    by_version = {cidr.version: str(cidr) for cidr in plan.node(200).pod_cidrs}
    assert by_version.get(6, "fd00:10:244:c8::/64") == "fd00:10:244:c8::/64"
    assert by_version.get(4, "10.244.200.0/24") == "10.244.200.0/24"


def test_a_plan_whose_networks_do_not_fit_is_none() -> None:
    with pytest.raises(ValueError, match="not of the same families"):
        ClusterPlan("x", (FABRICS[4][0], FABRICS[6][0]), (POD_NETWORKS[4][0],), 1)


def test_pod_addresses_are_unique_and_a_released_one_comes_back_last() -> None:
    pods = PodAddresses([CIDR])
    first = pods.take("a")
    assert first == (IPv4Address("10.244.1.2"),)
    assert pods.take("a") == first
    pods.release("a")
    later = [pods.take(f"p{number}") for number in range(253)]
    assert len(set(later)) == 253
    assert later[-1] == first
    assert (IPv4Address("10.244.1.255"),) not in later
    with pytest.raises(
        AddressesExhausted, match=r"no free pod address in 10\.244\.1\.0/24: all 253 are taken"
    ):
        pods.take("one too many")


def test_a_pod_has_an_address_of_each_network_or_none_at_all() -> None:
    small = IPv4Network("10.244.1.0/30")
    pods = PodAddresses([CIDR6, small])
    assert pods.take("a") == (IPv6Address("fd00:10:244:1::2"), IPv4Address("10.244.1.2"))
    with pytest.raises(AddressesExhausted, match=r"10\.244\.1\.0/30: all 1 are taken"):
        pods.take("b")
    pods.release("a")
    assert pods.take("c") == (IPv6Address("fd00:10:244:1::4"), IPv4Address("10.244.1.2"))
    assert pods.adopt([CIDR6[3]], "d"), "what could not be given whole is free again"


def test_an_adopted_address_is_held_by_one_pod_only() -> None:
    pods = PodAddresses([CIDR])
    assert pods.adopt([CIDR[7]], "a")
    assert pods.adopt([CIDR[7]], "a")
    assert not pods.adopt([CIDR[7]], "b")
    assert pods.take("c") == (CIDR[8],)
    pods.release("b")
    assert not pods.adopt([CIDR[7]], "d")


def test_addresses_are_adopted_together_or_not_at_all() -> None:
    pods = PodAddresses([CIDR, CIDR6])
    assert pods.adopt([CIDR[7], CIDR6[9]], "a")
    for known in ([CIDR[8], CIDR6[9]], [CIDR[8], ip_address("fd00::9")]):
        assert not pods.adopt(known, "b")
    assert not pods.adopt([CIDR[8], CIDR6[8]], "a"), "it has others"
    assert pods.adopt([CIDR[8]], "b"), "of a node that had one family only"
    assert pods.take("b") == (CIDR[8], CIDR6[10])
    assert pods.take("a") == (CIDR[7], CIDR6[9])
