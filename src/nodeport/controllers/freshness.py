"""Whether a cache already shows what we wrote: acting on an older picture would do everything twice; and which
changes are not ours.

Resource versions grow across the cluster, and an informer tells how far it has come, so a write has arrived
when the informer passed its version. Deletions answer without a version; they have arrived when the uid left
the cache or is on its way out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted, resource_version
from nodeport.client.cache import Change, revision, uid
from nodeport.client.informer import Informer
from nodeport.kit.clock import Clock

K = TypeVar("K", bound=Hashable)

_PATIENCE = timedelta(seconds=30)
"""After this a cache counts as caught up: a server that lost its newest state never shows our write."""


@dataclass(slots=True)
class _Outstanding:
    since: float
    version: int = 0
    deleted: dict[NamespacedName, str] = field(default_factory=dict)


class WriteGuard(Generic[K]):
    """Per key of a reconcile loop: what was written to ``informer``'s resource and not seen there yet."""

    def __init__(self, informer: Informer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._outstanding: dict[K, _Outstanding] = defaultdict(lambda: _Outstanding(clock.monotonic()))

    def wrote(self, key: K, answer: JsonObject) -> None:
        """``answer`` is the object as the server returned it from a create, update or patch."""
        entry = self._entry(key)
        entry.version = max(entry.version, revision(answer["metadata"].get("resourceVersion")))

    def deleted(self, key: K, obj: JsonObject) -> None:
        self._entry(key).deleted[NamespacedName.of(obj)] = uid(obj)

    def is_caught_up(self, key: K) -> bool:
        entry = self._outstanding.get(key)
        if entry is None:
            return True
        if self._clock.monotonic() - entry.since < _PATIENCE.total_seconds() and not self._has_arrived(entry):
            return False
        del self._outstanding[key]
        return True

    def forget(self, key: K) -> None:
        """There is nothing more to wait for."""
        self._outstanding.pop(key, None)

    def _entry(self, key: K) -> _Outstanding:
        entry = self._outstanding[key]
        entry.since = self._clock.monotonic()
        return entry

    def _has_arrived(self, entry: _Outstanding) -> bool:
        if revision(self._informer.resource_version) < entry.version:
            return False
        return not any(self._is_still_there(key, gone) for key, gone in entry.deleted.items())

    def _is_still_there(self, key: NamespacedName, gone: str) -> bool:
        cached = self._informer.get(key)
        return cached is not None and uid(cached) == gone and not is_being_deleted(cached)


class OwnWrites(Generic[K]):
    """Tells what others did to the objects of a key from the echo of our own writes.

    An echo may come before the answer, so changes during a write are judged when it is over.
    """

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._open: dict[K, list[Change]] = {}

    def begin(self, key: K) -> None:
        """Writing the objects of ``key`` from now on."""
        self._open.setdefault(key, [])

    def wrote(self, answer: JsonObject) -> None:
        self._versions[uid(answer)] = resource_version(answer)

    def deleted(self, obj: JsonObject) -> None:
        self._deleted.add(uid(obj))

    def end(self, key: K) -> bool:
        """Whether somebody else changed something meanwhile."""
        judged = [self._judge(change) for change in self._open.pop(key, [])]
        return any(judged)

    def is_foreign(self, key: K, change: Change) -> bool:
        if key in self._open:
            self._open[key].append(change)
            return False
        return self._judge(change)

    def _judge(self, change: Change) -> bool:
        if change.new is not None:
            return self._versions.get(uid(change.new)) != resource_version(change.new)
        gone = uid(change.object)
        self._versions.pop(gone, None)
        if gone not in self._deleted:
            return True
        self._deleted.discard(gone)
        return False
