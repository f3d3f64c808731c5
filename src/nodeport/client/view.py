"""An informer's cache as one of its readers sees it, who can be cut off: what happens meanwhile is heard afterwards."""

from __future__ import annotations

import asyncio

from nodeport.client.cache import Change, IndexFunction
from nodeport.client.informer import Informer


class View(Informer):
    """Shares the objects of ``source``, which somebody else runs; while cut off it shows them as they were.

    An index that the source has already is not made again: views of one source share it.
    """

    def __init__(self, source: Informer) -> None:
        super().__init__(source._client, source.resource)
        self._source = source
        self._cache = source._cache
        self._version_seen = ""
        self._is_cut = False
        self._usable = asyncio.Event()
        """Whether it showed a complete list when it was cut off, if it is."""
        self._usable.set()
        source.subscribe(self._heard)

    @property
    def synced(self) -> bool:
        return self._source.synced and self._usable.is_set()

    @property
    def resource_version(self) -> str:
        return self._version_seen if self._is_cut else self._source.resource_version

    async def wait_until_synced(self) -> None:
        await self._source.wait_until_synced()
        await self._usable.wait()

    def add_index(self, name: str, values_of: IndexFunction) -> None:
        for cache in (self._source._cache, self._cache):
            if not cache.has_index(name):
                cache.add_index(name, values_of)

    def cut(self) -> None:
        """Hear nothing from now on. Twice is once."""
        if self._is_cut:
            return
        if not self._source.synced:
            self._usable.clear()
        self._version_seen = self._source.resource_version
        self._cache = self._source._cache.copied()
        self._is_cut = True

    def join(self) -> None:
        """See again what the source sees, and hear at once how that differs from what was seen before."""
        if not self._is_cut:
            return
        before, self._cache = self._cache, self._source._cache
        self._is_cut = False
        self._usable.set()
        self._take(before.replace(self._cache.list()))

    def _heard(self, change: Change) -> None:
        if not self._is_cut:
            self._take([change])

    async def run(self) -> None:
        """The source is run, not its views."""
        raise RuntimeError(f"a view of {self.resource.plural} is not run")
