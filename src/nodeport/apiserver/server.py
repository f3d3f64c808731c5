"""Builds the API server out of its parts; the only place here that does."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from aiohttp import web

from nodeport.api import clusterdns
from nodeport.api.meta import JsonObject
from nodeport.api.resources import RESOURCES
from nodeport.apiserver.admission.gate import AdmissionGate
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator, Network
from nodeport.apiserver.allocators.nodeport import NodePortAllocator
from nodeport.apiserver.applies import Applier
from nodeport.apiserver.audit import AuditLog, AuditOptions
from nodeport.apiserver.auth import User
from nodeport.apiserver.authentication.authenticator import Authenticator, StaticTokens, TokenAuthenticator
from nodeport.apiserver.authentication.bootstraptokens import BootstrapTokens
from nodeport.apiserver.authentication.serviceaccounts import ServiceAccountTokens
from nodeport.apiserver.authentication.signing import SigningKeys
from nodeport.apiserver.authorization.escalation import Escalation
from nodeport.apiserver.authorization.keeper import RbacKeeper
from nodeport.apiserver.authorization.nodes import NodeAuthorizer
from nodeport.apiserver.authorization.rbac import RbacAuthorizer, RbacIndex
from nodeport.apiserver.bootstrap import Advertised, Bootstrap
from nodeport.apiserver.connections import BoundedServer
from nodeport.apiserver.deletes import Deleter
from nodeport.apiserver.discovery import Discovery
from nodeport.apiserver.documents import Documents
from nodeport.apiserver.eventexpiry import EventExpiry
from nodeport.apiserver.evictions import Evictions
from nodeport.apiserver.handler import Doorkeepers, Handler
from nodeport.apiserver.limits import Limits, RequestLimits
from nodeport.apiserver.listening import Listener
from nodeport.apiserver.listing import Lister
from nodeport.apiserver.metrics import Metrics, Source
from nodeport.apiserver.migration import migrate
from nodeport.apiserver.openapi import OpenApi
from nodeport.apiserver.patches import Patcher
from nodeport.apiserver.quotakeeper import QuotaKeeper
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.repair import Repair
from nodeport.apiserver.reporting import Reporter
from nodeport.apiserver.reviews import Reviews
from nodeport.apiserver.routes import Router
from nodeport.apiserver.servicecidrs import DefaultServiceCidr, Ranges
from nodeport.apiserver.storehealth import StoreHealth
from nodeport.apiserver.strategies.addressing import IPAddressStrategy
from nodeport.apiserver.strategies.kinds import all_strategies
from nodeport.apiserver.strategies.pods import PodStrategy, Tolerated
from nodeport.apiserver.strategies.serviceips import ServiceAddresses
from nodeport.apiserver.strategies.serviceports import ServicePorts
from nodeport.apiserver.strategies.services import ServiceStrategy
from nodeport.apiserver.streaming import Streamer
from nodeport.apiserver.streams.connections import Connections
from nodeport.apiserver.subresources import Subresources
from nodeport.apiserver.tokenrequests import TokenRequests
from nodeport.apiserver.verbs import Machinery, Verbs
from nodeport.apiserver.watch import WatchSource
from nodeport.apiserver.writes import Writer
from nodeport.kit.clock import Clock, SystemClock
from nodeport.kit.logs import get_logger
from nodeport.store.base import Store

DEFAULT_SERVICE_CIDRS: tuple[Network, ...] = (IPv4Network("10.96.0.0/16"),)
DEFAULT_NODE_PORTS = range(30000, 32768)
SHUTDOWN_SECONDS = 2.0
_log = get_logger("nodeport.apiserver")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. ``client_ca``: who signs client certificates; None: tokens only."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ApiServerConfig:
    """``listen``: (host, port) pairs, port 0 for any. ``tls`` None: plain HTTP, for tests on loopback.

    ``service_cidrs``: one network, or one of each family with that of the primary family first.
    ``advertise``: what default/kubernetes leads to; by default the first address listened on.
    ``service_account_key``: PEM, signs tokens; None: a key of this run's own.
    ``audit``: where to write down who did what; None: nowhere.
    ``metrics``: further lines for /metrics, such as those of controllers in the same process.
    ``kubelet_client``: certificate and key for fetching logs from nodes. ``seed``: of random choices, for tests.
    ``cluster_dns``: whether the nodes answer for names, at kube-system/kube-dns.
    ``tolerated``: how long pods that say nothing stay on a node that failed.
    """

    store: Store
    listen: Sequence[tuple[str, int]] = (("127.0.0.1", 6443),)
    tls: TlsFiles | None = None
    tokens: Mapping[str, User] = field(default_factory=dict)
    service_cidrs: tuple[Network, ...] = DEFAULT_SERVICE_CIDRS
    service_account_key: Path | None = None
    limits: Limits = field(default_factory=Limits)
    audit: AuditOptions | None = None
    node_port_range: range = DEFAULT_NODE_PORTS
    advertise: tuple[str, int] | None = None
    kubelet_client: TlsFiles | None = None
    clock: Clock = field(default_factory=SystemClock)
    seed: int | None = None
    metrics: Source | None = None
    cluster_dns: bool = False
    tolerated: Tolerated = field(default_factory=Tolerated)


class ApiServer:
    """``run`` serves until cancelled; it can be run again."""

    def __init__(self, config: ApiServerConfig) -> None:
        check_encryption(config)
        self._config = config
        self._serving = asyncio.Event()
        self._health = StoreHealth(config.store, config.clock)
        self._addresses: tuple[tuple[str, int], ...] = ()

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """What is listened on; empty until serving."""
        return self._addresses

    async def wait_until_serving(self) -> None:
        await self._serving.wait()

    async def run(self) -> None:
        parts = self._build()
        await self._prepare(parts)
        await parts.rbac.load()
        await parts.quotas.load()
        server = BoundedServer(parts.handler, self._config.limits)
        context = server_context(self._config.tls) if self._config.tls else None
        listener = Listener(server, context, self._config.limits.handshakes)
        parts.metrics.add_source(server.metrics)
        parts.metrics.add_source(listener.metrics)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            self._addresses = await listener.open(self._config.listen)
            bootstrap = self._bootstrap(parts)
            await bootstrap.ensure()
            await parts.rbac.ensure()
            self._serving.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(bootstrap.run())
                tasks.create_task(parts.rbac.run())
                tasks.create_task(parts.quotas.run())
                if parts.audit is not None:
                    tasks.create_task(parts.audit.run())
                tasks.create_task(parts.ranges.run())
                tasks.create_task(parts.repair.run())
                tasks.create_task(self._health.run())
                tasks.create_task(EventExpiry(self._config.store, self._config.clock).run())
        finally:
            self._serving.clear()
            parts.streamer.close()
            parts.connections.close()
            await listener.close()
            await runner.cleanup()
            self._addresses = ()

    async def _prepare(self, parts: _Parts) -> None:
        """What must be known before anything can be allocated."""
        primary = f"IPv{self._config.service_cidrs[0].version}"
        await migrate(self._config.store, self._config.clock, primary)
        await parts.default_cidr.ensure()
        await parts.ranges.read()
        await parts.repair.run_once()

    def _advertised(self) -> tuple[str, int]:
        return self._config.advertise or self._addresses[0]

    def _documents(self, metrics: Metrics, tokens: ServiceAccountTokens) -> Documents:
        made = Documents(
            Discovery(RESOURCES), OpenApi(RESOURCES), metrics, self._serving.is_set, self._health.is_good,
            lambda: ":".join(map(str, self._advertised())),
        )  # fmt: skip
        made.add("/openid/v1/jwks", "application/jwk-set+json", tokens.key_set)
        made.add("/.well-known/openid-configuration", "application/json", lambda: self._discovery(tokens))
        return made

    def _discovery(self, tokens: ServiceAccountTokens) -> JsonObject:
        host, port = self._advertised()
        return tokens.discovery(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")

    def _bootstrap(self, parts: _Parts) -> Bootstrap:
        host, port = self._advertised()
        address = ip_address("127.0.0.1" if host in ("localhost", "0.0.0.0", "::") else host)
        return Bootstrap(
            parts.registry,
            parts.writer,
            parts.default_cidr,
            self._config.service_cidrs[0],
            Advertised(address, port),
            clusterdns.service_addresses(self._config.service_cidrs) if self._config.cluster_dns else (),
        )

    def _build(self) -> _Parts:
        config = self._config
        rng = random.Random(config.seed)
        addresses = ClusterIPAllocator(rng)
        ports = NodePortAllocator(config.node_port_range, rng)
        families = [f"IPv{network.version}" for network in config.service_cidrs]
        services = ServiceStrategy(ServiceAddresses(addresses), ServicePorts(ports), families)
        strategies = all_strategies(
            services, IPAddressStrategy(addresses), PodStrategy(rng, config.tolerated)
        )
        index = RbacIndex()
        authorizer = NodeAuthorizer(config.store, RbacAuthorizer(index))
        admission = AdmissionGate(Escalation(index, authorizer), authorizer)
        registry = Registry(config.store, config.clock, rng, strategies, admission)
        lister = Lister(config.store, config.clock)
        writer = Writer(registry)
        applier = Applier(registry, writer)
        limits = RequestLimits(config.limits)
        streamer = Streamer(registry, WatchSource(config.store, lister, config.clock, rng), limits.unread)
        connections = Connections(registry, _kubelet_context(config), rng)
        tokens = ServiceAccountTokens(
            config.store, SigningKeys(config.service_account_key, config.clock), config.clock
        )
        others: list[TokenAuthenticator] = [
            StaticTokens(config.tokens),
            BootstrapTokens(config.store, config.clock),
        ]
        deleter = Deleter(registry, writer, lister)
        machinery = Machinery(
            registry=registry, lister=lister, writer=writer, patcher=Patcher(writer, applier),
            deleter=deleter, evictions=Evictions(registry, writer, deleter),
            subresources=Subresources(registry, writer),
            streamer=streamer, connections=connections,
            reviews=Reviews(tokens, Authenticator(others), authorizer, index),
            token_requests=TokenRequests(registry, tokens),
        )  # fmt: skip
        metrics = Metrics()
        if config.metrics is not None:
            metrics.add_source(config.metrics)
        report = Reporter(registry, writer).warn
        repair = Repair(config.store, config.clock, addresses, ports, report)
        for source in (addresses.metrics, ports.metrics, repair.metrics):
            metrics.add_source(source)
        metrics.add_source(lambda: stream_metrics(streamer, connections))
        documents = self._documents(metrics, tokens)
        metrics.add_source(limits.metrics)
        audit = AuditLog(config.audit, config.clock) if config.audit else None
        if audit is not None:
            metrics.add_source(audit.metrics)
        doorkeepers = Doorkeepers(Authenticator([*others, tokens]), authorizer, limits, audit, config.clock)
        handler = Handler(Router(RESOURCES), Verbs(machinery), documents, doorkeepers, metrics)
        return _Parts(
            handler, registry, writer, streamer, connections, repair, Ranges(config.store, addresses),
            DefaultServiceCidr(registry, writer, config.service_cidrs, report),
            RbacKeeper(registry, writer, index), QuotaKeeper(registry, writer, registry.quotas), metrics, audit,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Parts:
    handler: Handler
    registry: Registry
    writer: Writer
    streamer: Streamer
    connections: Connections
    repair: Repair
    ranges: Ranges
    default_cidr: DefaultServiceCidr
    rbac: RbacKeeper
    quotas: QuotaKeeper
    metrics: Metrics
    audit: AuditLog | None


def check_encryption(config: ApiServerConfig) -> None:
    """ValueError when anything but loopback would be served in the clear."""
    for host, port in config.listen if config.tls is None else ():
        if host != "localhost" and not ip_address(host).is_loopback:
            raise ValueError(f"listen: {host}:{port} without tls; only loopback may be served in the clear")


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 and up; client certificates are asked for, not demanded: a token will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def _kubelet_context(config: ApiServerConfig) -> ssl.SSLContext | None:
    files = config.kubelet_client
    if files is None:
        return None
    context = ssl.create_default_context(cafile=str(files.client_ca) if files.client_ca else None)
    context.load_cert_chain(files.cert, files.key)
    return context


def stream_metrics(streamer: Streamer, connections: Connections) -> list[str]:
    return [
        "# TYPE apiserver_longrunning_requests gauge",
        f'apiserver_longrunning_requests{{verb="watch"}} {streamer.open_streams}',
        f'apiserver_longrunning_requests{{verb="connect"}} {connections.count}',
    ]
