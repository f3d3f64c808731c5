"""Tables that belong to a socket: nobody else may change them, and they go with it, however its process ends.

Needs Linux 5.12. ``nft`` prints the comment; ``nft flush ruleset`` passes such tables by.
"""

from __future__ import annotations

import errno
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.netlink.nftables.objects import MessageType, Table
from nodeport.netlink.socket import KernelRefused

_FLAGS: Final = 2
_USERDATA: Final = 6
_OWNER: Final = 0x2
_COMMENT: Final = 0
"""nft's tag of a comment in a table's userdata."""
_LONGEST_COMMENT: Final = 127
_TAKEN: Final = frozenset((errno.EPERM, errno.EEXIST))


class OwnersUnknown(Exception):
    """The kernel knows no owners of tables, or no nf_tables at all."""


class TableOwner(Nftables):
    """Its connection is the owner: closing it deletes what it took."""

    def take(self, table: Table, comment: str) -> bool:
        """Makes ``table`` ours; False when it is somebody else's. A table of that name without an owner makes room.

        Raises OwnersUnknown, and KernelRefused (EPERM) for those who may not make tables at all.
        """
        there = self._table(table)
        if there is not None:
            if _flags(there) & _OWNER:
                return False
            self.commit([(MessageType.DELTABLE, 0, table.address)])
        try:
            self.commit(
                [(MessageType.NEWTABLE, codec.NLM_F_CREATE | codec.NLM_F_EXCL, _payload(table, comment))]
            )
        except KernelRefused as refused:
            if refused.errno in _TAKEN and self._table(table) is not None:  # by somebody who was quicker
                return False
            if refused.errno in _TAKEN:
                raise
            raise OwnersUnknown(str(refused)) from refused
        return True

    def comment(self, table: Table) -> str | None:
        """What the owner of ``table`` says about it; None when there is no such table."""
        there = self._table(table)
        if there is None:
            return None
        userdata = codec.parse(there[4:]).get(_USERDATA, b"")
        if len(userdata) < 2 or userdata[0] != _COMMENT:
            return ""
        return codec.text(userdata[2 : 2 + userdata[1]])


def _flags(listed: bytes) -> int:
    return int.from_bytes(codec.parse(listed[4:]).get(_FLAGS, b""), "big")


def _payload(table: Table, comment: str) -> bytes:
    text = comment.encode("ascii", "replace")[:_LONGEST_COMMENT] + b"\0"
    userdata = bytes((_COMMENT, len(text))) + text
    return table.address + codec.u32be(_FLAGS, _OWNER) + codec.attribute(_USERDATA, userdata)
