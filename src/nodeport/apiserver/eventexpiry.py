"""Events are kept for an hour."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from nodeport.api.resources import EVENTS
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.kit.clock import Clock, parse_rfc3339
from nodeport.kit.logs import get_logger
from nodeport.store.base import Delete, KeyValue, PreconditionFailed, Store

LIFETIME = timedelta(hours=1)
INTERVAL = timedelta(minutes=1)
_log = get_logger("nodeport.apiserver.events")


class EventExpiry:
    """Removes events that nothing has touched for an hour. An event's age counts from when it was last seen."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL.total_seconds())
            try:
                await self.sweep()
            except asyncio.CancelledError:
                raise
            except Exception:
                _log.exception("old events could not be removed")

    async def sweep(self) -> int:
        """How many events went."""
        now = self._clock.now()
        gone = 0
        for kv in (await self._store.list(prefix_of(EVENTS))).items:
            if now - _last_seen(kv, now) < LIFETIME:
                continue
            try:
                await self._store.commit([Delete(kv.key, expect=kv.mod_revision)])
            except PreconditionFailed:
                continue
            gone += 1
        return gone


def _last_seen(kv: KeyValue, now: datetime) -> datetime:
    event = decode(kv.value)
    series = event.get("series") or {}
    moments = (
        series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )  # fmt: skip
    text = next((moment for moment in moments if moment), None)
    try:
        return parse_rfc3339(text) if text else now
    except ValueError:
        return now
