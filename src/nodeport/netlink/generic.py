"""Generic netlink: finding a family by its name, and the header that its messages begin with.

Format: ``linux/genetlink.h``. The functions are pure; `GenericConnection` asks the kernel, which loads the family's
module when it is asked for it.
"""

from __future__ import annotations

import errno
import struct
from typing import ClassVar, Final

from nodeport.netlink import codec
from nodeport.netlink.codec import MalformedMessage, NetlinkError
from nodeport.netlink.socket import Connection, KernelRefused

NETLINK_GENERIC: Final = 16
HEADER: Final = struct.Struct("=BBxx")
"""command, version"""
_CONTROLLER: Final = 16
_GETFAMILY: Final = 3
_CONTROLLER_VERSION: Final = 1
_FAMILY_ID: Final = 1
_FAMILY_NAME: Final = 2


class NoSuchFamily(NetlinkError):
    """The kernel has no generic netlink family of that name, and no module that brings it."""


def family_request(name: str) -> bytes:
    """The payload that asks the controller for a family's number."""
    return HEADER.pack(_GETFAMILY, _CONTROLLER_VERSION) + codec.string(_FAMILY_NAME, name)


def family_number(payload: bytes) -> int:
    """The number in the controller's answer: the message type of the family's own messages."""
    found = codec.parse(payload[HEADER.size :]).get(_FAMILY_ID, b"")
    if len(found) != 2:
        raise MalformedMessage("the controller's answer names no family number")
    return int(struct.unpack("=H", found)[0])


class GenericConnection(Connection):
    """A connection to one family of one network namespace. Raises NoSuchFamily on a kernel without it."""

    protocol = NETLINK_GENERIC
    family: ClassVar[str]

    def _number(self) -> int:
        """Asked once by whoever derives; the number stays the same as long as the kernel runs."""
        try:
            answers = self._socket.request(_CONTROLLER, family_request(self.family))
        except KernelRefused as refused:
            if refused.errno != errno.ENOENT:
                raise
            raise NoSuchFamily(f"this kernel has no generic netlink family {self.family}") from refused
        return family_number(answers[0].payload)
