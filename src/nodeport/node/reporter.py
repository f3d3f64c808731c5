"""Tells the API what a pod's status is, and, at the end, that the pod is gone."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from nodeport.api.meta import JsonObject, resource_version
from nodeport.api.resources import PODS
from nodeport.api.status import ApiError, Conflict, NotFound
from nodeport.client.cache import revision
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, TransportError
from nodeport.kit.backoff import Backoff
from nodeport.node import pod_status
from nodeport.node.pod_record import PodRecord
from nodeport.node.resizing import IN_PROGRESS, PENDING

FIRST_RETRY, LAST_RETRY = timedelta(milliseconds=200), timedelta(seconds=5)
SAY_AGAIN_AFTER = timedelta(seconds=1)
"""Whoever takes the node for failed marks its pods whenever they are ready: so rarely he is contradicted."""
_MERGED_LISTS = ("podIPs", "hostIPs")
_OWN_FIELDS = ("podIP", "podIPs", "reason", "message", "containerStatuses", "initContainerStatuses",
               "ephemeralContainerStatuses")  # fmt: skip
_PASSING = (PENDING, IN_PROGRESS)
"""Conditions that are there only as long as they are true."""
_log = logging.getLogger(__name__)


class StatusReporter:
    def __init__(self, record: PodRecord) -> None:
        self._record = record
        self._say_again_at: float | None = None

    async def run(self) -> None:
        """Send the status whenever it may have changed, until cancelled."""
        record, retry = self._record, Backoff(FIRST_RETRY, LAST_RETRY, jitter=0.5)
        while True:
            await record.dirty.wait()
            record.dirty.clear()
            try:
                await self.send()
                retry.reset()
            except (NotFound, Conflict):
                continue  # gone, or another pod of the name: the informer will say so
            except (ApiError, TransportError) as error:
                _log.warning("status of pod %s: %s", record.uid, error)
                await record.node.clock.sleep(retry.next().total_seconds())
                record.dirty.set()

    async def send(self) -> None:
        """One patch, if there is anything new. Raises ApiError, TransportError."""
        record = self._record
        if record.pod is None or record.settled:
            return
        self._mind_other_writers()
        wanted = pod_status.status(record.view(), record.node.clock.now())
        if wanted == record.sent:
            return
        metadata = record.pod["metadata"]
        stored = record.pod.get("status") or {}
        patch: JsonObject = {
            "metadata": {"uid": record.uid},
            "status": patch_from(stored, wanted, record.sent),
        }
        answer = await record.node.client.patch(
            PODS, metadata["name"], patch, metadata["namespace"],
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip
        record.sent, record.sent_version = wanted, revision(resource_version(answer))
        if record.has_told_its_end:
            record.wake.set()

    def _mind_other_writers(self) -> None:
        """Have it said again, in a while, when somebody else has changed the node's conditions since they were sent."""
        record, now = self._record, self._record.node.clock.monotonic()
        pod = record.pod or {}
        newer = revision(resource_version(pod)) > record.sent_version
        if not newer or not overwritten(pod.get("status") or {}, record.sent):
            self._say_again_at = None
            return
        if self._say_again_at is None:
            self._say_again_at = now + SAY_AGAIN_AFTER.total_seconds()
        if now < self._say_again_at:
            asyncio.get_running_loop().call_later(self._say_again_at - now, record.dirty.set)
            return
        record.sent, self._say_again_at = {}, None

    async def let_go(self) -> None:
        """The last status, then the deletion that ends the object's grace period; until the API has taken both."""
        record, retry = self._record, Backoff(FIRST_RETRY, LAST_RETRY, jitter=0.5)
        while record.pod is not None:
            metadata = record.pod["metadata"]
            try:
                await self.send()
                await record.node.client.delete(
                    PODS, metadata["name"], metadata["namespace"], uid=record.uid, grace_period_seconds=0
                )
                return
            except (NotFound, Conflict):
                return
            except (ApiError, TransportError) as error:
                _log.warning("pod %s/%s: %s", metadata["namespace"], metadata["name"], error)
                await record.node.clock.sleep(retry.next().total_seconds())


def overwritten(stored: JsonObject, sent: JsonObject) -> bool:
    """Whether a condition that the node sent has another status by now, or is gone."""
    held = {item["type"]: item.get("status") for item in stored.get("conditions") or ()}
    return any(held.get(item["type"]) != item["status"] for item in sent.get("conditions") or ())


def patch_from(stored: JsonObject, wanted: JsonObject, sent: JsonObject | None = None) -> JsonObject:
    """The strategic merge patch that makes the node's part of a stored status what is wanted.

    ``podIPs`` and ``hostIPs`` are lists merged by address: without the directive a pod that starts anew elsewhere would
    keep its former address beside the new one. What is not wanted any more is taken away by name. ``sent``: what was
    wanted last, which ``stored`` may not show yet.
    """
    gone = {key: None for key in _OWN_FIELDS if key in stored and key not in wanted}
    whole = {key: [*wanted[key], {"$patch": "replace"}] for key in _MERGED_LISTS if key in wanted}
    known = {item["type"] for status in (stored, sent or {}) for item in status.get("conditions") or ()}
    over = known.intersection(_PASSING) - {item["type"] for item in wanted.get("conditions") or ()}
    if over:
        dropped = [{"type": kind, "$patch": "delete"} for kind in sorted(over)]
        whole["conditions"] = [*wanted.get("conditions", ()), *dropped]
    return {**wanted, **gone, **whole}
