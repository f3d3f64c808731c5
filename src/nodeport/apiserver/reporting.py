"""The API server's own events, about what it finds wrong with objects: ``events.k8s.io/v1`` in the core form that is
stored."""

from __future__ import annotations

import socket
from collections import OrderedDict
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS
from nodeport.api.status import ApiError
from nodeport.apiserver.allocators.findings import Finding
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer
from nodeport.kit.clock import rfc3339_micro
from nodeport.kit.logs import get_logger

REMEMBERED = 1024
"""How many different events are counted up when they come again."""
_Key = tuple[str, ...]
_log = get_logger("nodeport.apiserver.reporting")


class Reporter:
    """Writes warnings; one that comes again becomes a series with a count."""

    def __init__(self, registry: Registry, writer: Writer) -> None:
        self._registry = registry
        self._writer = writer
        self._written: OrderedDict[_Key, Target] = OrderedDict()

    async def warn(self, component: str, finding: Finding) -> None:
        """An event that cannot be written is no reason to stop: it is logged."""
        metadata = finding.about["metadata"]
        key = (component, metadata.get("uid") or metadata["name"], finding.reason, finding.message)
        try:
            if not await self._again(key):
                await self._first(key, component, finding)
        except ApiError as error:
            _log.info("event %s about %s was not written: %s", finding.reason, metadata["name"], error)

    async def _again(self, key: _Key) -> bool:
        target = self._written.get(key)
        if target is None:
            return False
        self._written.move_to_end(key)

        def count(old: JsonObject) -> JsonObject:
            series = old.get("series") or {"count": 1}
            now = rfc3339_micro(self._registry.clock.now())
            new: JsonObject = {**old, "metadata": dict(old["metadata"])}
            return {**new, "series": {"count": series["count"] + 1, "lastObservedTime": now}}

        try:
            await self._writer.change(target, count, WriteOptions())
        except ApiError:
            del self._written[key]
            return False
        return True

    async def _first(self, key: _Key, component: str, finding: Finding) -> None:
        now = self._registry.clock.now()
        about = finding.about["metadata"]
        namespace = about.get("namespace") or "default"
        name = f"{about['name']}.{int(now.timestamp() * 1e6):x}"
        event: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": _reference(finding),
            "type": "Warning",
            "reason": finding.reason,
            "action": finding.action,
            "message": finding.message[:1024],
            "eventTime": rfc3339_micro(now),
            "reportingComponent": component,
            "reportingInstance": f"{component}-{socket.gethostname()}",
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
        }
        await self._writer.create(Target(EVENTS, namespace), event, WriteOptions())
        self._written[key] = Target(EVENTS, namespace, name)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)


def _reference(finding: Finding) -> JsonObject:
    metadata = finding.about["metadata"]
    found = {
        "kind": finding.resource.kind, "apiVersion": finding.resource.api_version,
        "namespace": metadata.get("namespace"), "name": metadata["name"], "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }  # fmt: skip
    return {field: value for field, value in found.items() if value}
