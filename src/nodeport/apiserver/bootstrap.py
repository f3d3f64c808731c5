"""What a cluster has from its first second: namespaces, the ``kubernetes`` Service, and where it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

from nodeport.api import clusterdns
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    NAMESPACES,
    PRIORITY_CLASSES,
    SERVICES,
    Resource,
)
from nodeport.api.status import AlreadyExists, Invalid, NotFound
from nodeport.api.validation.policies import SYSTEM_PRIORITIES
from nodeport.apiserver.allocators.clusterip import Network
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.servicecidrs import DefaultServiceCidr
from nodeport.apiserver.writes import Writer
from nodeport.kit.logs import get_logger

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
INTERVAL = timedelta(seconds=10)
_log = get_logger("nodeport.apiserver.bootstrap")


@dataclass(frozen=True, slots=True)
class Advertised:
    """Where clients inside the cluster reach this server. Nobody reaches a loopback address: then the Service has
    no endpoints."""

    address: IPv4Address | IPv6Address
    port: int


def system_priority(name: str, value: int) -> JsonObject:
    """A class for the pods that a cluster or a node cannot do without."""
    what = name.removeprefix("system-").removesuffix("-critical")
    return {
        "metadata": {"name": name},
        "value": value,
        "description": f"For pods that the {what} cannot do without.",
    }


def name_service(addresses: Sequence[IPv4Address | IPv6Address]) -> JsonObject:
    """What pods ask for names. It selects no pods: a controller keeps the nodes that answer as its endpoints."""
    ports = [
        {"name": name, "protocol": protocol, "port": clusterdns.PORT, "targetPort": clusterdns.NODE_PORT}
        for name, protocol in clusterdns.PORTS
    ]
    return {
        "metadata": {
            "name": clusterdns.SERVICE, "namespace": clusterdns.NAMESPACE,
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": str(addresses[0]), "clusterIPs": list(map(str, addresses)),
            "ipFamilies": [f"IPv{address.version}" for address in addresses],
            "ipFamilyPolicy": "SingleStack" if len(addresses) == 1 else "RequireDualStack",
            "sessionAffinity": "None", "ports": ports,
        },
    }  # fmt: skip


class Bootstrap:
    """Creates what is missing, at once and then every ten seconds; edits nobody's changes away.

    ``dns``: the ClusterIPs of the cluster's name servers; none: it has no name servers of its own.
    """

    def __init__(
        self, registry: Registry, writer: Writer, default_cidr: DefaultServiceCidr, service_network: Network,
        advertised: Advertised, dns: Sequence[IPv4Address | IPv6Address],
    ) -> None:  # fmt: skip
        self._registry = registry
        self._writer = writer
        self._default_cidr = default_cidr
        self._service_address = service_network.network_address + 1
        self._advertised = advertised
        self._dns = dns

    async def ensure(self) -> None:
        """Everything that must exist before the first request is served."""
        for name in SYSTEM_NAMESPACES:
            await self._create(NAMESPACES, "", {"metadata": {"name": name}})
        for name, value in SYSTEM_PRIORITIES.items():
            await self._create(PRIORITY_CLASSES, "", system_priority(name, value))
        await self._default_cidr.ensure()
        await self._create(SERVICES, "default", self._service())
        if self._dns:
            await self._create(SERVICES, clusterdns.NAMESPACE, name_service(self._dns))
        if self._advertised.address.is_loopback:
            return
        await self._publish(ENDPOINTS, self._endpoints())
        await self._publish(ENDPOINT_SLICES, self._endpoint_slice())

    async def run(self) -> None:
        """Put back what goes missing, until cancelled."""
        while True:
            await self._registry.clock.sleep(INTERVAL.total_seconds())
            try:
                await self.ensure()
            except asyncio.CancelledError:
                raise
            except Exception:
                _log.exception("the system's own objects could not be checked")

    async def _create(self, resource: Resource, namespace: str, obj: JsonObject) -> bool:
        name = obj["metadata"]["name"]
        try:
            await self._registry.find(resource, namespace, name)
            return False
        except NotFound:
            pass
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        try:
            await self._writer.create(Target(resource, namespace), obj, WriteOptions())
        except (AlreadyExists, NotFound):
            return False
        except (
            Invalid
        ) as error:  # its address is somebody else's, or in no ServiceCIDR: an administrator must look
            _log.warning("%s %s could not be created: %s", resource.kind, name, error)
            return False
        return True

    async def _publish(self, resource: Resource, wanted: JsonObject) -> None:
        """Create the object or, when this server moved, point it here."""
        if await self._create(resource, "default", wanted):
            return

        def change(old: JsonObject) -> JsonObject:
            kept = {field: old[field] for field in ("apiVersion", "kind")}
            content = {field: value for field, value in wanted.items() if field != "metadata"}
            return {**old, **kept, **content, "metadata": dict(old["metadata"])}

        target = Target(resource, "default", wanted["metadata"]["name"])
        await self._writer.change(target, change, WriteOptions())

    def _service(self) -> JsonObject:
        address, family = str(self._service_address), f"IPv{self._service_address.version}"
        return {
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": [family],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [
                    {"name": "https", "protocol": "TCP", "port": 443, "targetPort": self._advertised.port}
                ],
            },
        }  # fmt: skip

    def _endpoints(self) -> JsonObject:
        return {
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [
                {
                    "addresses": [{"ip": str(self._advertised.address)}],
                    "ports": [{"name": "https", "port": self._advertised.port, "protocol": "TCP"}],
                }
            ],
        }  # fmt: skip

    def _endpoint_slice(self) -> JsonObject:
        return {
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": f"IPv{self._advertised.address.version}",
            "endpoints": [{"addresses": [str(self._advertised.address)], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": self._advertised.port, "protocol": "TCP"}],
        }  # fmt: skip
