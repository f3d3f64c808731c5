"""Which pod networks a node gets that came without."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from nodeport.api.podcidrs import IPNetwork
from nodeport.controllers.nodeipam.reconcile import free_share, networks_of, patch_for


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(map(ip_network, texts))


DUAL = networks("10.244.0.0/16", "fd00:10:244::/56")


@pytest.mark.parametrize(
    ("clusters", "taken", "given"),
    [
        (DUAL, (), networks("10.244.255.0/24", "fd00:10:244:ff::/64")),
        (DUAL, networks("10.244.255.0/24"), networks("10.244.254.0/24", "fd00:10:244:fe::/64")),
        (DUAL, networks("fd00:10:244:ff::/64"), networks("10.244.254.0/24", "fd00:10:244:fe::/64")),
        (DUAL, networks("10.244.255.128/25"), networks("10.244.254.0/24", "fd00:10:244:fe::/64")),
        (DUAL, networks("10.199.7.0/24"), networks("10.244.255.0/24", "fd00:10:244:ff::/64")),
        (networks("fd00:10:244::/63"), networks("fd00:10:244:1::/64"), networks("fd00:10:244::/64")),
        (networks("10.244.0.0/24"), networks("10.244.0.0/24"), None),
        (networks("10.244.0.0/16", "fd00::/64"), networks("fd00::/64"), None),
        ((), (), None),
    ],
)
def test_the_last_share_that_is_free_in_each_family_is_given(
    clusters: tuple[IPNetwork, ...], taken: tuple[IPNetwork, ...], given: tuple[IPNetwork, ...] | None
) -> None:
    assert free_share(clusters, taken) == given


def test_what_a_node_has_is_read_from_both_fields_and_written_to_both() -> None:
    patch = patch_for(DUAL)
    assert patch == {"spec": {"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16", "fd00:10:244::/56"]}}
    assert networks_of(patch) == DUAL
    assert networks_of({"spec": {"podCIDR": "10.244.0.7/16"}}) == DUAL[:1]
    assert networks_of({}) == ()
