"""Takes away every rule of every mode, whoever of us made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nodeport.forwarding.table import Family
from nodeport.proxy.kubeproxy import remove_leftovers
from nodeport.proxy.modes import remove_mode
from nodeport.proxy.nftables.counters import remove_counters
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import FAILURES, ProxierError


def remove_all(netns: Path | None, *, also_kube_proxy: bool) -> None:
    """Removes what can be, and then raises ProxierError with all that could not."""
    problems: dict[str, None] = {}
    for step in _steps(netns, also_kube_proxy=also_kube_proxy):
        try:
            step()
        except FAILURES as error:
            problems[str(error)] = None
    if problems:
        raise ProxierError("; ".join(problems))


def _steps(netns: Path | None, *, also_kube_proxy: bool) -> Iterator[Callable[[], None]]:
    for family in Family:
        yield partial(remove_counters, family, netns)
        for mode in Mode:
            yield partial(remove_mode, mode, family, netns, ProxyOptions(mode=mode, families=(family,)))
    if also_kube_proxy:
        yield partial(remove_leftovers, netns)
