"""The environment variables that tell a container of Services. Pure.

Rule source: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nodeport.api.meta import JsonObject

INDEX = "namespace"
MASTER = ("default", "kubernetes")
"""The Service that every pod is told of, wherever it is."""


def by_namespace(service: JsonObject) -> list[str]:
    """What the Services of a node are to be indexed by, under `INDEX`."""
    return [service["metadata"].get("namespace") or ""]


def service_variables(services: Iterable[JsonObject], pod: JsonObject) -> dict[str, str]:
    """Of all Services of the pod's namespace that have a ClusterIP, unless it wants none, and of the API server's."""
    namespace = pod["metadata"]["namespace"]
    wants_all = pod["spec"].get("enableServiceLinks") is not False
    found: dict[str, str] = {}
    told = {}
    for service in services:
        metadata = service["metadata"]
        where = metadata["namespace"], metadata["name"]
        if where == MASTER or (wants_all and where[0] == namespace):
            told[where[1], where != MASTER] = service  # one of the pod's own that is called kubernetes wins
    for key in sorted(told):
        found |= dict(_variables(told[key]))
    return found


def _variables(service: JsonObject) -> Iterator[tuple[str, str]]:
    spec = service.get("spec") or {}
    address, ports = spec.get("clusterIP") or "", spec.get("ports") or ()
    if address in ("", "None") or not ports:
        return
    name = _word(service["metadata"]["name"])
    yield f"{name}_SERVICE_HOST", address
    yield f"{name}_SERVICE_PORT", str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            yield f"{name}_SERVICE_PORT_{_word(port['name'])}", str(port["port"])
    yield f"{name}_PORT", _url(address, ports[0])
    for port in ports:
        protocol = port.get("protocol") or "TCP"
        prefix = f"{name}_PORT_{port['port']}_{protocol}"
        yield prefix, _url(address, port)
        yield f"{prefix}_PROTO", protocol.lower()
        yield f"{prefix}_PORT", str(port["port"])
        yield f"{prefix}_ADDR", address


def _url(address: str, port: Mapping[str, Any]) -> str:
    protocol = (port.get("protocol") or "TCP").lower()
    host = f"[{address}]" if ":" in address else address
    return f"{protocol}://{host}:{port['port']}"


def _word(name: str) -> str:
    return name.replace("-", "_").upper()
