"""Whether the store takes writes; asked again and again while it does not, so that somebody notices when it does."""

from __future__ import annotations

from nodeport.kit.clock import Clock
from nodeport.store.base import Put, Store, StoreError

PROBE_SECONDS = 1.0
PROBE_KEY = "/health/probe"
"""Beside all objects: nobody reads it."""


class StoreHealth:
    """``is_good`` is what /readyz says; ``run`` until cancelled."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def is_good(self) -> bool:
        return not self._store.trouble

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PROBE_SECONDS)
            if self._store.trouble:
                try:
                    await self._store.commit([Put(PROBE_KEY, b"written")])
                except StoreError:
                    continue  # the store has said so in its log
