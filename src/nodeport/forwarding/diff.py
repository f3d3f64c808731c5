"""Small changes stay small: endpoints keep their slots.

A route's endpoints are numbered slots in the kernel. Sorting them anew after each change would move most of them;
here whoever stays, stays where he is, and the last ones fill the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from nodeport.forwarding.table import Endpoint, Forwarding, Route, Routes

Slot = tuple[bytes, int]
"""An endpoint as a slot holds it: address (packed) and port."""


def settle(before: Sequence[Slot], endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """``endpoints`` reordered so that as many as possible keep the place they have in ``before``.

    Removing one out of many changes one slot besides the last; adding one changes none.
    """
    if not before or not endpoints:
        return endpoints
    wanted = {(endpoint.packed, endpoint.port): endpoint for endpoint in endpoints}
    slots: list[Endpoint | None] = [wanted.pop(slot, None) for slot in before[: len(endpoints)]]
    slots.extend([None] * (len(endpoints) - len(slots)))
    rest = iter(wanted.values())
    return tuple([kept if kept is not None else next(rest) for kept in slots])


def slots_of(route: Route) -> list[Slot]:
    return [(endpoint.packed, endpoint.port) for endpoint in route.endpoints]


def settle_forwarding(before: Forwarding | None, forwarding: Forwarding) -> Forwarding:
    """``forwarding`` with the slots of ``before``; equal to ``before`` when only the order differed."""
    if before is None or before == forwarding:
        return forwarding
    settled: dict[tuple[int, int], tuple[Endpoint, ...]] = {}

    def route(old: Route, new: Route) -> Route:
        """Routes share their lists of endpoints: each pair of lists is settled once, and shared again."""
        pair = (id(old.endpoints), id(new.endpoints))
        endpoints = settled.get(pair)
        if endpoints is None:
            endpoints = settled[pair] = settle(slots_of(old), new.endpoints)
        return new if endpoints is new.endpoints else Route(new.verdict, endpoints, new.masquerade)

    def routes(old: Routes, new: Routes) -> Routes:
        return Routes(route(old.pod, new.pod), route(old.node, new.node), route(old.outside, new.outside))

    return replace(
        forwarding,
        internal=routes(before.internal, forwarding.internal),
        external=routes(before.external, forwarding.external),
    )
