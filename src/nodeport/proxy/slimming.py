"""What a proxy keeps of the objects that it follows: with many thousands of them the rest is most of the memory.

What many objects say alike (conditions, ports, node names) is kept once. The parts are shared: nobody may change them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from nodeport.api.meta import JsonObject

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_METADATA: Final = (
    "namespace", "name", "uid", "resourceVersion", "labels", "annotations", "deletionTimestamp"
)  # fmt: skip
_ENDPOINT: Final = ("addresses", "nodeName", "zone", "hints")


def slim_service(item: JsonObject) -> JsonObject:
    """Without who owns it and what was last applied."""
    return {**item, "metadata": _slim_metadata(item["metadata"])}


class SliceSlimmer:
    """Call it with an EndpointSlice; it remembers what slices have in common."""

    def __init__(self) -> None:
        self._conditions: dict[tuple[tuple[str, Any], ...], JsonObject] = {}
        self._ports: dict[str, list[JsonObject]] = {}

    def __call__(self, item: JsonObject) -> JsonObject:
        """Without the pods behind the endpoints."""
        slim: JsonObject = {
            "metadata": _slim_metadata(item["metadata"]),
            "addressType": sys.intern(item.get("addressType") or ""),
            "endpoints": [self._endpoint(endpoint) for endpoint in item.get("endpoints") or ()],
        }
        ports = item.get("ports")
        if ports:
            slim["ports"] = self._ports.setdefault(repr(ports), ports)
        return slim

    def _endpoint(self, endpoint: Mapping[str, Any]) -> JsonObject:
        slim = {key: endpoint[key] for key in _ENDPOINT if endpoint.get(key)}
        for key in ("nodeName", "zone"):
            if key in slim:
                slim[key] = sys.intern(slim[key])
        conditions = endpoint.get("conditions")
        if conditions:
            slim["conditions"] = self._conditions.setdefault(tuple(conditions.items()), conditions)
        return slim


def _slim_metadata(metadata: Mapping[str, Any]) -> JsonObject:
    slim = {key: metadata[key] for key in _METADATA if metadata.get(key)}
    notes = slim.get("annotations")
    if notes and _LAST_APPLIED in notes:
        slim["annotations"] = {key: value for key, value in notes.items() if key != _LAST_APPLIED}
    return slim
