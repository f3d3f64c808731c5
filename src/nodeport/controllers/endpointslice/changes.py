"""What a pass over one Service's slices leads to: which objects to write, and which stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject
from nodeport.controllers.endpointslice.topology import ZoneHints


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """What to write: create, then update, then delete.

    ``nodeless`` says, a sentence each, which pods were left out because their node is unknown: look again.
    ``zone_hints``: per address type what topology mode Auto came to, None where it is not asked for.
    """

    create: tuple[JsonObject, ...] = ()
    update: tuple[JsonObject, ...] = ()
    delete: tuple[JsonObject, ...] = ()
    nodeless: tuple[str, ...] = ()
    zone_hints: Mapping[str, ZoneHints | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


@dataclass(slots=True)
class SliceChanges:
    """The plan of one address type while it grows.

    ``create`` and ``update`` hold objects of our own, ``kept`` and ``delete`` those of the cache: never change
    one. ``orphans`` belong to a former Service of that name; they are deleted and never used again.
    """

    create: list[JsonObject] = field(default_factory=list)
    update: list[JsonObject] = field(default_factory=list)
    delete: list[JsonObject] = field(default_factory=list)
    kept: list[JsonObject] = field(default_factory=list)
    orphans: list[JsonObject] = field(default_factory=list)
    taken: list[tuple[JsonObject, JsonObject]] = field(default_factory=list)

    def written(self) -> Iterator[JsonObject]:
        yield from self.create
        yield from self.update

    def take_up(self, kept: JsonObject) -> None:
        """A slice that could have stayed may have to change after all."""
        self.kept.remove(kept)
        written = {**kept, "endpoints": list(kept.get("endpoints") or ())}
        self.update.append(written)
        self.taken.append((kept, written))

    def put_back_unchanged(self) -> None:
        """Those that were taken up in vain."""
        for kept, written in self.taken:
            if written["endpoints"] == (kept.get("endpoints") or []):
                self.update.remove(written)
                self.kept.append(kept)
        self.taken.clear()
