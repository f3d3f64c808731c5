"""What a proxy keeps of the objects that it follows: with many thousands of them the rest is most of the memory.

What many objects say alike (ports, and all of an endpoint but its address) is kept once. The parts are shared: nobody
may change them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, overload

from nodeport.api.meta import JsonObject
from nodeport.forwarding.build import HEADLESS, SERVICE_PROXY_NAME
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES

SERVICE_NAME: Final = "kubernetes.io/service-name"
TRIGGER_TIME: Final = "endpoints.kubernetes.io/last-change-trigger-time"
_LABELS: Final = (SERVICE_NAME, HEADLESS, SERVICE_PROXY_NAME)
_ANNOTATIONS: Final = (NODEPORT_SOURCE_RANGES, TRIGGER_TIME)
_SPEC: Final = (
    "type", "clusterIP", "clusterIPs", "ports", "externalIPs", "loadBalancerSourceRanges", "healthCheckNodePort",
    "internalTrafficPolicy", "externalTrafficPolicy", "sessionAffinity", "sessionAffinityConfig",
)  # fmt: skip
_NOTHING_SAID: Final = {
    "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "sessionAffinity": "None",
}  # fmt: skip
"""Values that are as good as none."""
_PORT: Final = ("name", "port", "protocol", "nodePort")
_ENDPOINT: Final = ("nodeName", "zone", "hints", "conditions")
_REMEMBERED: Final = 50_000
"""How many different things are remembered for sharing, before remembering starts over."""


class Shared:
    """Of equal things the first."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def __call__(self, item: Any) -> Any:
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        return self._known.setdefault(repr(item), item)

    def __len__(self) -> int:
        return len(self._known)


class SlimEndpoints(Sequence[JsonObject]):
    """The endpoints of a slice, made anew for whoever reads them, out of their addresses and what many have alike.

    Each with its first address, which is the one that counts, or with none.
    """

    __slots__ = ("_addresses", "_others")

    def __init__(self, addresses: Sequence[str], others: Sequence[JsonObject]) -> None:
        self._addresses = " ".join(addresses)
        self._others = tuple(others)

    def __len__(self) -> int:
        return len(self._others)

    def __iter__(self) -> Iterator[JsonObject]:
        for address, other in zip(self._addresses.split(" "), self._others, strict=False):
            yield {"addresses": [address] if address else [], **other}

    @overload
    def __getitem__(self, index: int) -> JsonObject: ...
    @overload
    def __getitem__(self, index: slice) -> list[JsonObject]: ...
    def __getitem__(self, index: int | slice) -> JsonObject | list[JsonObject]:
        return list(self)[index]


class ServiceSlimmer:
    """Call it with a Service: what says who it is and where its traffic goes remains."""

    def __init__(self) -> None:
        self._shared = Shared()

    def __call__(self, item: JsonObject) -> JsonObject:
        spec = item.get("spec") or {}
        slim = {key: spec[key] for key in _SPEC if spec.get(key) and spec[key] != _NOTHING_SAID.get(key)}
        if slim.get("clusterIPs") == [slim.get("clusterIP")]:
            del slim["clusterIPs"]
        if "ports" in slim:
            slim["ports"] = self._shared([_some(port, _PORT) for port in slim["ports"]])
        kept = {"metadata": _slim_metadata(item["metadata"]), "spec": slim}
        if ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
            kept["status"] = item["status"]
        return kept


class SliceSlimmer:
    """Call it with an EndpointSlice: what says whose it is and where its endpoints are remains."""

    def __init__(self) -> None:
        self._shared = Shared()

    def __call__(self, item: JsonObject) -> JsonObject:
        slim: JsonObject = {
            "metadata": _slim_metadata(item["metadata"]),
            "addressType": sys.intern(item.get("addressType") or ""),
        }
        if endpoints := item.get("endpoints"):
            addresses = [next(iter(endpoint.get("addresses") or ()), "") for endpoint in endpoints]
            others = [self._shared(_some(endpoint, _ENDPOINT)) for endpoint in endpoints]
            slim["endpoints"] = SlimEndpoints(addresses, others)
        if ports := item.get("ports"):
            slim["ports"] = self._shared(ports)
        return slim


def _slim_metadata(metadata: Mapping[str, Any]) -> JsonObject:
    """Names are spelled alike in many places."""
    slim: JsonObject = {"name": sys.intern(metadata["name"])}
    if namespace := metadata.get("namespace"):
        slim["namespace"] = sys.intern(namespace)
    slim |= _some(metadata, ("uid", "resourceVersion"))
    if names := _some(metadata.get("labels") or {}, _LABELS):
        slim["labels"] = {key: sys.intern(value) for key, value in names.items()}
    if notes := _some(metadata.get("annotations") or {}, _ANNOTATIONS):
        slim["annotations"] = notes
    return slim


def _some(item: Mapping[str, Any], wanted: Sequence[str]) -> JsonObject:
    """What of ``wanted`` the item has; an empty text is something, nothing at all is not."""
    return {key: item[key] for key in wanted if item.get(key) is not None}
