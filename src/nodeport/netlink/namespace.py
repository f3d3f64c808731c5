"""Making something inside another network namespace without leaving ours.

A socket belongs for life to the namespace it was made in, so a thread only has to visit: enter, make, come
back. The visit is synchronous, hence no other task of the loop can run in the wrong namespace.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
_OWN_NAMESPACE = "/proc/thread-self/ns/net"

T = TypeVar("T")


def open_in(netns: Path | None, factory: Callable[[], T]) -> T:
    """What ``factory()`` returns when called inside the network namespace ``netns``; ``None``: the current one.

    Raises OSError when the namespace cannot be entered (it is gone, or we lack CAP_SYS_ADMIN). A thread that
    cannot come back is of no use to anybody: that ends the process.
    """
    if netns is None:
        return factory()
    own = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            return factory()
        finally:
            _return_to(own)
    finally:
        os.close(own)


def family_of(host: str) -> socket.AddressFamily:
    """What kind of socket reaches ``host``, an address or a name: of names only IPv4 addresses are looked for."""
    try:
        return socket.AF_INET6 if isinstance(ip_address(host), IPv6Address) else socket.AF_INET
    except ValueError:
        return socket.AF_INET


def _return_to(own: int) -> None:
    try:
        _setns(own)
    except OSError as error:
        raise SystemExit(f"cannot return to our own network namespace: {error}") from error


def _setns(fd: int) -> None:
    """setns(2); the os module has it only from Python 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
