"""iptables-save and iptables-restore, run inside a network namespace.

OSError
└── IptablesError     a program failed, or is not there; the text is what it said
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Final

from nodeport.forwarding.table import Family
from nodeport.netlink.namespace import open_in
from nodeport.proxy.iptables.ruleset import Listing, Table, read_listings
from nodeport.proxy.options import Variant

LOCK_SECONDS: Final = 5
"""How long a program waits for another one that holds the lock of all iptables programs."""
_PATIENCE: Final = 120.0
_NOT_ROOT: Final = "you must be root"
_SEARCH_PATH: Final = ":/usr/local/sbin:/usr/sbin:/sbin"


class IptablesError(OSError):
    """A program failed, or is not there."""


class Iptables:
    """The programs of one family and variant. ``netns``: the network namespace, ``None`` for the current one."""

    def __init__(self, family: Family, netns: Path | None, variant: Variant) -> None:
        self.family = family
        self.variant = variant
        self.netns = netns
        self._stem = f"ip{'6' if family is Family.IPV6 else ''}tables-{variant}"

    def is_installed(self) -> bool:
        return _find(f"{self._stem}-restore") is not None and _find(f"{self._stem}-save") is not None

    def read(self) -> dict[str, Listing]:
        """Every table there is, by name. Makes none."""
        return read_listings(self._run("save"))

    def restore(self, text: str) -> None:
        """Commits ``text``, table after table; a table is changed whole or not at all."""
        self._run("restore", "--wait", str(LOCK_SECONDS), "--noflush", text=text)

    def _run(self, verb: str, *arguments: str, text: str = "") -> str:
        program = _find(f"{self._stem}-{verb}")
        if program is None:
            raise IptablesError(f"there is no program {self._stem}-{verb}: install iptables")
        process = open_in(
            self.netns,
            lambda: subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", "") + _SEARCH_PATH, "LC_ALL": "C"},
            ),
        )
        with process:
            try:
                output, complaint = process.communicate(text.encode(), timeout=_PATIENCE)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise IptablesError(f"{self._stem}-{verb} took longer than {_PATIENCE:.0f} s") from error
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise IptablesError(
                _explained(
                    f"{self._stem}-{verb}", process.returncode, complaint.decode(errors="replace"), text
                )
            )
        return output.decode()


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + _SEARCH_PATH)


def _explained(program: str, status: int, complaint: str, text: str) -> str:
    """What a program said, without its hints, and with the line that it complains about."""
    said = [
        line.strip() for line in complaint.splitlines() if line.strip() and not line.startswith(("#", "Try "))
    ]
    words = " ".join(said).replace(":", " ").split()
    lines = text.splitlines()
    for before, number in itertools.pairwise(words):
        if before == "line" and number.isdigit() and 0 < int(number) <= len(lines):
            said.append(f"({lines[int(number) - 1]})")
            break
    if _NOT_ROOT in complaint and f"-{Variant.LEGACY}-" in program:
        del said[4:]
        said.append("(tables of the legacy interface take CAP_NET_RAW besides CAP_NET_ADMIN)")
    return f"{program} ended with status {status}: {' '.join(said[:5])}"


class LegacyTables:
    """Asks the kernel how long a table of the legacy interface is: one system call, whatever its length."""

    _GET_INFO: Final = 64
    _LENGTH: Final = 84

    def __init__(self, family: Family, netns: Path | None) -> None:
        kind, self._level = (
            (socket.AF_INET, socket.IPPROTO_IP)
            if family is Family.IPV4
            else (socket.AF_INET6, socket.IPPROTO_IPV6)
        )
        self._socket = open_in(netns, lambda: socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def close(self) -> None:
        self._socket.close()

    def entries(self, table: Table) -> tuple[int, int]:
        """How many entries a table has, and how many bytes they take. Raises OSError."""
        info = ctypes.create_string_buffer(str(table).encode(), self._LENGTH)
        length = ctypes.c_uint32(self._LENGTH)
        number = self._socket.fileno()
        if self._libc.getsockopt(number, self._level, self._GET_INFO, info, ctypes.byref(length)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot ask about table {table}: {os.strerror(error)}")
        entries, size = struct.unpack("=II", info.raw[76:84])
        return entries, size


def set_route_localnet(netns: Path | None, *, on: bool) -> None:
    """Whether IPv4 packets may go from and to loopback addresses over the wire. Raises OSError."""
    setting, value = Path("/proc/sys/net/ipv4/conf/all/route_localnet"), "1" if on else "0"

    def write() -> None:
        if setting.read_text().strip() != value:
            setting.write_text(value)

    open_in(netns, write)
