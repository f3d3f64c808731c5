"""The kernel's conntrack limits and timeouts as the configuration wants them."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport.api.kubeproxy.types import Conntrack
from nodeport.netlink.namespace import open_in

_SYSCTLS: Final = Path("/proc/sys/net/netfilter")
_HASH_SIZE: Final = Path("/sys/module/nf_conntrack/parameters/hashsize")


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: int


def settings(wanted: Conntrack, cores: int) -> Iterator[Setting]:
    """What kube-proxy would set; zero leaves the kernel's own."""
    limit = max((wanted.maxPerCore or 0) * cores, wanted.min or 0) if wanted.maxPerCore else 0
    if limit:
        yield Setting("nf_conntrack_max", limit)
    timeouts = (
        ("tcp_timeout_established", wanted.tcpEstablishedTimeout),
        ("tcp_timeout_close_wait", wanted.tcpCloseWaitTimeout),
        ("udp_timeout", wanted.udpTimeout),
        ("udp_timeout_stream", wanted.udpStreamTimeout),
    )
    for name, timeout in timeouts:
        if timeout:
            yield Setting(f"nf_conntrack_{name}", timeout // timedelta(seconds=1))
    if wanted.tcpBeLiberal:
        yield Setting("nf_conntrack_tcp_be_liberal", 1)


def apply(wanted: Iterable[Setting], netns: Path | None) -> list[str]:
    """Sets what differs; returns what could not be set, a sentence each."""
    todo = list(wanted)
    return open_in(netns, lambda: [problem for setting in todo if (problem := _apply_one(setting))])


def _apply_one(setting: Setting) -> str:
    path = _SYSCTLS / setting.name
    try:
        if path.read_text().strip() != str(setting.value):
            path.write_text(f"{setting.value}\n")
        if setting.name == "nf_conntrack_max":
            _grow_table(setting.value)
    except OSError as error:
        reason = (
            "read-only here" if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else error.strerror
        )
        return f"cannot set {setting.name} to {setting.value}: {reason}"
    return ""


def _grow_table(limit: int) -> None:
    """The kernel's own ratio: four entries a bucket. A table is never made smaller."""
    wanted = limit // 4
    if _HASH_SIZE.exists() and int(_HASH_SIZE.read_text()) < wanted:
        _HASH_SIZE.write_text(str(wanted))
