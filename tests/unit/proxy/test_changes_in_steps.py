"""Random changes: the kernel ends where a fresh start would bring it, and in between no packet meets half a Service."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, ForwardingOptions, ForwardingTable, ServicePortName
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.questions import Questions
from unit.proxy.fake_nftables import FakeNftables
from unit.proxy.test_oracle_and_ruleset import LOCAL_ADDRESSES, services
from unit.proxy.test_verify import NODE

OPTIONS = ForwardingOptions()
TINY = 3000
"""Bytes: little more than the largest group that must not be cut."""

Objects = tuple[JsonObject, list[JsonObject]]
bursts = st.lists(
    st.lists(st.tuples(services(), st.booleans()), min_size=1, max_size=3), min_size=1, max_size=5
)


def burst_of(table: ForwardingTable, wanted: list[tuple[Objects, bool]]) -> list[Change]:
    """Puts Services in, or takes them out, as the proxy does it: endpoints keep their slots."""
    merged: dict[ServicePortName, Change] = {}
    for (service, slices), present in wanted:
        identity = NamespacedName.of(service)
        built = build_service(service, slices, NODE, OPTIONS) if present else {}
        before = table.wanted(identity)
        settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
        for made in table.replace(identity, settled):
            earlier = merged.get(made.name)
            merged[made.name] = Change(made.name, earlier.old if earlier else made.old, made.new)
    return [made for made in merged.values() if made.old != made.new]


def assert_rendered(there: Ruleset | None, table: ForwardingTable) -> None:
    wanted, _, _ = render(table.items(), NODE, OPTIONS)
    assert there is not None
    assert there.chains == wanted.chains
    assert there.sets == wanted.sets
    for name in wanted.sets:
        assert there.elements_of(name) == wanted.elements_of(name), name


@settings(deadline=None, max_examples=150)
@given(bursts)
def test_one_change_after_the_other_leads_where_a_fresh_start_does(
    sequence: list[list[tuple[Objects, bool]]],
) -> None:
    kernel, table = FakeNftables(), ForwardingTable()
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    for wanted in sequence:
        changes = burst_of(table, wanted)
        if changes:
            proxier.apply(changes, NODE)
        assert proxier.is_undisturbed()
        assert proxier.is_intact()
        assert_rendered(kernel.table, table)
    assert proxier.verify(table, NODE) == []
    assert NftablesProxier(kernel, OPTIONS).resync(table, NODE) == 0


@settings(deadline=None, max_examples=60)
@given(bursts, st.booleans())
def test_however_small_the_batches_every_packet_fares_as_before_or_as_after(
    sequence: list[list[tuple[Objects, bool]]], mended: bool
) -> None:
    """``mended``: the changes are found by a resync, not told one by one."""
    kernel, table = FakeNftables(send_limit=TINY), ForwardingTable()
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    for wanted in sequence:
        before = kernel.table
        assert before is not None
        packets = set(Questions(table.items(), NODE).samples())
        changes = burst_of(table, wanted)
        packets |= set(Questions(table.items(), NODE).samples())
        kernel.history.clear()
        if mended:
            proxier.resync(table, NODE)
        elif changes:
            proxier.apply(changes, NODE)
        assert_rendered(kernel.table, table)
        for packet in packets:
            allowed = fates(before, packet, LOCAL_ADDRESSES) | fates(
                kernel.table or Ruleset(), packet, LOCAL_ADDRESSES
            )
            for there in kernel.history:
                assert fates(there or Ruleset(), packet, LOCAL_ADDRESSES) <= allowed


@settings(deadline=None, max_examples=40)
@given(st.lists(services(), min_size=1, max_size=4))
def test_a_first_start_in_small_batches_lets_packets_in_only_when_all_is_there(made: list[Objects]) -> None:
    kernel, table = FakeNftables(send_limit=TINY), ForwardingTable()
    burst_of(table, [(item, True) for item in made])
    NftablesProxier(kernel, OPTIONS).resync(table, NODE)
    assert len(kernel.history) > 1
    assert_rendered(kernel.table, table)
    for there in kernel.history:
        assert there is not None
        entrances = [chain for chain in there.chains.values() if chain.hook is not None]
        assert not entrances or there == kernel.table
