"""Small changes stay small: endpoints keep their slots.

A route's endpoints are numbered slots in the kernel. Sorting them anew after each change would move most of them;
here whoever stays, stays where he is, and the last ones fill the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nodeport.forwarding.table import Endpoint, Forwarding, Route, Routes

Slot = tuple[int, int]
"""An endpoint as a slot holds it: address (as an integer) and port."""


def settle(before: Sequence[Slot], endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """``endpoints`` reordered so that as many as possible keep the place they have in ``before``.

    Removing one out of many changes one slot besides the last; adding one changes none.
    """
    wanted = {(int(endpoint.address), endpoint.port): endpoint for endpoint in endpoints}
    slots: list[Endpoint | None] = [wanted.pop(slot, None) for slot in before[: len(endpoints)]]
    slots.extend([None] * (len(endpoints) - len(slots)))
    rest = iter(wanted.values())
    return tuple([kept if kept is not None else next(rest) for kept in slots])


def slots_of(route: Route) -> list[Slot]:
    return [(int(endpoint.address), endpoint.port) for endpoint in route.endpoints]


def settle_forwarding(before: Forwarding | None, forwarding: Forwarding) -> Forwarding:
    """``forwarding`` with the slots of ``before``; equal to ``before`` when only the order differed."""
    if before is None or before == forwarding:
        return forwarding
    return replace(
        forwarding,
        internal=_settle_routes(before.internal, forwarding.internal),
        external=_settle_routes(before.external, forwarding.external),
    )


def _settle_routes(before: Routes, routes: Routes) -> Routes:
    if before == routes:
        return routes
    return Routes(
        *(
            replace(new, endpoints=settle(slots_of(old), new.endpoints)) if new.endpoints else new
            for old, new in (
                (before.pod, routes.pod),
                (before.node, routes.node),
                (before.outside, routes.outside),
            )
        )
    )
