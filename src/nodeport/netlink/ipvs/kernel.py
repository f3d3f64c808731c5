"""The kernel's table of virtual services in one network namespace: requests in, listings out.

A request changes one thing and is not undone when a later one fails; many go in one call.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from nodeport.netlink import codec
from nodeport.netlink.generic import GenericConnection
from nodeport.netlink.ipvs import messages
from nodeport.netlink.ipvs.messages import (
    Command,
    Destination,
    DestinationKey,
    ListedDestination,
    ListedService,
    ServiceKey,
    Timeouts,
    VirtualService,
)
from nodeport.netlink.socket import KernelRefused, Refusal, refusal_of

Request = tuple[bytes, frozenset[int]]
"""The payload, and the errnos that mean "it is so already"."""

_BATCH: Final = 256
_TOLD: Final = 10
"""So many refusals are told; the others are mostly consequences."""
_NOT_THERE: Final = frozenset((errno.ESRCH, errno.ENOENT))
_NOTHING: Final[frozenset[int]] = frozenset()


def new_service(service: VirtualService) -> Request:
    return messages.payload(Command.NEW_SERVICE, messages.service_attribute(service)), _NOTHING


def set_service(service: VirtualService) -> Request:
    return messages.payload(Command.SET_SERVICE, messages.service_attribute(service)), _NOTHING


def delete_service(key: ServiceKey) -> Request:
    """With all its destinations."""
    return messages.payload(Command.DEL_SERVICE, messages.service_name_attribute(key)), _NOT_THERE


def new_destination(key: ServiceKey, destination: Destination) -> Request:
    """A destination that was deleted while connections still used it comes back with them."""
    return _about_destination(Command.NEW_DEST, key, messages.destination_attribute(destination)), _NOTHING


def set_destination(key: ServiceKey, destination: Destination) -> Request:
    return _about_destination(Command.SET_DEST, key, messages.destination_attribute(destination)), _NOTHING


def delete_destination(key: ServiceKey, destination: DestinationKey) -> Request:
    name = messages.destination_name_attribute(destination)
    return _about_destination(Command.DEL_DEST, key, name), _NOT_THERE


def _about_destination(command: Command, key: ServiceKey, destination: bytes) -> bytes:
    return messages.payload(command, messages.service_name_attribute(key), destination)


class Ipvs(GenericConnection):
    """A connection to IPVS of one namespace; synchronous. Raises NoSuchFamily on a kernel without it."""

    family = messages.FAMILY

    def __init__(self, netns: Path | None = None) -> None:
        super().__init__(netns)
        try:
            self._type = self._number()
        except BaseException:
            self.close()
            raise

    def apply(self, requests: Sequence[Request]) -> None:
        """Sends the requests in order, many in one call; all are tried.

        Raises KernelRefused with the first of those refusals that do not mean "it is so already".
        """
        refusals: list[Refusal] = []
        for start in range(0, len(requests), _BATCH):
            refusals += self._apply(requests[start : start + _BATCH])
        if refusals:
            raise KernelRefused(refusals[:_TOLD])

    def _apply(self, requests: Sequence[Request]) -> list[Refusal]:
        """Only the last request asks for an acknowledgement; refusals come unasked."""
        sent: dict[int, frozenset[int]] = {}
        buffer = bytearray()
        last = len(requests) - 1
        for index, (request, settled) in enumerate(requests):
            sequence = self._socket.next_sequence()
            sent[sequence] = settled
            flags = codec.NLM_F_REQUEST | (codec.NLM_F_ACK if index == last else 0)
            buffer += codec.message(self._type, flags, sequence, request)
        self._socket.send(bytes(buffer))
        refusals = []
        answered = False
        for answer in self._socket.pending():
            if answer.type != codec.NLMSG_ERROR or answer.sequence not in sent:
                continue
            refusal = refusal_of(answer)
            answered = answered or refusal.sequence == sequence
            if refusal.errno and refusal.errno not in sent[refusal.sequence]:
                refusals.append(refusal)
        if not answered:
            refusals.append(Refusal(sequence, errno.EPROTO, "the kernel did not acknowledge the requests"))
        return refusals

    def services(self) -> Iterator[ListedService]:
        """All virtual services with an address, everybody's, of both families."""
        for answer in self._socket.dump(self._type, messages.payload(Command.GET_SERVICE)):
            listed = messages.decode_service(answer.payload)
            if listed is not None:
                yield listed

    def service(self, key: ServiceKey) -> ListedService | None:
        """One virtual service, without listing the others."""
        request = messages.payload(Command.GET_SERVICE, messages.service_name_attribute(key))
        try:
            answers = self._socket.request(self._type, request)
        except KernelRefused as refused:
            if refused.errno in _NOT_THERE:
                return None
            raise
        return messages.decode_service(answers[0].payload)

    def destinations(self, key: ServiceKey) -> list[ListedDestination]:
        """The destinations of one virtual service; empty when there is no such service."""
        request = messages.payload(Command.GET_DEST, messages.service_name_attribute(key))
        return [
            messages.decode_destination(answer.payload, key)
            for answer in self._socket.dump(self._type, request)
        ]

    def flush(self) -> None:
        """Deletes every virtual service of the namespace, whoever's it is."""
        self._socket.request(self._type, messages.payload(Command.FLUSH))

    def zero(self, key: ServiceKey) -> None:
        """Sets a virtual service's counters, and those of its destinations, to 0."""
        name = messages.service_name_attribute(key)
        self._socket.request(self._type, messages.payload(Command.ZERO, name))

    def timeouts(self) -> Timeouts:
        answers = self._socket.request(self._type, messages.payload(Command.GET_CONFIG))
        return messages.decode_timeouts(answers[0].payload)

    def set_timeouts(self, timeouts: Timeouts) -> None:
        self._socket.request(self._type, messages.timeouts_payload(timeouts))
