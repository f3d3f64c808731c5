"""One netlink socket: requests, dumps and atomic batches, with every answer of the kernel read.

All calls are synchronous: the kernel handles a netlink request inside ``send``, so the answers are there when
it returns. Nothing here retries; nothing here knows a family.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from nodeport.netlink import codec
from nodeport.netlink.codec import Message, NetlinkError
from nodeport.netlink.namespace import open_in

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_NLMSGERR_ATTR_MSG: Final = 1
_NLMSGERR_ATTR_OFFS: Final = 2

_READ_SIZE: Final = 1 << 16
"""The kernel never fills more than 32 KiB of a listing at once, and no answer to a request is longer."""
_RECEIVE_BUFFER: Final = 1 << 22
_SEND_RESERVE: Final = 1 << 16
_MAXIMUM_SEND: Final = 1 << 28
"""Beyond this a batch is not worth the unswappable memory: the caller splits it."""
_SEND_OVERHEAD: Final = 64
"""What the kernel keeps of a send buffer for itself."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error message of the kernel: which request (by sequence number), why, its own words if any."""

    sequence: int
    errno: int
    text: str = ""
    offset: int | None = None

    def __str__(self) -> str:
        reason = errno.errorcode.get(self.errno, str(self.errno))
        return f"{reason} ({self.text or os.strerror(self.errno)})"


class KernelRefused(NetlinkError):
    """The kernel refused one or several requests; ``refusals``: in the order of its answers, never empty."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("; ".join(str(refusal) for refusal in self.refusals))

    @property
    def errno(self) -> int:
        """The errno of the first refusal: later ones are often its consequences."""
        return self.refusals[0].errno


class DumpInterrupted(NetlinkError):
    """The objects changed while the kernel was listing them; list again."""


class NetlinkSocket:
    """A netlink socket of one protocol, living in one network namespace.

    Raises OSError where the socket cannot be made, KernelRefused where the kernel says no.
    """

    def __init__(self, protocol: int, netns: Path | None = None, *, groups: Sequence[int] = ()) -> None:
        self._socket = open_in(
            netns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        )
        self._sequence = 0
        self._send_limit = 0
        self._view = memoryview(bytearray(_READ_SIZE))
        try:
            self._set_up(groups)
        except BaseException:
            self._socket.close()
            raise

    def _set_up(self, groups: Sequence[int]) -> None:
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK):
            with contextlib.suppress(OSError):  # older kernels: then there is only less to read in errors
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For ``loop.add_reader`` on sockets that joined multicast groups."""
        return self._socket.fileno()

    def next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF or 1
        return self._sequence

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[Message]:
        """Sends one request, reads up to its acknowledgement; returns the messages that came before that."""
        sequence = self.next_sequence()
        self.send(codec.message(kind, flags | codec.NLM_F_REQUEST | codec.NLM_F_ACK, sequence, payload))
        answers: list[Message] = []
        for answer in self.pending():
            if answer.sequence != sequence:
                continue
            if answer.type != codec.NLMSG_ERROR:
                answers.append(answer)
                continue
            refusal = refusal_of(answer)
            if refusal.errno:
                raise KernelRefused([refusal])
            return answers
        raise NetlinkError(f"the kernel did not acknowledge request type {kind:#x}")

    def dump(self, kind: int, payload: bytes, flags: int = 0) -> Iterator[Message]:
        """Lists what the kernel has; raises DumpInterrupted (at the end) when it changed meanwhile."""
        sequence = self.next_sequence()
        self.send(codec.message(kind, flags | codec.NLM_F_REQUEST | codec.NLM_F_DUMP, sequence, payload))
        interrupted = False
        while True:
            for answer in codec.messages(self._read()):
                if answer.sequence != sequence:
                    continue
                interrupted = interrupted or bool(answer.flags & codec.NLM_F_DUMP_INTR)
                if answer.type == codec.NLMSG_ERROR:
                    raise KernelRefused([refusal_of(answer)])
                if answer.type == codec.NLMSG_DONE:
                    _raise_for_done(answer, interrupted=interrupted)
                    return
                yield answer

    def send(self, buffer: bytes) -> None:
        """Sends whole messages in one call. Raises OSError (EMSGSIZE) beyond ``send_limit``."""
        if len(buffer) + _SEND_RESERVE > self._send_limit:
            self._grow_send_buffer(len(buffer) + _SEND_RESERVE)
        self._socket.send(buffer)

    def send_limit(self) -> int:
        """How many bytes one ``send`` can surely take: what a batch must be split by.

        Without the host's CAP_NET_ADMIN it is what ``net.core.wmem_max`` leaves.
        """
        self._grow_send_buffer(_SEND_RESERVE)
        if self._send_limit >= _SEND_RESERVE:
            return _MAXIMUM_SEND
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAXIMUM_SEND)
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _SEND_OVERHEAD

    def _grow_send_buffer(self, size: int) -> None:
        with contextlib.suppress(PermissionError):  # not root of the host: net.core.wmem_max decides
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
            self._send_limit = max(self._send_limit, size)

    def pending(self) -> Iterator[Message]:
        """Everything the kernel has answered so far; does not wait."""
        while True:
            try:
                buffer = self._receive()
            except BlockingIOError:
                return
            yield from codec.messages(buffer)

    def _read(self) -> bytes:
        try:
            return self._receive()
        except BlockingIOError as error:
            raise NetlinkError("the kernel ended a listing without saying so") from error

    def _receive(self) -> bytes:
        """One read, into memory that is there already: asking for a fresh buffer costs more than a small commit."""
        return bytes(self._view[: self._socket.recv_into(self._view)])


class Connection:
    """What the families build on: one socket of ``protocol`` in one namespace (None: this one's), owned by a ``with``.

    Raises OSError when the namespace is gone.
    """

    protocol: ClassVar[int]

    def __init__(self, netns: Path | None = None) -> None:
        self._socket = NetlinkSocket(self.protocol, netns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()


def refusal_of(answer: Message) -> Refusal:
    """What an NLMSG_ERROR message says; errno 0 is an acknowledgement."""
    if len(answer.payload) < 20:
        raise codec.MalformedMessage(f"error message of {len(answer.payload)} bytes")
    number = -struct.unpack_from("=i", answer.payload)[0]
    if not answer.flags & codec.NLM_F_ACK_TLVS:
        return Refusal(answer.sequence, number)
    length = struct.unpack_from("=I", answer.payload, 4)[0]
    start = 20 if answer.flags & codec.NLM_F_CAPPED else 4 + codec.align(length)
    extra = codec.parse(answer.payload[start:])
    offset = extra.get(_NLMSGERR_ATTR_OFFS)
    return Refusal(
        answer.sequence,
        number,
        codec.text(extra.get(_NLMSGERR_ATTR_MSG, b"")),
        struct.unpack("=I", offset)[0] if offset else None,
    )


def _raise_for_done(answer: Message, *, interrupted: bool) -> None:
    number = -struct.unpack_from("=i", answer.payload)[0] if len(answer.payload) >= 4 else 0
    if number > 0:
        raise KernelRefused([Refusal(answer.sequence, number)])
    if interrupted:
        raise DumpInterrupted("the listed objects changed meanwhile")
