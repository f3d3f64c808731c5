"""Random changes: the kernel ends where a fresh start would bring it, and in between no packet meets half a Service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, ValuesView
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import (
    Change,
    ForwardingOptions,
    ForwardingTable,
    NodeFacts,
    ServicePortName,
    Verdict,
)
from nodeport.netlink.nftables.expressions import Data
from nodeport.netlink.nftables.objects import Chain
from nodeport.proxy.nftables.dialect import dialect
from nodeport.proxy.nftables.evaluate import fate, fates
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render, spare_sizes, with_sizes
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

    def bring(self, changes: list[Change], *, mended: bool) -> None:
        """Into the kernel, which remembers no earlier batches then; ``mended``: they are not told but found."""
        self.kernel.history.clear()
        if mended:
            self.proxier.resync(self.table, self.node)
        elif changes:
            self.proxier.apply(changes, self.node)

    def packets(self) -> set[Packet]:
        return set(Questions(self.table.items(), self.node).samples())

    def fates(self, there: Ruleset | None, packet: Packet) -> frozenset[Fate]:
        return fates(there or Ruleset(), packet, self.local)

    def assert_rendered(self) -> None:
        """And besides, chains for numbers of endpoints that no Service has any more."""
        rendered, _, sizes = render(self.table.items(), self.node, OPTIONS)
        there, words = self.kernel.table, dialect(self.node.family)
        assert there is not None
        wanted = with_sizes(rendered, spare_sizes(there, sizes, words), words)
        assert there.chains == wanted.chains
        assert there.sets == wanted.sets
        for name in wanted.sets:
            assert there.elements_of(name) == wanted.elements_of(name), name


@both_families
@settings(max_examples=40)
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
@settings(max_examples=15)
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
        site.bring(changes, mended=mended)
        site.assert_rendered()
        for packet in Random(7).sample(sorted(packets, key=str), min(len(packets), MOST_PACKETS)):
            allowed = site.fates(before, packet) | site.fates(site.kernel.table, packet)
            if mended:
                allowed |= {replace(fate, masquerade=not fate.masquerade) for fate in allowed}
            for there in site.kernel.history:
                assert site.fates(there, packet) <= allowed


class Overtaken(Ruleset):
    """What a packet sees that is in a hook when a batch takes effect, as the kernel does it: the rules of that hook are
    the old ones to its end (chains that are new are there, and empty), but every element is looked up as it is now.
    """

    def __init__(self, old: Ruleset, new: Ruleset, lookups: int) -> None:
        """``lookups``: how many the packet has made by then."""
        super().__init__({}, {**new.sets, **old.sets})
        empty = {name: Chain(name) for name in new.chains.keys() - old.chains.keys()}
        self.chains = _Generations({**empty, **old.chains}, new.chains)
        self._old, self._new = old, new
        self._left = lookups

    def elements_of(self, name: str) -> Mapping[bytes, Data]:
        there = self._old if self._left > 0 else self._new
        self._left -= 1
        self.chains.is_new = self._left < 0
        return there.elements_of(name)


class _Generations(dict[str, Chain]):
    """A hook begins with a look at all chains, and stays with the rules that they had then."""

    def __init__(self, old: Mapping[str, Chain], new: Mapping[str, Chain]) -> None:
        super().__init__(old)
        self._new = new
        self.is_new = False

    def values(self) -> ValuesView[Chain]:
        if self.is_new:
            self.clear()
            self.update(self._new)
        return super().values()


@both_families
@settings(max_examples=15)
@given(st.data(), st.booleans())
def test_a_packet_on_its_way_while_a_batch_takes_effect_fares_as_before_or_as_after(
    world: World, data: st.DataObject, mended: bool
) -> None:
    """But one to a Service that loses its last endpoint, or goes, may be dropped: whoever sent it asks again.

    Whether the sender's address stays is decided in a hook of its own, and may be answered as before or as after, too.
    """
    site = Site(world)
    site.proxier.resync(site.table, site.node)
    for wanted in data.draw(bursts(world)):
        packets, start = site.packets(), site.kernel.table
        changes = site.put([(without_ranges(item), there) for item, there in wanted])
        packets |= site.packets()
        site.bring(changes, mended=mended)
        for old, new in pairwise([start, *site.kernel.history]):
            assert old is not None
            assert new is not None
            for packet in Random(7).sample(sorted(packets, key=str), min(len(packets), MOST_PACKETS)):
                after = site.fates(site.kernel.table, packet)
                allowed = where(site.fates(start, packet) | after)
                if not any(end.verdict is Verdict.FORWARD for end in after):
                    allowed.add((Verdict.DROP, None))
                for lookups, choice in product(range(MOST_LOOKUPS), range(MOST_CHOICES)):
                    end = fate(Overtaken(old, new, lookups), packet, site.local, choice)
                    assert where([end]) <= allowed


MOST_LOOKUPS = 16
"""Some more than a packet meets in the nat chains before it is translated, session affinity apart."""
MOST_CHOICES = 3


def where(ends: Iterable[Fate]) -> set[tuple[Verdict, object]]:
    return {(end.verdict, end.destination) for end in ends}


@both_families
@settings(max_examples=10)
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
