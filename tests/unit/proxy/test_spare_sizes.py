"""Chains for numbers of endpoints that no Service has any more: how many stay, and that what they lead to stays with them."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, ip_address
from random import Random

import pytest

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.table import Change, ForwardingOptions, ForwardingTable, NodeFacts
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.proxier import MOST_SPARES, NftablesProxier
from unit.proxy.fake_nftables import FakeNftables

OPTIONS = ForwardingOptions()
NODE = NodeFacts("n1", (ip_address("172.31.7.11"),), (IPv4Network("10.244.1.0/24"),))
FIRST = IPv4Address("10.244.0.0")
USED_BY_ONE_SERVICE = 4
"""With session affinity and without, by address and by node port."""


class Site:
    """One Service with a node port under a proxier that speaks to nf_tables in memory."""

    def __init__(self) -> None:
        self.table = ForwardingTable()
        self.kernel = FakeNftables()
        self.start()

    def start(self) -> None:
        self.proxier = NftablesProxier(self.kernel, OPTIONS)
        self.proxier.resync(self.table, NODE)

    def changes(self, endpoints: int, affinity: timedelta | None = None) -> list[Change]:
        """The Service has so many endpoints from now on, and remembers clients so long."""
        service = {
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.96.0.10",
                "sessionAffinity": "ClientIP" if affinity else "None",
                "ports": [{"port": 80, "nodePort": 30080}],
            },
        }
        if affinity:
            timeout = int(affinity.total_seconds())
            service["spec"]["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": timeout}}
        found = {
            "metadata": {},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080}],
            "endpoints": [{"addresses": [str(FIRST + number)]} for number in range(endpoints)],
        }
        return self.table.replace(NamespacedName.of(service), build_service(service, [found], NODE, OPTIONS))


def size_chains(site: Site) -> list[str]:
    assert site.kernel.table is not None
    return [name for name in site.kernel.table.chains if name.rstrip("0123456789").endswith("-")]


@pytest.mark.parametrize("seed", range(3))
def test_spares_come_and_go_with_session_affinity_and_without(seed: int) -> None:
    """A chain with session affinity falls back on one without: that may not go before it."""
    random, site = Random(seed), Site()
    for _ in range(150):
        affinity = random.choice([None, timedelta(seconds=random.choice([5, 10800]))])
        if changes := site.changes(random.randint(1, 50), affinity):
            site.proxier.apply(changes, NODE)
    assert MOST_SPARES / 2 < len(size_chains(site)) <= MOST_SPARES + 2 * USED_BY_ONE_SERVICE
    assert site.proxier.verify(site.table, NODE) == []
    site.start()
    assert site.proxier.is_intact()


def test_a_spare_does_not_stay_without_what_it_falls_back_on() -> None:
    """Somebody took the way to that away, and a proxy starts."""
    site = Site()
    for affinity in (timedelta(seconds=5), None):
        site.proxier.apply(site.changes(3, affinity), NODE)
    site.proxier.apply(site.changes(1), NODE)
    assert site.kernel.table is not None
    del site.kernel.table.elements[layout.IPS.verdicts][layout.class_key(3)]
    site.start()
    assert [name for name in size_chains(site) if name.startswith("service-")] == ["service-1"]
    assert site.proxier.verify(site.table, NODE) == []
