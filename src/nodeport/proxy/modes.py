"""The proxy modes, by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family
from nodeport.proxy.iptables.proxier import open_iptables
from nodeport.proxy.ipvs.proxier import open_ipvs
from nodeport.proxy.nftables.proxier import open_nftables
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import Proxier, UnsupportedMode

__all__ = ["Mode", "open_proxier"]

Opener = Callable[[Family, Path | None, ProxyOptions], AbstractContextManager[Proxier]]
"""Opens a mode for a family in a network namespace (``None``: the current one)."""

_OPENERS: Final[Mapping[Mode, Opener]] = {
    Mode.NFTABLES: open_nftables,
    Mode.IPTABLES: open_iptables,
    Mode.IPVS: open_ipvs,
}


def open_proxier(
    mode: Mode, family: Family, netns: Path | None, options: ProxyOptions
) -> AbstractContextManager[Proxier]:
    """The proxier of a mode; leaving the ``with`` leaves the kernel as it is. Raises UnsupportedMode, OSError."""
    opener = _OPENERS.get(mode)
    if opener is None:
        raise UnsupportedMode(f"proxy mode {mode} is not available here; there are: {', '.join(_OPENERS)}")
    return opener(family, netns, options)
