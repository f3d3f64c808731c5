"""What kube-proxy left on a node that has moved to this proxy: finding it, and taking it away when asked to.

Its rules stay in the kernel when it is stopped, as ours do, and go stale from then on. They are never touched unasked:
it may still run, and then they are right. Chains that the kubelet makes, or that other people's chains lead to, stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family
from nodeport.netlink.generic import NoSuchFamily
from nodeport.netlink.ipvs.kernel import Ipvs
from nodeport.netlink.namespace import open_in
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.nftables.objects import MessageType
from nodeport.proxy.iptables.programs import Iptables, IptablesError
from nodeport.proxy.iptables.restore import Section, removal, restore_text
from nodeport.proxy.iptables.ruleset import Listing, target_of
from nodeport.proxy.iptables.variants import is_hidden, listing
from nodeport.proxy.ipvs.render import SIGNATURE
from nodeport.proxy.options import Variant

TABLE: Final = "kube-proxy"
IPVS_LINK: Final = "kube-ipvs0"
_BUILT_IN: Final = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_CHAINS: Final = frozenset(
    f"KUBE-{name}"
    for name in (
        "SERVICES",
        "EXTERNAL-SERVICES",
        "NODEPORTS",
        "POSTROUTING",
        "MARK-MASQ",
        "FORWARD",
        "PROXY-FIREWALL",
        "PROXY-CANARY",
        "LOAD-BALANCER",
        "NODE-PORT",
        "SOURCE-RANGES-FIREWALL",
        "IPVS-FILTER",
        "IPVS-OUT-FILTER",
    )
)
_STEMS: Final = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-")
_FAMILIES: Final = {Family.IPV4: objects.FAMILY_IPV4, Family.IPV6: objects.FAMILY_IPV6}


def leftovers(netns: Path | None) -> list[str]:
    """In words, all that kube-proxy has in the kernel. Makes nothing. Raises OSError, NetlinkError."""
    words = {objects.FAMILY_IPV4: "ip", objects.FAMILY_IPV6: "ip6"}
    found = [f"nftables table {words[table.family]} {TABLE}" for table in _tables(netns)]
    for family in Family:
        for variant in Variant:
            for table, there in listing(family, netns, variant).items():
                count = len(dead_chains(there))
                if count:
                    found.append(f"{count} chains of {family} iptables ({variant}), table {table}")
    if _has_ipvs_link(netns):
        found.append(f"link {IPVS_LINK} and {_strangers(netns)} virtual services of mode ipvs")
    return found


def _strangers(netns: Path | None) -> int:
    """How many virtual services that are not ours IPVS has."""
    try:
        with Ipvs(netns) as ipvs:
            return sum(not item.service.flags & SIGNATURE for item in ipvs.services())
    except NoSuchFamily:
        return 0


def hidden(netns: Path | None) -> list[str]:
    """In words, which iptables tables nobody can look into, for want of programs: kube-proxy's rules may be there."""
    return [
        f"{family} iptables ({variant})"
        for family in Family
        for variant in Variant
        if is_hidden(family, netns, variant)
    ]


def remove_leftovers(netns: Path | None) -> None:
    """Takes away kube-proxy's nftables tables and iptables chains; what it left of mode ipvs is not ours to know.

    Raises OSError, NetlinkError. IptablesError, when all that can go is gone, with what could not, and also when there
    are tables that cannot be looked into: who asked for a clean node must not believe that it is one.
    """
    with Nftables(netns) as kernel:
        for table in _tables(netns):
            kernel.commit([(MessageType.DELTABLE, 0, table.address)])
    problems: dict[str, None] = {}
    for family, variant in itertools.product(Family, Variant):
        try:
            _remove_chains(family, netns, variant)
        except IptablesError as error:
            problems[str(error)] = None
    if unseen := hidden(netns):
        told = (
            f"there may be rules of kube-proxy in {', '.join(unseen)}, whose programs are not installed here"
        )
        problems[f"{told}: install iptables, or use kube-proxy --cleanup"] = None
    if problems:
        raise IptablesError("; ".join(problems))


def _remove_chains(family: Family, netns: Path | None, variant: Variant) -> None:
    there = listing(family, netns, variant)
    sections = [section for table, item in there.items() for section in _removal(table, item) if section]
    if sections:
        Iptables(family, netns, variant).restore(restore_text(sections))


def _removal(table: str, there: Listing) -> list[Section]:
    dead = dead_chains(there)
    return removal({table: there}, lambda name: name in dead)


def dead_chains(there: Listing) -> frozenset[str]:
    """kube-proxy's chains, without those that somebody else's chain needs, directly or through others of them."""
    chains: Mapping[str, tuple[str, ...]] = there.chains
    dead = {name for name in chains if name in _CHAINS or name.startswith(_STEMS)}
    needed = [name for name in chains if name not in dead and name not in _BUILT_IN]
    while needed:
        for rule in chains[needed.pop()]:
            target = target_of(rule)
            if target in dead:
                dead.discard(target)
                needed.append(target)
    return frozenset(dead)


def _tables(netns: Path | None) -> list[objects.Table]:
    tables = (objects.Table(TABLE, number) for number in _FAMILIES.values())
    with Nftables(netns) as kernel:
        return [table for table in tables if kernel.table_handle(table) is not None]


def _has_ipvs_link(netns: Path | None) -> bool:
    names = open_in(netns, lambda: Path("/proc/thread-self/net/dev").read_text())
    return any(line.strip().startswith(f"{IPVS_LINK}:") for line in names.splitlines())
