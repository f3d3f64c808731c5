"""Random changes: the kernel ends where a fresh start would bring it, and in between no packet meets half a Service."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, ForwardingOptions, ForwardingTable, NodeFacts, ServicePortName
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.questions import Fate, Questions
from unit.proxy.fake_nftables import FakeNftables
from unit.proxy.test_ruleset_of_families import V4, V6, World, services

OPTIONS = ForwardingOptions()
TINY = 5000
"""Bytes: little more than the largest group that must not be cut."""

MOST_PACKETS = 24

Objects = tuple[JsonObject, list[JsonObject]]
WORLDS = [replace(world, external=world.external[:2]) for world in (V4, V6)]
"""Without load-balancer IPs on the node itself: there a NodePort may stand in for a Service that is just going."""
both_families = pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world.family))


def bursts(world: World) -> st.SearchStrategy[list[list[tuple[Objects, bool]]]]:
    """One after the other: Services that come, change, or go."""
    burst = st.lists(st.tuples(services(world), st.booleans()), min_size=1, max_size=3)
    return st.lists(burst, min_size=1, max_size=5)


def without_ranges(item: Objects) -> Objects:
    service, slices = item
    spec = {**service["spec"], "loadBalancerSourceRanges": []}
    return {**service, "metadata": {**service["metadata"], "annotations": {}}, "spec": spec}, slices


def facts(world: World) -> NodeFacts:
    node = {
        "metadata": {"name": "n1"},
        "spec": {"podCIDRs": [world.pod_network]},
        "status": {"addresses": [{"type": "InternalIP", "address": world.node}]},
    }
    return node_facts("n1", node, family=world.family, service_networks=(ip_network(world.service_network),))


class Site:
    """A node under a proxier that speaks to nf_tables in memory."""

    def __init__(self, world: World, *, send_limit: int = 1 << 28) -> None:
        self.node = facts(world)
        self.table = ForwardingTable()
        self.kernel = FakeNftables(send_limit=send_limit)
        self.proxier = NftablesProxier(self.kernel, OPTIONS, world.family)
        self.local = frozenset({ip_address(world.node), ip_address(world.loopback)})

    def put(self, wanted: list[tuple[Objects, bool]]) -> list[Change]:
        """Puts Services into the table, or takes them out, as the proxy does it: endpoints keep their slots."""
        merged: dict[ServicePortName, Change] = {}
        for (service, slices), present in wanted:
            identity = NamespacedName.of(service)
            built = build_service(service, slices, self.node, OPTIONS) if present else {}
            before = self.table.wanted(identity)
            settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
            for made in self.table.replace(identity, settled):
                earlier = merged.get(made.name)
                merged[made.name] = Change(made.name, earlier.old if earlier else made.old, made.new)
        return [made for made in merged.values() if made.old != made.new]

    def packets(self) -> set[Packet]:
        return set(Questions(self.table.items(), self.node).samples())

    def fates(self, there: Ruleset | None, packet: Packet) -> frozenset[Fate]:
        return fates(there or Ruleset(), packet, self.local)

    def assert_rendered(self) -> None:
        wanted, _, _ = render(self.table.items(), self.node, OPTIONS)
        there = self.kernel.table
        assert there is not None
        assert there.chains == wanted.chains
        assert there.sets == wanted.sets
        for name in wanted.sets:
            assert there.elements_of(name) == wanted.elements_of(name), name


@both_families
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_one_change_after_the_other_leads_where_a_fresh_start_does(world: World, data: st.DataObject) -> None:
    site = Site(world)
    site.proxier.resync(site.table, site.node)
    for wanted in data.draw(bursts(world)):
        changes = site.put(wanted)
        if changes:
            site.proxier.apply(changes, site.node)
        assert site.proxier.is_undisturbed()
        assert site.proxier.is_intact()
        site.assert_rendered()
    assert site.proxier.verify(site.table, site.node) == []
    assert NftablesProxier(site.kernel, OPTIONS, world.family).resync(site.table, site.node) == 0


@both_families
@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.data(), st.booleans())
def test_however_small_the_batches_every_packet_fares_as_before_or_as_after(
    world: World, data: st.DataObject, mended: bool
) -> None:
    """``mended``: the changes are found by a resync, which goes set by set, not told Service by Service.

    Then whoever is newly allowed by source ranges may for a moment meet what those met who were allowed before, and a
    frontend that goes from one Service to another may have the masquerading of either.
    """
    site = Site(world, send_limit=TINY)
    site.proxier.resync(site.table, site.node)
    for wanted in data.draw(bursts(world)):
        before, packets = site.kernel.table, site.packets()
        changes = site.put([(without_ranges(item) if mended else item, there) for item, there in wanted])
        packets |= site.packets()
        site.kernel.history.clear()
        if mended:
            site.proxier.resync(site.table, site.node)
        elif changes:
            site.proxier.apply(changes, site.node)
        site.assert_rendered()
        for packet in Random(7).sample(sorted(packets, key=str), min(len(packets), MOST_PACKETS)):
            allowed = site.fates(before, packet) | site.fates(site.kernel.table, packet)
            if mended:
                allowed |= {replace(fate, masquerade=not fate.masquerade) for fate in allowed}
            for there in site.kernel.history:
                assert site.fates(there, packet) <= allowed


@both_families
@settings(deadline=None, max_examples=10)
@given(st.data())
def test_a_first_start_in_small_batches_lets_packets_in_only_when_all_is_there(
    world: World, data: st.DataObject
) -> None:
    site = Site(world, send_limit=TINY)
    site.put([(item, True) for item in data.draw(st.lists(services(world), min_size=1, max_size=4))])
    site.proxier.resync(site.table, site.node)
    assert len(site.kernel.history) > 1
    site.assert_rendered()
    for there in site.kernel.history:
        assert there is not None
        entrances = [chain for chain in there.chains.values() if chain.hook is not None]
        assert not entrances or there == site.kernel.table
