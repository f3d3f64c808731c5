"""The kernel's settings of connection tracking that kube-proxy takes care of, by its rules.

The limit of entries and the size of the hash table are only ever raised; timeouts and the liberal view of TCP windows
are set as they are wanted, and left alone where they are not.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport.api.kubeproxy.types import Conntrack
from nodeport.netlink.namespace import open_in

_MOST: Final = 1 << 20
"""However many cores there are, no more entries than this are asked for by their number."""
_ENTRIES_PER_BUCKET: Final = 4

HASHSIZE: Final = "hashsize"
MAX: Final = "nf_conntrack_max"
ESTABLISHED: Final = "nf_conntrack_tcp_timeout_established"
CLOSE_WAIT: Final = "nf_conntrack_tcp_timeout_close_wait"
LIBERAL: Final = "nf_conntrack_tcp_be_liberal"
UDP: Final = "nf_conntrack_udp_timeout"
UDP_STREAM: Final = "nf_conntrack_udp_timeout_stream"
_SETTINGS: Final = (MAX, HASHSIZE, ESTABLISHED, CLOSE_WAIT, LIBERAL, UDP, UDP_STREAM)


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: int

    @property
    def path(self) -> Path:
        return _path(self.name)


def limit(wanted: Conntrack, cores: int) -> int:
    """How many entries there should be room for; 0: as many as there are."""
    if not wanted.maxPerCore or wanted.maxPerCore < 0:
        return 0
    scaled = wanted.maxPerCore * cores
    return _MOST if scaled > _MOST else max(scaled, wanted.min or 0)


def settings_to_write(wanted: Conntrack, cores: int, there: Mapping[str, int]) -> Iterator[Setting]:
    """What must be written, in order. ``there``: the settings as they are; one that cannot be read is not in it."""
    most = limit(wanted, cores)
    if most:
        if there.get(MAX, 0) < most:
            yield Setting(MAX, most)
        if HASHSIZE in there and there[HASHSIZE] < most // _ENTRIES_PER_BUCKET:
            yield Setting(HASHSIZE, most // _ENTRIES_PER_BUCKET)
    values = {
        ESTABLISHED: _seconds(wanted.tcpEstablishedTimeout),
        CLOSE_WAIT: _seconds(wanted.tcpCloseWaitTimeout),
        LIBERAL: int(wanted.tcpBeLiberal),
        UDP: _seconds(wanted.udpTimeout),
        UDP_STREAM: _seconds(wanted.udpStreamTimeout),
    }
    for name, value in values.items():
        if value > 0 and there.get(name) != value:
            yield Setting(name, value)


def apply_settings(wanted: Conntrack, cores: int, netns: Path | None = None) -> list[str]:
    """Writes what differs, in the network namespace ``netns``; returns what could not be written, a sentence each.

    ``cores`` are the machine's. The limit and the hash table belong to the whole machine: only its first namespace may
    set them. One setting that cannot be written keeps none of the others from being.
    """

    def write() -> list[str]:
        problems = (_write(setting) for setting in settings_to_write(wanted, cores, _read()))
        return [problem for problem in problems if problem]

    return open_in(netns, write)


def _write(setting: Setting) -> str:
    try:
        setting.path.write_text(str(setting.value))
    except OSError as error:
        denied = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
        return (
            f"cannot set {setting.name} to {setting.value}: {'read-only here' if denied else error.strerror}"
        )
    return ""


def _read() -> dict[str, int]:
    found: dict[str, int] = {}
    for name in _SETTINGS:
        try:
            found[name] = int(_path(name).read_text())
        except (OSError, ValueError):
            continue  # not there: an attempt to write it says why
    return found


def _path(name: str) -> Path:
    if name == HASHSIZE:
        return Path("/sys/module/nf_conntrack/parameters/hashsize")
    return Path("/proc/sys/net/netfilter", name)


def _seconds(duration: timedelta | None) -> int:
    return int(duration.total_seconds()) if duration is not None else 0
