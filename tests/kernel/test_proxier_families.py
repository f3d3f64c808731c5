"""The nftables mode against the real kernel in both families, with all that a Service can ask for, and the real nft."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES
from nodeport.forwarding.table import Change, Family, ForwardingOptions, ForwardingTable
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.modes import stand_side_by_side
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.layout import Role
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.nftables.ruletext import rule_text
from nodeport.proxy.nftables.words import set_words

OPTIONS = ForwardingOptions()
RANGES = {
    Family.IPV4: ["10.0.0.0/8", "10.1.0.0/16", "198.51.100.0/24", "172.31.7.0/24", "0.0.0.0/0"],
    Family.IPV6: ["fd00::/8", "fd00:1::/32", "2001:db8:7::/48", "fd00:31:7::/64", "::/0"],
}
NFT_FAMILIES = {Family.IPV4: "ip", Family.IPV6: "ip6"}
both_families = pytest.mark.parametrize("family", Family, ids=str)


@pytest.fixture
def kernel(netns: Path) -> Iterator[Nftables]:
    with Nftables(netns) as opened:
        yield opened


def nft(netns: Path, *arguments: str) -> str:
    command = ["ip", "netns", "exec", netns.name, "nft", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def random_service(rng: random.Random, family: Family) -> JsonObject:
    item = scenario.service(rng.choice(list(Policy)), rng.choice(list(Situation)), family=family.value)
    seconds = rng.choice([1, 10800, 86400])
    item["spec"] |= {
        "sessionAffinity": rng.choice(["None", "ClientIP"]),
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
        "loadBalancerSourceRanges": rng.sample(RANGES[family], rng.randint(0, 3)),
    }
    if rng.random() < 0.5:
        ranges = ",".join(rng.sample(RANGES[family], rng.randint(0, 3)))
        item["metadata"]["annotations"] = {NODEPORT_SOURCE_RANGES: ranges}
    return item


def put(
    table: ForwardingTable, item: JsonObject, pods: dict[str, dict[str, bool]], family: Family
) -> list[Change]:
    identity = NamespacedName.of(item)
    found = scenario.slices(item, pods, family=family.value)
    built = build_service(item, found, scenario.facts(family=family.value), OPTIONS) if pods else {}
    before = table.wanted(identity)
    return table.replace(
        identity, {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
    )


@both_families
def test_random_changes_leave_the_kernel_as_a_fresh_start_would_make_it(
    kernel: Nftables, family: Family
) -> None:
    rng = random.Random(11)
    node = scenario.facts(family=family.value)
    table = ForwardingTable()
    proxier = NftablesProxier(kernel, OPTIONS, family)
    proxier.resync(table, node)
    for _ in range(150):
        changes = put(
            table, random_service(rng, family), rng.choice(list(scenario.ENDPOINTS.values())), family
        )
        if changes:
            proxier.apply(changes, node)
        assert proxier.is_undisturbed()
        assert proxier.is_intact()
    assert NftablesProxier(kernel, OPTIONS, family).resync(table, node) == 0
    assert proxier.verify(table, node) == []


def test_what_one_family_commits_does_not_disturb_the_other(netns: Path) -> None:
    with Nftables(netns) as first, Nftables(netns) as second:
        proxiers = {
            family: NftablesProxier(kernel, OPTIONS, family)
            for family, kernel in zip(Family, (first, second), strict=True)
        }
        stand_side_by_side(proxiers.values())
        tables = {family: ForwardingTable() for family in Family}
        for family, proxier in proxiers.items():
            proxier.resync(tables[family], scenario.facts(family=family.value))
        rng = random.Random(3)
        for step in range(20):
            family = list(Family)[step % 2]
            pods = scenario.ENDPOINTS[scenario.Situation.LOCAL] if step < 10 else {}
            changes = put(tables[family], random_service(rng, family), pods, family)
            proxiers[family].apply(changes, scenario.facts(family=family.value))
            assert all(proxier.is_undisturbed() for proxier in proxiers.values())
        nft(netns, "add", "table", "ip", "foreign")
        assert not any(proxier.is_undisturbed() for proxier in proxiers.values())


def test_the_families_do_not_touch_each_other(netns: Path, kernel: Nftables) -> None:
    proxiers = {family: NftablesProxier(kernel, OPTIONS, family) for family in Family}
    for family, proxier in proxiers.items():
        node = scenario.facts(family=family.value)
        proxier.resync(scenario.table(node), node)
    before = nft(netns, "-a", "list", "table", "ip6", layout.TABLE)
    proxiers[Family.IPV4].remove()
    assert nft(netns, "-a", "list", "table", "ip6", layout.TABLE) == before
    assert proxiers[Family.IPV6].is_intact()
    proxiers[Family.IPV6].remove()
    assert nft(netns, "list", "tables") == ""


@both_families
def test_the_real_nft_lists_everything_that_can_be_there(
    netns: Path, kernel: Nftables, family: Family
) -> None:
    node = scenario.facts(family=family.value)
    table = ForwardingTable()
    item = scenario.service(Policy.LOCAL, Situation.BOTH, family=family.value)
    item["spec"] |= {"sessionAffinity": "ClientIP", "loadBalancerSourceRanges": RANGES[family][:1]}
    item["metadata"]["annotations"] = {NODEPORT_SOURCE_RANGES: RANGES[family][2]}
    put(table, item, scenario.ENDPOINTS[Situation.BOTH], family)
    NftablesProxier(kernel, OPTIONS, family).resync(table, node)
    address = NFT_FAMILIES[family]
    listing = nft(netns, "list", "ruleset")
    assert (
        f"update @affinity {{ {address} saddr . meta priority & f:ffff timeout 3h : meta priority }}"
        in listing
    )
    assert f"tcp . 301{scenario.index(Policy.LOCAL, Situation.BOTH):02} . {RANGES[family][2]}" in listing


@pytest.mark.parametrize(
    "options", [OPTIONS, ForwardingOptions(False), ForwardingOptions(masquerade_all=True)]
)
@pytest.mark.parametrize("interfaces", [(), ("cni0", "veth*")], ids=["networks", "interfaces"])
@both_families
def test_rules_are_told_as_the_real_nft_lists_them(
    netns: Path, kernel: Nftables, family: Family, interfaces: tuple[str, ...], options: ForwardingOptions
) -> None:
    node = replace(scenario.facts(family=family.value), pod_interfaces=interfaces)
    table = scenario.whole_table(node, options)
    for role in Role:
        proxier = NftablesProxier(kernel, options, family, role)
        proxier.resync(table, node)
        listed, _ = kernel.list_table(layout.table(family, role), elements=False)
        assert listed is not None
        told = {name: [rule_text(rule) for rule in chain.rules] for name, chain in listed.chains.items()}
        printed = nft(netns, "list", "table", NFT_FAMILIES[family], role.value)
        assert told == printed_chains(printed)
        for name, type_line in printed_types(printed).items():
            assert set_words(listed.sets[name].set).split("; ")[0] == type_line
        proxier.remove()


def printed_types(listing: str) -> dict[str, str]:
    """The type of each set and map that has one; the others are told by what is looked up in them."""
    found: dict[str, str] = {}
    name = ""
    for line in listing.splitlines():
        if line.startswith(("\tset ", "\tmap ")):
            name = line.split()[1]
        elif name and line.startswith("\t\ttype "):
            found[name], name = line.strip(), ""
        elif line == "\t}":
            name = ""
    return found


def printed_chains(listing: str) -> dict[str, list[str]]:
    """The rules of each chain as nft prints them."""
    found: dict[str, list[str]] = {}
    rules: list[str] = []
    for line in listing.splitlines():
        if line.startswith("\tchain "):
            rules = found[line.split()[1]] = []
        elif line.startswith("\t\t") and not line.startswith("\t\ttype "):
            rules.append(line.strip())
    return found


@both_families
def test_the_real_nft_reads_back_what_it_lists_of_plain_services(
    netns: Path, kernel: Nftables, family: Family, tmp_path: Path
) -> None:
    node = scenario.facts(family=family.value)
    table = ForwardingTable()
    for policy in Policy:
        item = scenario.without_external(scenario.service(policy, Situation.BOTH, family=family.value))
        put(table, item, scenario.ENDPOINTS[Situation.BOTH], family)
    NftablesProxier(kernel, OPTIONS, family).resync(table, node)
    listing = nft(netns, "list", "ruleset")
    saved = tmp_path / "ruleset.nft"
    saved.write_text(listing)
    nft(netns, "flush", "ruleset")
    nft(netns, "-f", str(saved))
    assert nft(netns, "list", "ruleset") == listing
