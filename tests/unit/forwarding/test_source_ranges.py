"""Source ranges of Services, as one family and one frontend obeys them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from nodeport.forwarding.sources import (
    NODEPORT_SOURCE_RANGES,
    allowed_sources,
    load_balancer_ranges,
    nodeport_ranges,
)
from nodeport.forwarding.table import (
    ClusterIP,
    ExternalIP,
    Family,
    Forwarding,
    LoadBalancerIP,
    NodeFacts,
    NodePort,
    Route,
    Routes,
    Verdict,
)

REJECT = Route(Verdict.REJECT)
ROUTES = Routes(REJECT, REJECT, REJECT)
VIP = LoadBalancerIP(ip_address("192.0.2.9"), 80)
NODE = NodeFacts("n1", (ip_address("172.31.7.11"),))


@pytest.mark.parametrize(
    ("asked", "family", "found"),
    [
        ([], Family.IPV4, None),
        (None, Family.IPV4, None),
        (["10.0.0.0/8"], Family.IPV4, ["10.0.0.0/8"]),
        ([" 10.0.0.0/8 "], Family.IPV4, ["10.0.0.0/8"]),
        (["010.001.2.3/8"], Family.IPV4, ["10.0.0.0/8"]),
        (["10.1.0.0/16", "10.0.0.0/8", "10.2.0.0/15"], Family.IPV4, ["10.0.0.0/8"]),
        (["10.0.0.0/9", "10.128.0.0/9"], Family.IPV4, ["10.0.0.0/8"]),
        (["10.0.0.0/8", "0.0.0.0/0"], Family.IPV4, None),
        (["2001:db8::/32"], Family.IPV4, None),
        (["2001:db8::/32", "10.0.0.0/8"], Family.IPV6, ["2001:db8::/32"]),
    ],
    ids=str,
)
def test_load_balancer_ranges_of_a_family(
    asked: list[str] | None, family: Family, found: list[str] | None
) -> None:
    ranges = load_balancer_ranges({"loadBalancerSourceRanges": asked}, family)
    assert ranges == (None if found is None else tuple(map(ip_network, found)))


@pytest.mark.parametrize(
    ("annotation", "family", "found"),
    [
        (None, Family.IPV4, None),
        ("10.0.0.0/8, 172.16.0.0/12", Family.IPV4, ["10.0.0.0/8", "172.16.0.0/12"]),
        ("0.0.0.0/0", Family.IPV4, ["0.0.0.0/0"]),
        ("10.0.0.0/8", Family.IPV6, []),
        ("", Family.IPV4, []),
        ("everybody", Family.IPV4, []),
        ("10.0.0.7", Family.IPV4, ["10.0.0.7/32"]),
    ],
    ids=str,
)
def test_nodeport_ranges_only_ever_close(
    annotation: str | None, family: Family, found: list[str] | None
) -> None:
    annotations = {} if annotation is None else {NODEPORT_SOURCE_RANGES: annotation}
    ranges = nodeport_ranges(annotations, family)
    assert ranges == (None if found is None else tuple(map(ip_network, found)))


def test_ranges_close_their_own_kind_of_frontend_only() -> None:
    ours, theirs = (ip_network("10.0.0.0/8"),), (ip_network("198.51.100.0/24"),)
    made = Forwarding((), ROUTES, ROUTES, source_ranges=theirs, nodeport_source_ranges=ours)
    assert allowed_sources(made, VIP, NODE) == theirs
    assert allowed_sources(made, NodePort(30007), NODE) == ours
    assert allowed_sources(made, ClusterIP(ip_address("10.96.0.1"), 80), NODE) is None
    assert allowed_sources(made, ExternalIP(ip_address("192.0.2.1"), 80), NODE) is None


def test_a_node_in_a_range_may_send_from_the_load_balancer_ip_itself() -> None:
    made = Forwarding((), ROUTES, ROUTES, source_ranges=(ip_network("172.31.7.0/24"),))
    assert allowed_sources(made, VIP, NODE) == (ip_network("172.31.7.0/24"), ip_network("192.0.2.9/32"))
