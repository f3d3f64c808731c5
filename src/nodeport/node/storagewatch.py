"""Looks from time to time at what pods take of the disk, and ends those that take too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from nodeport.kit.clock import Clock
from nodeport.node import diskusage, eviction
from nodeport.node.eviction import IMMEDIATE_GRACE, REASON, Level, PodUsage, Threshold
from nodeport.node.pod_record import PodRecord, Pressure

EVERY = timedelta(seconds=10)
"""As often as a kubelet."""
CALM = timedelta(minutes=5)
"""How long there must have been enough room until the node says so: a kubelet's default."""


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """``folder``: where the node's pods write. ``thresholds``: what must be left there and where the images are."""

    folder: Path
    images: Path
    thresholds: tuple[Threshold, ...] = ()


class StorageWatch:
    """``run`` until cancelled. ``records``: the node's pods."""

    def __init__(
        self, disk: NodeDisk, pressure: Pressure, records: Callable[[], Iterable[PodRecord]], clock: Clock
    ) -> None:
        self._disk, self._pressure, self._records, self._clock = disk, pressure, records, clock

    async def run(self) -> None:
        while True:
            await self._clock.sleep(EVERY.total_seconds())
            await self._keep_pods_to_their_limits()
            if self._disk.thresholds:
                await self._keep_room()

    async def _keep_pods_to_their_limits(self) -> None:
        for record in [*self._records()]:
            if not _is_evictable(record) or not eviction.is_limited(record.last_pod):
                continue
            message = eviction.excess(record.last_pod, await _usage(record))
            if message:
                _evict(record, message)

    async def _keep_room(self) -> None:
        levels = diskusage.levels(self._disk.folder, self._disk.images)
        threshold = eviction.met(self._disk.thresholds, levels)
        self._pressure.note(threshold is not None, self._clock.monotonic())
        if threshold is not None:
            await self._make_room(threshold, levels[threshold.signal])

    async def _make_room(self, threshold: Threshold, level: Level) -> None:
        """End one pod; the next look tells whether that was enough."""
        candidates = {record.uid: record for record in self._records() if _is_evictable(record)}
        usage: Mapping[str, PodUsage] = {uid: await _usage(record) for uid, record in candidates.items()}
        uid = eviction.victim({uid: (record.last_pod, usage[uid]) for uid, record in candidates.items()})
        if uid is not None:
            record = candidates[uid]
            message = eviction.node_message(threshold, level, record.last_pod, usage[uid])
            record.disruption = message
            _evict(record, message)


def _is_evictable(record: PodRecord) -> bool:
    return bool(record.sandbox and record.pod and record.failure is None and not record.final)


async def _usage(record: PodRecord) -> PodUsage:
    """Measured beside the loop: there may be many files."""
    assert record.sandbox is not None
    return await asyncio.to_thread(diskusage.of_pod, record.sandbox)


def _evict(record: PodRecord, message: str) -> None:
    """Unless it was ended while it was measured."""
    if _is_evictable(record):
        record.warn(REASON, message)
        record.fail(REASON, message, IMMEDIATE_GRACE)
