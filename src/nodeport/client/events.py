"""Events about objects, as ``kubectl describe`` shows them: told at once, written in the background, never in
the way.

Repeated events become one with a count. An object that keeps complaining is cut short: 25 at once, then one
every five minutes, the figures of Kubernetes' own recorder.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS, Resource
from nodeport.api.status import ApiError, Forbidden, NotFound
from nodeport.client.rest import MERGE_PATCH, RestClient, TransportError
from nodeport.kit.clock import Clock, SystemClock, rfc3339

__all__ = ["EventRecorder", "object_reference"]

NORMAL = "Normal"
WARNING = "Warning"

_REMEMBERED = 4096
_QUEUED = 1000
_BURST = 25
_REFILL = timedelta(minutes=5)
_ATTEMPTS = 4
_log = logging.getLogger(__name__)


def object_reference(resource: Resource, obj: JsonObject, *, field_path: str = "") -> JsonObject:
    """An ObjectReference to ``obj``; list items do not say their own kind, so the row does."""
    meta = obj["metadata"]
    found = {
        "kind": resource.kind,
        "namespace": meta.get("namespace"),
        "name": meta["name"],
        "uid": meta.get("uid"),
        "apiVersion": resource.api_version,
        "resourceVersion": meta.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {key: value for key, value in found.items() if value}


_Key = tuple[str, ...]


@dataclass(slots=True)
class _Series:
    name: str
    namespace: str
    count: int = 0


@dataclass(frozen=True, slots=True)
class _Occurrence:
    key: _Key
    reference: JsonObject
    type: str
    reason: str
    message: str
    action: str
    time: str
    serial: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    updated: float


class EventRecorder:
    """``component`` is who speaks (``deployment-controller``), ``host`` the node it runs on, if that matters.

    ``event`` may be called at any time; ``run`` does the writing. What comes faster than it can be written,
    or while the server is away for long, is dropped: events are a courtesy.
    """

    def __init__(
        self, client: RestClient, component: str, host: str = "", *, clock: Clock | None = None
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock or SystemClock()
        self._queue: asyncio.Queue[_Occurrence] = asyncio.Queue(_QUEUED)
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._buckets: OrderedDict[_Key, _Bucket] = OrderedDict()
        self.dropped = 0

    def event(
        self,
        obj_ref: JsonObject,
        type: str,  # noqa: A002  # the API's name
        reason: str,
        message: str,
        *,
        action: str = "",
    ) -> None:
        """Note that ``reason`` happened to ``obj_ref``; ``type`` is Normal or Warning.

        ``action``: what the component was about to do, where its Kubernetes counterpart tells.
        """
        about = tuple(obj_ref.get(part) or "" for part in ("kind", "namespace", "name", "uid", "fieldPath"))
        if not self._admit(about) or self._queue.full():
            self.dropped += 1
            return
        now = self._clock.now()
        occurrence = _Occurrence(
            key=(*about, type, reason, message), reference=obj_ref, type=type, reason=reason,
            message=message[:1024], action=action, time=rfc3339(now), serial=int(now.timestamp() * 1e6),
        )  # fmt: skip
        self._queue.put_nowait(occurrence)

    async def run(self) -> None:
        """Write what was noted, until cancelled."""
        while True:
            occurrence = await self._queue.get()
            try:
                await self._write(occurrence)
            finally:
                self._queue.task_done()

    async def wait_until_written(self) -> None:
        """Until everything noted so far was written or given up."""
        await self._queue.join()

    def _admit(self, about: _Key) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.pop(about, None) or _Bucket(_BURST, now)
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.updated) / _REFILL.total_seconds())
        bucket.updated = now
        self._buckets[about] = bucket
        _trim(self._buckets)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def _write(self, occurrence: _Occurrence) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await self._record(occurrence)
            except TransportError as error:
                _log.debug("event not written: %s", error)
                await self._clock.sleep(2.0**attempt)
            except Forbidden:
                return  # the namespace is going away, and its events with it
            except ApiError as error:
                _log.warning("event %s about %s refused: %s", occurrence.reason, occurrence.reference, error)
                return
            else:
                return
        self.dropped += 1

    async def _record(self, occurrence: _Occurrence) -> None:
        series = self._series.pop(occurrence.key, None)
        if series is not None:
            patch: JsonObject = {"count": series.count + 1, "lastTimestamp": occurrence.time}
            try:
                await self._client.patch(
                    EVENTS, series.name, patch, series.namespace, content_type=MERGE_PATCH
                )
            except NotFound:
                series = None
        if series is None:
            series = await self._create(occurrence)
        series.count += 1
        self._series[occurrence.key] = series
        _trim(self._series)

    async def _create(self, occurrence: _Occurrence) -> _Series:
        about = occurrence.reference
        # cluster-scoped objects have their events in the namespace "default"
        namespace = about.get("namespace") or "default"
        name = f"{about['name']}.{occurrence.serial:x}"
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        event: JsonObject = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": occurrence.reason,
            "message": occurrence.message,
            "source": source,
            "firstTimestamp": occurrence.time,
            "lastTimestamp": occurrence.time,
            "count": 1,
            "type": occurrence.type,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            **({"action": occurrence.action} if occurrence.action else {}),
        }
        await self._client.create(EVENTS, event)
        return _Series(name, namespace)


def _trim(remembered: OrderedDict[_Key, _Series] | OrderedDict[_Key, _Bucket]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
