"""Where endpoints sit in the kernel's maps, read back so that a restarted proxy leaves them there."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from nodeport.forwarding.diff import Slot, settle
from nodeport.forwarding.table import Forwarding, NodePort, Route, Routes, ServicePortName
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.layout import OUTSIDE_IPS, OUTSIDE_NODEPORTS, Lookup
from nodeport.proxy.nftables.render import frontend_key, slot_key, slot_of
from nodeport.proxy.nftables.ruleset import Elements


class KernelSlots:
    """Endpoints by frontend and slot, as the kernel listed them."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements

    def settle(self, name: ServicePortName, forwarding: Forwarding) -> Forwarding:
        """``forwarding`` with every endpoint in the slot where the kernel already has it."""
        internal, external = forwarding.internal, forwarding.external
        for frontend in forwarding.frontends:
            key = frontend_key(name, frontend)
            routes = forwarding.routes(frontend)
            by_address = not isinstance(frontend, NodePort)
            inside = self._read(layout.IPS if by_address else layout.NODEPORTS, key)
            outside = self._read(OUTSIDE_IPS if by_address else OUTSIDE_NODEPORTS, key) or inside
            if not inside and not outside:
                continue
            settled = Routes(
                _settled(routes.pod, inside), _settled(routes.node, inside), _settled(routes.outside, outside)
            )
            if routes is forwarding.internal:
                internal = settled
            else:
                external = settled
        return replace(forwarding, internal=internal, external=external)

    def _read(self, lookup: Lookup, key: bytes) -> list[Slot]:
        elements = self._elements.get(lookup.endpoints, {})
        slots: list[Slot] = []
        while True:
            data = elements.get(slot_key(key, len(slots)))
            if not isinstance(data, bytes):
                return slots
            slots.append(slot_of(data))


def _settled(route: Route, slots: Sequence[Slot]) -> Route:
    return replace(route, endpoints=settle(slots, route.endpoints)) if slots and route.endpoints else route
