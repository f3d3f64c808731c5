"""The objects of one resource as last seen, with indexes; pure: events in, changes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject, NamespacedName, resource_version

_Objects = list[JsonObject]

IndexFunction = Callable[[JsonObject], list[str]]


@dataclass(frozen=True, slots=True)
class Change:
    """``old`` is None for what appeared, ``new`` for what went away; never both, and never of two uids."""

    old: JsonObject | None
    new: JsonObject | None

    @property
    def object(self) -> JsonObject:
        """Whichever there is, the newer first."""
        current = self.new if self.new is not None else self.old
        assert current is not None
        return current


@dataclass(slots=True)
class _Index:
    values_of: IndexFunction
    keys: dict[str, dict[NamespacedName, None]] = field(default_factory=dict)


class ObjectCache:
    """Every method that changes the cache yields each change right after making it, so readers see it
    applied.
    """

    def __init__(self) -> None:
        self._objects: dict[NamespacedName, JsonObject] = {}
        self._indexes: dict[str, _Index] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: NamespacedName) -> JsonObject | None:
        return self._objects.get(key)

    def list(self) -> _Objects:
        return list(self._objects.values())

    def add_index(self, name: str, values_of: IndexFunction) -> None:
        """Index the objects under every value that ``values_of`` gives for them; asking twice is an error."""
        if name in self._indexes:
            raise ValueError(f"there is an index {name!r} already")
        index = self._indexes[name] = _Index(values_of)
        for key, obj in self._objects.items():
            _move(index, key, [], values_of(obj))

    def has_index(self, name: str) -> bool:
        return name in self._indexes

    def copied(self) -> ObjectCache:
        """The same objects under the same indexes, in a cache that goes its own way."""
        made = ObjectCache()
        made._objects = dict(self._objects)
        for name, index in self._indexes.items():
            made._indexes[name] = _Index(
                index.values_of, {key: dict(found) for key, found in index.keys.items()}
            )
        return made

    def by_index(self, name: str, value: str) -> _Objects:
        return [self._objects[key] for key in self._indexes[name].keys.get(value, ())]

    def upsert(self, obj: JsonObject) -> Iterator[Change]:
        """Take an object; one that is not newer than the cached one changes nothing."""
        key = NamespacedName.of(obj)
        old = self._objects.get(key)
        if old is None:
            yield from self._put(key, None, obj)
        elif uid(old) != uid(obj):
            yield from self._drop(key, old)
            yield from self._put(key, None, obj)
        elif not is_stale(obj, old):
            yield from self._put(key, old, obj)

    def remove(self, key: NamespacedName) -> Iterator[Change]:
        old = self._objects.get(key)
        if old is not None:
            yield from self._drop(key, old)

    def replace(self, objects: Iterable[JsonObject]) -> Iterator[Change]:
        """Become exactly ``objects``: what is not among them went away unseen."""
        wanted = {NamespacedName.of(obj): obj for obj in objects}
        for key in [key for key in self._objects if key not in wanted]:
            yield from self._drop(key, self._objects[key])
        for key, obj in wanted.items():
            old = self._objects.get(key)
            if old is not None and uid(old) != uid(obj):
                yield from self._drop(key, old)
                old = None
            if old is None or resource_version(old) != resource_version(obj):
                yield from self._put(key, old, obj)

    def _put(self, key: NamespacedName, old: JsonObject | None, new: JsonObject) -> Iterator[Change]:
        self._objects[key] = new
        for index in self._indexes.values():
            _move(index, key, index.values_of(old) if old is not None else [], index.values_of(new))
        yield Change(old, new)

    def _drop(self, key: NamespacedName, old: JsonObject) -> Iterator[Change]:
        del self._objects[key]
        for index in self._indexes.values():
            _move(index, key, index.values_of(old), [])
        yield Change(old, None)


def _move(index: _Index, key: NamespacedName, before: list[str], after: list[str]) -> None:
    if before == after:
        return
    for value in before:
        keys = index.keys.get(value)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del index.keys[value]
    for value in after:
        index.keys.setdefault(value, {})[key] = None


def uid(obj: JsonObject) -> str:
    return obj["metadata"].get("uid") or ""


def revision(version: str | None) -> int:
    """Resource versions are decimal integers that grow; 0 for one that is not such."""
    return int(version) if version and version.isdecimal() else 0


def is_stale(seen: JsonObject, cached: JsonObject) -> bool:
    """Whether ``seen`` is no newer than ``cached``: a repeated or overtaken event."""
    ours, theirs = resource_version(cached), resource_version(seen)
    if ours == theirs:
        return True
    return 0 < revision(theirs) < revision(ours)
