"""Hears from the kernel when somebody touches what the pod network consists of."""

from __future__ import annotations

import asyncio
import errno
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeport.netlink.codec import Message
from nodeport.netlink.route import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWLINK,
    RTPROT_PEERS,
)
from nodeport.netlink.socket import NETLINK_ROUTE, NetlinkSocket

_LINKS, _NEIGHBOURS = 1, 3
_ADDRESSES, _ROUTES = (5, 9), (7, 11)
"""Multicast groups of rtnetlink: of IPv4 and of IPv6."""
_INDEX_AT, _PROTOCOL_AT = 4, 5


@contextmanager
def watching(
    netns: Path | None, links: Callable[[], frozenset[int]], told: Callable[[], None]
) -> Iterator[None]:
    """Calls ``told`` in this loop when a route of ours goes, or one of ``links`` or something on it changes.

    Raises OSError when the namespace is gone.
    """
    groups = (_LINKS, _NEIGHBOURS, *_ADDRESSES, *_ROUTES)
    with NetlinkSocket(NETLINK_ROUTE, netns, groups=groups) as kernel:
        loop = asyncio.get_running_loop()

        def readable() -> None:
            try:
                heard = list(kernel.pending())  # all of them, or the loop calls us again
                if any(matters(message, links()) for message in heard):
                    told()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                told()  # more happened than the kernel could tell

        loop.add_reader(kernel.fileno(), readable)
        try:
            yield
        finally:
            loop.remove_reader(kernel.fileno())


def matters(message: Message, links: Iterable[int]) -> bool:
    """Whether the change is one to look at. Pure."""
    if message.type == RTM_DELROUTE:
        return message.payload[_PROTOCOL_AT] == RTPROT_PEERS
    if message.type in (RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_DELNEIGH):
        return struct.unpack_from("=i", message.payload, _INDEX_AT)[0] in links
    return False
