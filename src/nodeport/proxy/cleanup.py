"""Takes away every rule of every mode, whoever of us made it."""

from __future__ import annotations

from pathlib import Path

from nodeport.forwarding.table import Family
from nodeport.proxy.kubeproxy import remove_leftovers
from nodeport.proxy.modes import remove_mode
from nodeport.proxy.nftables.counters import remove_counters
from nodeport.proxy.options import Mode, ProxyOptions


def remove_all(netns: Path | None, *, also_kube_proxy: bool) -> None:
    """Raises what a proxier may raise; what was removed before that stays removed."""
    for family in Family:
        remove_counters(family, netns)
        for mode in Mode:
            remove_mode(mode, family, netns, ProxyOptions(mode=mode, families=(family,)))
    if also_kube_proxy:
        remove_leftovers(netns)
