"""Takes away every rule of every mode that this installation has."""

from __future__ import annotations

from pathlib import Path

from nodeport.forwarding.table import Family
from nodeport.proxy.modes import open_proxier
from nodeport.proxy.nftables.counters import remove_counters
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import UnsupportedMode


def remove_all(netns: Path | None) -> None:
    """Raises what a proxier may raise; what was removed before that stays removed."""
    for family in Family:
        remove_counters(family, netns)
    for mode in Mode:
        for family in Family:
            try:
                with open_proxier(
                    mode, family, netns, ProxyOptions(mode=mode, families=(family,))
                ) as proxier:
                    proxier.remove()
            except UnsupportedMode:
                continue  # it can have left nothing here
