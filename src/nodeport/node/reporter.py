"""Tells the API what a pod's status is, and, at the end, that the pod is gone."""

from __future__ import annotations

import logging
from datetime import timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.resources import PODS
from nodeport.api.status import ApiError, Conflict, NotFound
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, TransportError
from nodeport.kit.backoff import Backoff
from nodeport.node import pod_status
from nodeport.node.pod_record import PodRecord
from nodeport.node.resizing import IN_PROGRESS, PENDING

FIRST_RETRY, LAST_RETRY = timedelta(milliseconds=200), timedelta(seconds=5)
_MERGED_LISTS = ("podIPs", "hostIPs")
_OWN_FIELDS = ("podIP", "podIPs", "reason", "message", "containerStatuses", "initContainerStatuses",
               "ephemeralContainerStatuses")  # fmt: skip
_PASSING = (PENDING, IN_PROGRESS)
"""Conditions that are there only as long as they are true."""
_log = logging.getLogger(__name__)


class StatusReporter:
    def __init__(self, record: PodRecord) -> None:
        self._record = record

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
        wanted = pod_status.status(record.view(), record.node.clock.now())
        if wanted == record.sent:
            return
        metadata = record.pod["metadata"]
        stored = record.pod.get("status") or {}
        patch: JsonObject = {
            "metadata": {"uid": record.uid},
            "status": patch_from(stored, wanted, record.sent),
        }
        await record.node.client.patch(
            PODS, metadata["name"], patch, metadata["namespace"],
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip
        record.sent = wanted
        if record.has_told_its_end:
            record.wake.set()

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
