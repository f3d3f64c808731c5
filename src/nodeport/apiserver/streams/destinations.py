"""What a proxied name means: ``[scheme:]name[:port]`` of a pod, a service or a node, and where it leads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINTS, PODS, SERVICES
from nodeport.api.status import BadRequest, NotFound, ServiceUnavailable
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.streams.nodes import PodPort

SCHEMES = ("http", "https", "")
LONGEST_NUMBER = 10
"""Characters from which on no text is a port, and none is read as a number."""


@dataclass(frozen=True, slots=True)
class ProxyName:
    """``port``: a number, a name, or empty. ``raw``: as the client wrote it all."""

    raw: str
    scheme: str
    name: str
    port: str


def parse_name(kind: str, raw: str) -> ProxyName:
    """``kind``: how the error calls what is asked for (pod, service, node)."""
    parts = raw.split(":")
    if len(parts) == 1:
        parts = ["", raw, ""]
    elif len(parts) == 2:
        parts = ["", *parts]
    if len(parts) != 3 or parts[0] not in SCHEMES or not parts[1]:
        raise BadRequest(f'invalid {kind} request "{raw}"')
    return ProxyName(raw, *parts)


class Destinations:
    def __init__(self, registry: Registry, rng: Random) -> None:
        self._registry, self._rng = registry, rng

    async def of_pod(self, namespace: str, raw: str) -> PodPort:
        """The port that is asked for, else the first of the pod's, else its scheme's."""
        asked = parse_name("pod", raw)
        kv = await self._registry.find(PODS, namespace, asked.name)
        pod = self._registry.entry(PODS).splicer.read(kv)
        if not (pod.get("status") or {}).get("podIP") or not pod["spec"].get("nodeName"):
            raise BadRequest("address not allowed")
        tls = asked.scheme == "https"
        port = asked.port or first_port(pod) or ("443" if tls else "80")
        if not (len(port) < LONGEST_NUMBER and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise BadRequest(f'invalid pod request "{raw}": port {port!r} must be from 1 to 65535')
        return PodPort(pod, int(port), tls=tls)

    async def of_service(self, namespace: str, raw: str) -> PodPort:
        """A ready endpoint, chosen at random, behind the port that is asked for."""
        asked = parse_name("service", raw)
        port_name = asked.port
        if len(port_name) < LONGEST_NUMBER and port_name.isascii() and port_name.isdecimal():
            port_name = await self._port_name(namespace, asked, int(port_name))
        kv = await self._registry.find(ENDPOINTS, namespace, asked.name)
        endpoints = self._registry.entry(ENDPOINTS).splicer.read(kv)
        for address, port in shuffled(self._rng, endpoints, port_name):
            if (pod := await self._living_pod(namespace, address)) is not None:
                return PodPort(pod, port, tls=asked.scheme == "https")
        raise ServiceUnavailable(f'no endpoints available for service "{raw}"')

    async def _port_name(self, namespace: str, asked: ProxyName, number: int) -> str:
        kv = await self._registry.find(SERVICES, namespace, asked.name)
        service = self._registry.entry(SERVICES).splicer.read(kv)
        for port in service["spec"].get("ports") or ():
            if port["port"] == number:
                return port.get("name") or ""
        raise ServiceUnavailable(f'no service port {number} found for service "{asked.name}"')

    async def _living_pod(self, namespace: str, address: JsonObject) -> JsonObject | None:
        """The pod that the address belongs to; None when it is no pod, another one, or has moved."""
        reference = address.get("targetRef") or {}
        if reference.get("kind") != "Pod" or reference.get("namespace") not in (namespace, None, ""):
            return None
        try:
            kv = await self._registry.find(PODS, namespace, reference.get("name") or "")
        except NotFound:
            return None
        pod = self._registry.entry(PODS).splicer.read(kv)
        status = pod.get("status") or {}
        known = {item.get("ip") for item in status.get("podIPs") or ()} | {status.get("podIP")}
        uid = reference.get("uid")
        if (uid and uid != pod["metadata"]["uid"]) or address.get("ip") not in known:
            return None
        return pod if pod["spec"].get("nodeName") else None


def first_port(pod: JsonObject) -> str:
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            return str(port["containerPort"])
    return ""


def shuffled(rng: Random, endpoints: JsonObject, port_name: str) -> Iterator[tuple[dict[str, Any], int]]:
    """(ready address, port) of all subsets that have the port, in random order."""
    found = [
        (address, int(port["port"]))
        for subset in endpoints.get("subsets") or ()
        for port in subset.get("ports") or ()
        if (port.get("name") or "") == port_name
        for address in subset.get("addresses") or ()
    ]
    rng.shuffle(found)
    yield from found
