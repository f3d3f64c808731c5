"""Many changes in portions, where the kernel does not take them all at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nodeport.forwarding.table import Change


def halves(changes: Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """``changes`` in two parts that may be committed one after the other; the second is empty where they may not.

    Changes of one Service stay together, and those that hand a frontend from one Service to another: there may be no
    moment without it, and none in which both have it.
    """
    parts = _independent(changes)
    middle, size = 0, 0
    while middle < len(parts) - 1 and size < len(changes) // 2:
        size += len(parts[middle])
        middle += 1
    first, second = parts[:middle], parts[middle:]
    if not first:
        first, second = second, first
    return [change for part in first for change in part], [change for part in second for change in part]


def _independent(changes: Sequence[Change]) -> list[list[Change]]:
    """The changes by what they share, directly or through others."""
    parts: dict[int, list[Change]] = {}
    part_of: dict[object, int] = {}
    for number, change in enumerate(changes):
        claims = _claims(change)
        joined = [change]
        for known in {part_of[claim] for claim in claims if claim in part_of}:
            joined = parts.pop(known) + joined
        parts[number] = joined
        part_of.update((claim, number) for item in joined for claim in _claims(item))
    return list(parts.values())


def _claims(change: Change) -> list[object]:
    """What a change touches: its Service, and the places of its frontends, whatever their kind."""
    frontends = [
        frontend
        for forwarding in (change.old, change.new)
        for frontend in (forwarding.frontends if forwarding is not None else ())
    ]
    protocol = change.name.protocol
    places = [(getattr(frontend, "address", None), frontend.port, protocol) for frontend in frontends]
    return [change.name.service, *places]
