"""From the virtual services that are there to those that are wanted. Pure.

Two halves, with the commit of the table beside IPVS in between. Widening makes everything that is new: nobody is sent
astray by it, for until then the table refuses new frontends. Narrowing takes away what nobody is sent to any more.

A destination that must go is given weight 0 first: it gets no new connections and keeps those it has, as in the other
modes, where established connections do not care about rules. It is deleted when the last one has ended. Of UDP there is
no end to wait for, so its destinations go at once, and their connections with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from nodeport.forwarding.table import Protocol
from nodeport.netlink.ipvs import kernel
from nodeport.netlink.ipvs.kernel import Request
from nodeport.netlink.ipvs.messages import Destination, DestinationKey, VirtualService
from nodeport.proxy.ipvs.render import Spelled

_LEAVING: Final = 0
_SERVING: Final = 1


@dataclass(slots=True)
class Present:
    """One virtual service as the kernel has it."""

    service: VirtualService
    weights: dict[DestinationKey, int] = field(default_factory=dict)

    @property
    def leaving(self) -> list[DestinationKey]:
        return [key for key, weight in self.weights.items() if weight == _LEAVING]

    @property
    def serving(self) -> list[DestinationKey]:
        return [key for key, weight in self.weights.items() if weight != _LEAVING]

    def copy(self) -> Present:
        return Present(self.service, dict(self.weights))


@dataclass(slots=True)
class Step:
    """Requests in the order to send them in, and how each is undone."""

    requests: list[Request] = field(default_factory=list)
    _inverses: list[Callable[[], Request]] = field(default_factory=list)

    def add(self, request: Request, inverse: Callable[[], Request]) -> None:
        self.requests.append(request)
        self._inverses.append(inverse)

    def undo(self) -> list[Request]:
        """What takes back all that ``add`` added, last things first."""
        return [inverse() for inverse in reversed(self._inverses)]


def widen(there: Present | None, wanted: Spelled, step: Step) -> Present:
    """Adds to ``step`` what makes the kernel have all of ``wanted``; returns what it has then."""
    key = wanted.service.key
    if there is None:
        present = Present(wanted.service)
        step.add(kernel.new_service(wanted.service), partial(kernel.delete_service, key))
    else:
        present = there.copy()
        if there.service != wanted.service:
            step.add(kernel.set_service(wanted.service), partial(kernel.set_service, there.service))
            present.service = wanted.service
    for destination in sorted(wanted.destinations):
        weight = present.weights.get(destination)
        serving = Destination(destination, _SERVING)
        if weight is None:
            step.add(
                kernel.new_destination(key, serving), partial(kernel.delete_destination, key, destination)
            )
        elif weight != _SERVING:
            before = Destination(destination, weight)
            step.add(kernel.set_destination(key, serving), partial(kernel.set_destination, key, before))
        present.weights[destination] = _SERVING
    return present


def narrow(there: Present, wanted: Spelled | None, step: Step) -> Present | None:
    """Adds to ``step`` what makes the kernel have no more than ``wanted``; returns what it has then."""
    key = there.service.key
    keep = wanted.destinations if wanted is not None else frozenset()
    present = there.copy()
    gone: list[Request] = []
    for destination in sorted(there.weights.keys() - keep):
        if key.protocol == Protocol.UDP:
            del present.weights[destination]
            gone.append(kernel.delete_destination(key, destination))
        elif there.weights[destination] != _LEAVING:
            present.weights[destination] = _LEAVING
            gone.append(kernel.set_destination(key, Destination(destination, _LEAVING)))
    if wanted is None and not present.weights:
        step.requests.append(kernel.delete_service(key))
        return None
    step.requests.extend(gone)
    return present


def bury(there: Present, ended: Iterable[DestinationKey], *, wanted: bool, step: Step) -> Present | None:
    """Adds to ``step`` what deletes leaving destinations without connections, and a service that nobody wants."""
    key = there.service.key
    present = there.copy()
    for destination in ended:
        if present.weights.pop(destination, None) is not None:
            step.requests.append(kernel.delete_destination(key, destination))
    if present.weights or wanted:
        return present
    step.requests.append(kernel.delete_service(key))
    return None
