"""Which of the two variants of the programs is in use on a node, found out without making anything.

Asking the legacy programs about a table makes the kernel have it, so they are only asked about those that are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family
from nodeport.netlink.namespace import open_in
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.iptables.programs import Iptables, LegacyTables
from nodeport.proxy.iptables.ruleset import Listing, Table
from nodeport.proxy.options import Variant

_HINTS: Final = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
"""Chains by which the kubelet tells everybody on the node which variant it uses."""


def listing(family: Family, netns: Path | None, variant: Variant) -> dict[str, Listing]:
    """All tables of a variant that are there; none where its programs are not installed."""
    programs = Iptables(family, netns, variant)
    if not programs.is_installed() or not _has_tables(family, netns, variant):
        return {}
    return programs.read()


def is_hidden(family: Family, netns: Path | None, variant: Variant) -> bool:
    """Whether a variant has tables here that nobody can read, since its programs are not installed."""
    return not Iptables(family, netns, variant).is_installed() and _has_tables(family, netns, variant)


def choose_variant(family: Family, netns: Path | None) -> Variant:
    """Where our chains are already, else what the kubelet says, else where most of the rules are, else legacy.

    Legacy, because it programs many Services faster; but not where the kernel does not have it.
    """
    listings = {variant: listing(family, netns, variant) for variant in Variant}
    for variant, tables in listings.items():
        if any(item.ours() for item in tables.values()):
            return variant
    for variant in (Variant.NFT, Variant.LEGACY):
        if any(hint in listings[variant].get("mangle", Listing()).chains for hint in _HINTS):
            return variant
    counts = {variant: sum(map(_length, tables.values())) for variant, tables in listings.items()}
    if counts[Variant.NFT] > counts[Variant.LEGACY] or not has_legacy(family, netns):
        return Variant.NFT
    return Variant.LEGACY


def _length(item: Listing) -> int:
    return sum(map(len, item.chains.values()))


def _has_tables(family: Family, netns: Path | None, variant: Variant) -> bool:
    if variant is Variant.LEGACY:
        return bool(legacy_tables(family, netns))
    kind = objects.FAMILY_IPV6 if family is Family.IPV6 else objects.FAMILY_IPV4
    try:
        with Nftables(netns) as kernel:
            names = ("mangle", *Table)
            return any(kernel.table_handle(objects.Table(name, kind)) is not None for name in names)
    except OSError:
        return False


def legacy_tables(family: Family, netns: Path | None) -> frozenset[str]:
    """The tables that the legacy interface has in a namespace."""
    name = "ip6_tables_names" if family is Family.IPV6 else "ip_tables_names"

    def names() -> frozenset[str]:
        try:
            return frozenset(Path("/proc/thread-self/net", name).read_text().split())
        except FileNotFoundError:
            return frozenset()

    return open_in(netns, names)


def has_legacy(family: Family, netns: Path | None) -> bool:
    """Whether the kernel has the legacy interface, and the programs are there. Makes the table that it asks about."""
    if not Iptables(family, netns, Variant.LEGACY).is_installed():
        return False
    try:
        tables = LegacyTables(family, netns)
    except OSError:
        return False
    try:
        tables.entries(Table.NAT)
    except OSError:
        return False
    finally:
        tables.close()
    return True
