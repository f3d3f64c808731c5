"""What stores have in common that hold the whole state in memory: reading and watching."""

from __future__ import annotations

from nodeport.store.base import Closed, KeyValue, Listing, Revision, Watch
from nodeport.store.state import State
from nodeport.store.watchers import Watchers

HISTORY = 10_000
"""Revisions of history that stay readable at least."""

WATCH_BUFFER = 10_000
"""Unread events after which a watcher counts as too slow."""


class HeldStore:
    """``history``: revisions kept at least; a quarter more may be held before the oldest are dropped.

    ``buffer``: unread events after which a watcher counts as too slow.
    """

    def __init__(self, state: State, history: int, buffer: int) -> None:
        self._state = state
        self._history = history
        self._closed = False
        self._trouble = ""
        self._watchers = Watchers(state, buffer=buffer, is_closed=lambda: self._closed)

    @property
    def revision(self) -> Revision:
        return self._state.revision

    @property
    def compacted_revision(self) -> Revision:
        return self._state.compacted_revision

    @property
    def trouble(self) -> str:
        return self._trouble

    async def get(self, key: str, *, revision: Revision | None = None) -> KeyValue | None:
        self._check_open()
        return self._state.get(key, revision)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: Revision | None = None
    ) -> Listing:
        self._check_open()
        return self._state.list_prefix(prefix, start_after, limit, revision)

    def watch(self, prefix: str, after: Revision) -> Watch:
        return self._watchers.watch(prefix, after)

    @property
    def _history_is_due(self) -> bool:
        return self._state.history > self._history + self._history // 4

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the store is closed")
