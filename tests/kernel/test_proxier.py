"""The nftables mode against the real kernel: changes, restarts, other people, and the real nft."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.topology import NODES
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, ForwardingOptions, ForwardingTable
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.elements import element_payloads
from nodeport.netlink.nftables.kernel import Nftables, Request
from nodeport.netlink.nftables.objects import MessageType, Set, Table
from nodeport.netlink.socket import KernelRefused
from nodeport.proxy.nftables.layout import TABLE
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.render import render
from nodeport.proxy.nftables.ruleset import Ruleset

OPTIONS = ForwardingOptions()
OTHER = Table("other")
NODE = scenario.facts()


@pytest.fixture
def kernel(netns: Path) -> Iterator[Nftables]:
    with Nftables(netns) as opened:
        yield opened


def nft(netns: Path, *arguments: str) -> str:
    command = ["ip", "netns", "exec", netns.name, "nft", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def change(table: ForwardingTable, item: JsonObject, pods: dict[str, dict[str, bool]] | None) -> list[Change]:
    """Puts ``item`` with these endpoints into the table; ``None`` takes it out."""
    identity = NamespacedName.of(item)
    if pods is None:
        return table.replace(identity, {})
    built = build_service(item, scenario.slices(item, pods), NODE, OPTIONS)
    before = table.wanted(identity)
    return table.replace(
        identity, {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
    )


def in_kernel(kernel: Nftables) -> Ruleset:
    listed, _ = kernel.list_table(Table(TABLE))
    assert listed is not None
    return Ruleset.of_listing(listed)


def assert_kernel_has(kernel: Nftables, table: ForwardingTable) -> None:
    wanted, _, _ = render(table.items(), NODE, OPTIONS)
    there = in_kernel(kernel)
    assert there.chains == wanted.chains
    assert there.sets == wanted.sets
    for name in wanted.sets:
        assert there.elements_of(name) == wanted.elements_of(name), name


def test_random_changes_leave_the_kernel_as_a_fresh_start_would_make_it(kernel: Nftables) -> None:
    rng = random.Random(7)
    table = ForwardingTable()
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    for _ in range(150):
        burst: dict[object, Change] = {}
        for _ in range(rng.randint(1, 3)):
            item = scenario.service(rng.choice(list(Policy)), rng.choice(list(Situation)))
            pods = rng.choice([*scenario.ENDPOINTS.values(), None])
            for made in change(table, item, pods):
                before = burst.get(made.name)
                burst[made.name] = Change(made.name, before.old if before else made.old, made.new)
        changes = [made for made in burst.values() if made.old != made.new]
        if changes:
            proxier.apply(changes, NODE)
        assert proxier.is_undisturbed()
        assert proxier.is_intact()
    assert_kernel_has(kernel, table)


def test_the_kernel_keeps_node_ports_in_hash_tables_and_nft_reads_them_back(
    netns: Path, kernel: Nftables
) -> None:
    NftablesProxier(kernel, OPTIONS).resync(scenario.table(NODE), NODE)
    listing = nft(netns, "list", "set", "ip", TABLE, "masquerade-tcp")
    assert "flags timeout" in listing
    assert "gc-interval 1d" in listing
    assert "expires" not in listing


def test_a_restart_changes_nothing_in_the_kernel(netns: Path, kernel: Nftables) -> None:
    NftablesProxier(kernel, OPTIONS).resync(scenario.table(NODE), NODE)
    before, generation = nft(netns, "-a", "list", "ruleset"), kernel.generation()
    with Nftables(netns) as again:
        assert NftablesProxier(again, OPTIONS).resync(scenario.table(NODE), NODE) == 0
    assert nft(netns, "-a", "list", "ruleset") == before
    assert kernel.generation() == generation


def test_a_restart_leaves_endpoints_in_the_slots_that_history_gave_them(kernel: Nftables) -> None:
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    everyone = dict.fromkeys(
        ("local", "other", "remote", "far"), scenario.ENDPOINTS[Situation.LOCAL]["local"]
    )
    table = ForwardingTable()
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    proxier.apply(change(table, item, everyone), NODE)
    proxier.apply(change(table, item, {name: everyone[name] for name in ("other", "remote", "far")}), NODE)
    proxier.apply(change(table, item, everyone), NODE)

    restarted = NftablesProxier(kernel, OPTIONS)
    memory, fresh = restarted.slots(), ForwardingTable()
    built = build_service(item, scenario.slices(item, everyone), NODE, OPTIONS)
    assert all(table.get(name) != forwarding for name, forwarding in built.items())
    fresh.replace(NamespacedName.of(item), {name: memory.settle(name, new) for name, new in built.items()})
    assert restarted.resync(fresh, NODE) == 0


def test_what_others_do_while_a_restart_decides_is_mended_by_its_first_commit(
    netns: Path, kernel: Nftables
) -> None:
    NftablesProxier(kernel, OPTIONS).resync(scenario.table(NODE), NODE)
    before = nft(netns, "list", "ruleset")
    with Nftables(netns) as again:
        restarted = NftablesProxier(again, OPTIONS)
        restarted.slots()
        nft(netns, "flush", "map", "ip", "nodeport", "service-ips")
        assert restarted.resync(scenario.table(NODE), NODE) > 0
    assert nft(netns, "list", "ruleset") == before


def test_removing_one_endpoint_of_many_moves_only_the_last(kernel: Nftables) -> None:
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    item["spec"]["ports"] = item["spec"]["ports"][:1]
    ready = {"ready": True}
    table = ForwardingTable()

    def endpoints(numbers: list[int]) -> list[JsonObject]:
        (made,) = scenario.slices(item, {"local": ready})
        addresses = [str(IPv4Address(int(IPv4Address("10.244.9.0")) + number)) for number in numbers]
        made["endpoints"] = [{"addresses": [address], "conditions": ready} for address in addresses]
        return [made]

    def put(numbers: list[int]) -> list[Change]:
        built = build_service(item, endpoints(numbers), NODE, OPTIONS)
        before = table.wanted(NamespacedName.of(item))
        settled = {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
        return table.replace(NamespacedName.of(item), settled)

    put(list(range(1, 41)))
    ((made),) = put([number for number in range(1, 41) if number != 5])
    assert made.old is not None
    assert made.new is not None
    old, new = made.old.internal.pod.endpoints, made.new.internal.pod.endpoints
    assert [index for index in range(39) if old[index] != new[index]] == [4]
    assert new[4] == old[39]


@pytest.mark.parametrize(
    "damage",
    [
        ("flush", "ruleset"),
        ("delete", "table", "ip", TABLE),
        ("flush", "chain", "ip", TABLE, "prerouting"),
        ("flush", "map", "ip", TABLE, "nodeports"),
        ("flush", "set", "ip", TABLE, "pod-networks"),
        ("add", "chain", "ip", TABLE, "somebody"),
        ("add", "rule", "ip", TABLE, "services", "accept"),
        ("add", "element", "ip", TABLE, "cluster-ips", "{ 10.96.7.7 }"),
        ("add", "rule", "ip", TABLE, "services", "tcp dport { 22, 80-90 } drop"),
        ("add", "rule", "ip", TABLE, "services", "tcp dport vmap { 22 : accept, 443 : goto refuse }"),
        (
            "add",
            "map",
            "ip",
            TABLE,
            "theirs",
            "{ type ipv4_addr : verdict; elements = { 10.0.0.1 : jump pods }; }",
        ),
        (
            "add chain ip nodeport x; add map ip nodeport m { type ipv4_addr : verdict; elements = { 10.0.0.1 : jump x }; }",
        ),
        ("add counter ip nodeport c; add rule ip nodeport services counter name c",),
    ],
    ids=" ".join,
)
def test_damage_by_others_is_noticed_and_mended(
    damage: tuple[str, ...], netns: Path, kernel: Nftables
) -> None:
    table = scenario.table(NODE)
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    nft(netns, *damage)
    assert not proxier.is_undisturbed()
    assert not proxier.is_intact()
    assert proxier.verify(table, NODE)
    assert proxier.resync(table, NODE) > 0
    assert_kernel_has(kernel, table)
    assert proxier.is_undisturbed()


def test_what_others_do_in_their_own_tables_does_not_concern_us(netns: Path, kernel: Nftables) -> None:
    table = scenario.table(NODE)
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    nft(netns, "add", "table", "inet", "theirs")
    nft(netns, "add", "set", "inet", "theirs", "s", "{ type ipv4_addr; }")
    theirs = nft(netns, "-a", "list", "table", "inet", "theirs")
    assert not proxier.is_undisturbed()
    assert proxier.is_intact()
    assert proxier.is_undisturbed()
    proxier.apply(
        change(table, scenario.service(Policy.LOCAL, Situation.NONE), scenario.ENDPOINTS[Situation.BOTH]),
        NODE,
    )
    proxier.remove()
    assert nft(netns, "-a", "list", "table", "inet", "theirs") == theirs
    assert nft(netns, "list", "tables") == "table inet theirs\n"


def test_the_real_nft_lists_the_table_and_reads_it_back(
    netns: Path, kernel: Nftables, tmp_path: Path
) -> None:
    table = ForwardingTable()
    for policy in Policy:
        for situation in Situation:
            item = scenario.service(policy, situation)
            item = scenario.without_external(
                item
            )  # nft before 1.1 can list, but not read, the rule for those
            change(table, item, scenario.ENDPOINTS[situation])
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier.resync(table, NODE)
    listing = nft(netns, "list", "ruleset")
    assert "10.96.1.4 . tcp . 80 : 0:2" in listing
    assert "typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport" in listing
    saved = tmp_path / "ruleset.nft"
    saved.write_text(listing)
    nft(netns, "flush", "ruleset")
    nft(netns, "-f", str(saved))
    assert nft(netns, "list", "ruleset") == listing
    wanted, _, _ = render(table.items(), NODE, OPTIONS)
    there = in_kernel(kernel)
    for name in wanted.sets:
        assert there.elements_of(name) == wanted.elements_of(name), name


def test_the_real_nft_lists_rules_that_it_cannot_read(netns: Path, kernel: Nftables) -> None:
    NftablesProxier(kernel, OPTIONS).resync(scenario.table(NODE), NODE)
    assert "ct original proto-dst @masquerade-ips masquerade" in nft(netns, "list", "ruleset")
    assert str(NODES["n1"]) in nft(netns, "list", "set", "ip", TABLE, "nodeport-addresses")


def test_a_batch_takes_effect_whole_or_not_at_all(kernel: Nftables) -> None:
    item = Set("s", 7, 4)
    make: list[Request] = [
        (MessageType.NEWTABLE, 0x400, OTHER.address),
        (MessageType.NEWSET, 0x400, objects.set_payload(OTHER, item, 1)),
    ]
    kernel.commit(make)
    generation = kernel.generation()
    (good,) = element_payloads(OTHER, item, {bytes(4): b""})
    (missing,) = element_payloads(OTHER, item, {b"\1\2\3\4": b""})
    with pytest.raises(KernelRefused, match="ENOENT"):
        kernel.commit([(MessageType.NEWSETELEM, 0x400, good), (MessageType.DELSETELEM, 0, missing)])
    listed, now = kernel.list_table(OTHER)
    assert listed is not None
    assert listed.elements["s"] == {}
    assert now == generation


def test_every_error_of_a_batch_is_told(kernel: Nftables) -> None:
    payload = objects.chain_name_payload(Table("absent"), "a")
    with pytest.raises(KernelRefused) as refused:
        kernel.commit([(MessageType.DELCHAIN, 0, payload)] * 3)
    assert len(refused.value.refusals) == 3


def test_a_batch_against_an_older_picture_is_refused(netns: Path, kernel: Nftables) -> None:
    generation = kernel.generation()
    nft(netns, "add", "table", "ip", "theirs")
    with pytest.raises(KernelRefused, match="ERESTART"):
        kernel.commit([(MessageType.NEWTABLE, 0x400, Table("late").address)], generation=generation)
    assert kernel.table_handle(Table("late")) is None


def test_many_small_batches_end_where_one_large_one_does(kernel: Nftables) -> None:
    table = scenario.table(NODE)
    proxier = NftablesProxier(kernel, OPTIONS)
    proxier._limit = 4000
    proxier.resync(table, NODE)
    assert_kernel_has(kernel, table)
    assert proxier.is_undisturbed()
