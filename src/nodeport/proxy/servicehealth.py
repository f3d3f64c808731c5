"""A health-check server for each Service that asks for one: ``spec.healthCheckNodePort``.

A load balancer asks it on every node and sends traffic to those that answer 200: where the Service has ready
endpoints of its own. One object serves one family of addresses of one node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.forwarding.build import HEADLESS, cluster_ip_of, is_proxied
from nodeport.forwarding.table import Family, IPAddress, IPNetwork
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.proxy.http import Request, Response, listen, serve
from nodeport.proxy.localaddresses import local_addresses

_ANY: Final = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}
_RETRY: Final = timedelta(seconds=10)
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """``local_endpoints``: ready endpoints on this node."""

    port: int
    local_endpoints: int


Warn = Callable[[NamespacedName, str, str], None]
"""Tells of a problem of a Service: reason and message, for an event."""


def wanted_server(
    service: JsonObject | None, slices: Iterable[JsonObject], node: str, family: Family
) -> Wanted | None:
    """What the Service wants of this node: a server for load balancers that keep the client's address, or none.

    In each family of its ClusterIPs, for that family's endpoints.
    """
    if service is None or not is_proxied(service):
        return None
    spec = service["spec"]
    port = spec.get("healthCheckNodePort") or 0
    if not port or spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        return None
    if cluster_ip_of(spec, family) is None:
        return None
    return Wanted(port, len(set(_ready_here(slices, node, family))))


def _ready_here(slices: Iterable[JsonObject], node: str, family: Family) -> Iterable[str]:
    kind = "IPv6" if family is Family.IPV6 else "IPv4"
    for item in slices:
        if item.get("addressType") != kind or HEADLESS in labels(item):
            continue
        for endpoint in item.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready")
            if endpoint.get("nodeName") == node and ready is not False and endpoint.get("addresses"):
                yield endpoint["addresses"][0]


def hosts(
    networks: Iterable[IPNetwork], family: Family, own: Callable[[], Iterable[IPAddress]]
) -> tuple[str, ...]:
    """Where to listen so that exactly the addresses in ``networks`` answer. ``own``: the node's, asked if need be."""
    networks = tuple(networks)
    if all(network.num_addresses == 1 for network in networks):
        return tuple(str(network.network_address) for network in networks)
    everything = ip_network(f"{_ANY[family]}/0")
    loopback = ip_network("127.0.0.0/8" if family is Family.IPV4 else "::1/128")
    if (
        sum(network.num_addresses for network in networks)
        >= everything.num_addresses - loopback.num_addresses
    ):
        return (_ANY[family],)
    return tuple(str(address) for address in own() if any(address in network for network in networks))


def respond(service: NamespacedName, local_endpoints: int, *, healthy: bool) -> Response:
    """Byte for byte kube-proxy's."""
    namespace, name = json.dumps(service.namespace), json.dumps(service.name)
    body = (
        f'{{\n\t"service": {{\n\t\t"namespace": {namespace},\n\t\t"name": {name}\n\t}},\n'
        f'\t"localEndpoints": {local_endpoints},\n\t"serviceProxyHealthy": {json.dumps(healthy)}\n}}'
    )
    good = healthy and local_endpoints > 0
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    headers = (
        ("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(local_endpoints))
    )  # fmt: skip
    return Response(status, body.encode(), "application/json", headers)


@dataclass(slots=True)
class _Open:
    """A server that is there: where, how many endpoints it tells of, and the task that serves."""

    port: int
    hosts: tuple[str, ...]
    local_endpoints: int
    task: asyncio.Task[None]


class ServiceHealth:
    """``set`` says what a Service wants, at any time; ``run`` opens and closes until cancelled."""

    def __init__(
        self,
        node: str,
        family: Family,
        netns: Path | None,
        is_healthy: Callable[[], bool],
        warn: Warn,
        clock: Clock,
    ) -> None:
        self._node = node
        self._family = family
        self._netns = netns
        self._is_healthy = is_healthy
        self._warn = warn
        self._clock = clock
        self._networks: tuple[IPNetwork, ...] = ()
        self._wanted: dict[NamespacedName, Wanted] = {}
        self._open: dict[NamespacedName, _Open] = {}
        self._wake = asyncio.Event()

    @property
    def ports(self) -> Mapping[NamespacedName, int]:
        """The servers that are open."""
        return {service: found.port for service, found in self._open.items()}

    def set(self, service: NamespacedName, wanted: Wanted | None) -> None:
        if self._wanted.get(service) == wanted:
            return
        if wanted is None:
            self._wanted.pop(service, None)
        else:
            self._wanted[service] = wanted
        self._wake.set()

    def set_networks(self, networks: tuple[IPNetwork, ...]) -> None:
        """On which of the node's addresses the servers answer: those of NodePorts."""
        if networks != self._networks:
            self._networks = networks
            self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                complete = await self._reconcile()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if complete else _RETRY.total_seconds()):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await self._close(list(self._open))

    async def _reconcile(self) -> bool:
        """Whether everything that is wanted is open now."""
        if not self._wanted and not self._open:
            return True
        addresses = hosts(self._networks, self._family, lambda: local_addresses(self._netns, self._family))
        await self._close(
            service
            for service, found in self._open.items()
            if (wanted := self._wanted.get(service)) is None
            or (found.port, found.hosts) != (wanted.port, addresses)
        )
        for service, wanted in self._wanted.items():
            found = self._open.get(service)
            if found is not None:
                found.local_endpoints = wanted.local_endpoints
            else:
                self._start(service, wanted, addresses)
        return len(self._open) == len(self._wanted)

    def _start(self, service: NamespacedName, wanted: Wanted, addresses: tuple[str, ...]) -> None:
        with contextlib.ExitStack() as listeners:
            try:
                made = [
                    listeners.enter_context(listen(host, wanted.port, self._netns, one_family=True))
                    for host in addresses
                ]
            except OSError as error:
                message = f'node {self._node} failed to start healthcheck "{service}" on port {wanted.port}: {error}'
                _log.error("%s", message)
                self._warn(service, "FailedToStartServiceHealthcheck", message)
                return
            listeners.pop_all()
        task = asyncio.create_task(serve(made, self._handler(service)), name=f"health-check-{service}")
        self._open[service] = _Open(wanted.port, addresses, wanted.local_endpoints, task)

    def _handler(self, service: NamespacedName) -> Callable[[Request], Response]:
        def answer(_: Request) -> Response:
            found = self._open.get(service)
            return respond(service, found.local_endpoints if found else 0, healthy=self._is_healthy())

        return answer

    async def _close(self, services: Iterable[NamespacedName]) -> None:
        closing: list[asyncio.Task[Any]] = [self._open.pop(service).task for service in list(services)]
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
