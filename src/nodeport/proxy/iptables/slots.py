"""In which order the kernel's chains try endpoints, read back so that a restarted proxy leaves them so."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from msgspec.structs import replace

from nodeport.forwarding.diff import Slot, settle, slots_of
from nodeport.forwarding.table import Forwarding, Route, Routes, ServicePortName
from nodeport.proxy.iptables.render import EXTERNAL, INTERNAL, OUTSIDE, list_chain
from nodeport.proxy.iptables.ruleset import Rules, target_of


class ChainSlots:
    """Endpoints by chain, as the kernel listed them. ``nat``: our chains."""

    def __init__(self, nat: Mapping[str, Rules]) -> None:
        self._nat = nat

    def settle(self, name: ServicePortName, forwarding: Forwarding) -> Forwarding:
        """``forwarding`` with its endpoints in the order in which the kernel has them."""
        lists = {role: self._read(name, role) for role in (INTERNAL, EXTERNAL, OUTSIDE)}
        return replace(
            forwarding,
            internal=_settled(forwarding.internal, lists, INTERNAL),
            external=_settled(forwarding.external, lists, EXTERNAL),
        )

    def _read(self, name: ServicePortName, role: str) -> list[Slot]:
        slots: dict[Slot, None] = {}
        for rule in self._nat.get(list_chain(name, role), ()):
            target = target_of(rule) or ""
            for spelled in (rule, *self._nat.get(target, ())):
                _, found, place = spelled.partition(" --to-destination ")
                if found:
                    slots[_slot(place)] = None
        return list(slots)


def _slot(place: str) -> Slot:
    host, _, port = place.rpartition(":")
    return ip_address(host.strip("[]")).packed, int(port)


def _settled(routes: Routes, lists: Mapping[str, list[Slot]], role: str) -> Routes:
    inside = [lists[role], *lists.values()]
    outside = [lists[OUTSIDE], *lists.values()]
    return Routes(_placed(routes.pod, inside), _placed(routes.node, inside), _placed(routes.outside, outside))


def _placed(route: Route, lists: list[list[Slot]]) -> Route:
    """Lists that are the same share a chain, whatever it is called: so the one that fits goes first."""
    wanted = set(slots_of(route))
    slots = next((item for item in lists if set(item) == wanted), None) or next(filter(None, lists), [])
    return replace(route, endpoints=settle(slots, route.endpoints)) if slots and route.endpoints else route
