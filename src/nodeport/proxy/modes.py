"""The proxy modes, by name: the one place that knows them all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family
from nodeport.proxy.iptables.proxier import open_iptables, remove_iptables
from nodeport.proxy.ipvs.proxier import drain_ipvs, open_ipvs, remove_ipvs
from nodeport.proxy.nftables.counters import counting
from nodeport.proxy.nftables.proxier import NftablesProxier, open_nftables
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import Proxier, UnsupportedMode

__all__ = ["Mode", "drain_mode", "open_proxier", "remove_mode", "stand_side_by_side"]

Opener = Callable[[Family, Path | None, ProxyOptions], AbstractContextManager[Proxier]]
"""Opens a mode for a family in a network namespace (``None``: the current one)."""

_OPENERS: Final[Mapping[Mode, Opener]] = {
    Mode.NFTABLES: open_nftables,
    Mode.IPTABLES: open_iptables,
    Mode.IPVS: open_ipvs,
}


Remover = Callable[[Family, Path | None], None]
"""Takes away what a mode has in the kernel, for a family, without making anything."""

_REMOVERS: Final[Mapping[Mode, Remover]] = {
    Mode.IPTABLES: remove_iptables,
    Mode.IPVS: remove_ipvs,
}
"""Modes that can do that without being opened."""

_DRAINERS: Final[Mapping[Mode, Callable[[Family, Path | None], bool]]] = {Mode.IPVS: drain_ipvs}
"""Modes whose connections need something of theirs to live on."""


@contextlib.contextmanager
def open_proxier(mode: Mode, family: Family, netns: Path | None, options: ProxyOptions) -> Iterator[Proxier]:
    """The proxier of a mode; leaving the ``with`` leaves the kernel as it is. Raises UnsupportedMode, OSError."""
    opener = _OPENERS.get(mode)
    if opener is None:
        raise UnsupportedMode(f"proxy mode {mode} is not available here; there are: {', '.join(_OPENERS)}")
    with opener(family, netns, options) as proxier:
        if not options.service_counters:
            yield proxier
            return
        with counting(proxier, family, netns) as counted:
            yield counted


def stand_side_by_side(proxiers: Iterable[Proxier]) -> None:
    """What one of these, all of one namespace, commits to nf_tables is not somebody else's doing to the others."""
    tables = [proxier for proxier in proxiers if isinstance(proxier, NftablesProxier)]
    for proxier in tables:
        proxier.stand_beside([other for other in tables if other is not proxier])


def remove_mode(mode: Mode, family: Family, netns: Path | None, options: ProxyOptions) -> None:
    """Takes away what a mode has in the kernel. One that cannot be had here has nothing. Raises what proxiers do."""
    remover = _REMOVERS.get(mode)
    if remover is not None:
        remover(family, netns)
        return
    with contextlib.suppress(UnsupportedMode), open_proxier(mode, family, netns, options) as proxier:
        proxier.remove()


def drain_mode(mode: Mode, family: Family, netns: Path | None, options: ProxyOptions) -> bool:
    """As ``remove_mode``, but leaves what the mode's connections need. True when nothing is left."""
    drain = _DRAINERS.get(mode)
    if drain is not None:
        return drain(family, netns)
    remove_mode(mode, family, netns, options)
    return True
