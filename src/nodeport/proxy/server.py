"""The whole of ``nodeport proxy``: a stand-in for kube-proxy on one node of any cluster.

Waits for its Node as kube-proxy does, then runs the proxy, its servers and its events until cancelled. The kernel keeps
what it has when this ends.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport import KUBERNETES_VERSION, __version__
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES
from nodeport.api.status import ApiError, Forbidden, NotFound
from nodeport.client.config import ClientConfig
from nodeport.client.events import NORMAL, WARNING, EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient, TransportError
from nodeport.forwarding.table import Family
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.proxy.claim import AlreadyProxied
from nodeport.proxy.conntrack_settings import apply_settings
from nodeport.proxy.health import Health, health_handler, waiting
from nodeport.proxy.http import serve_at
from nodeport.proxy.metrics import ProxyMetrics
from nodeport.proxy.proxier import Discrepancy
from nodeport.proxy.runner import ProxyRunner
from nodeport.proxy.settings import ProxySettings, proxy_options
from nodeport.proxy.slimming import ServiceSlimmer, SliceSlimmer
from nodeport.proxy.statuspage import serve_status
from nodeport.proxy.warnings import COMPONENT, ServiceWarnings

ADDRESS_PATIENCE: Final = timedelta(seconds=30)
POD_CIDR_PATIENCE: Final = timedelta(minutes=5)
_POLL: Final = 0.2
_LAST_WORDS: Final = 5.0
_FILE_POLL: Final = 5.0
_VERIFY_TRIES: Final = 3
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_log = get_logger(__name__)


class ProxyError(Exception):
    """The proxy cannot go on; one sentence."""


class ProxyServer:
    """``load`` reads how to reach the API; ``watched`` is the configuration's file, whose change ends the proxy."""

    def __init__(
        self,
        settings: ProxySettings,
        load: Callable[[], ClientConfig],
        clock: Clock,
        watched: Path | None = None,
    ) -> None:
        self._settings = settings
        self._options = proxy_options(settings)
        self._clock = clock
        self._watched = watched
        self._active: ProxyRunner | None = None
        self._key = NamespacedName("", settings.node_name)
        self._metrics = ProxyMetrics(self._options.mode, self._options.families, clock.now())
        self._client = RestClient(
            load(),
            user_agent=f"nodeport-proxy/{__version__}",
            reload=load,
            observer=self._metrics.request_sent,
        )
        self._events = EventRecorder(self._client, COMPONENT, settings.node_name, clock=clock)
        self._services = Informer(
            self._client, SERVICES, clock=clock, label_selector="!service.kubernetes.io/service-proxy-name",
            field_selector="spec.clusterIP!=None", spares_work=True, keep=ServiceSlimmer(),
        )  # fmt: skip
        self._slices = Informer(
            self._client,
            ENDPOINT_SLICES,
            clock=clock,
            label_selector="!service.kubernetes.io/headless",
            keep=SliceSlimmer(),
        )
        self._nodes = Informer(
            self._client, NODES, clock=clock, field_selector=f"metadata.name={settings.node_name}"
        )

    # --- running

    async def run(self) -> None:
        """Raises ProxyError, UnsupportedMode or OSError."""
        self._adjust_process()
        self._introduce()
        async with self._client:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._events.run(), name="events")
                    tasks.create_task(self._nodes.run(), name="nodes")
                    tasks.create_task(self._watch_file(), name="configuration-file")
                    await self._run_proxy(tasks)
            except* (ProxyError, OSError) as group:
                raise _first(group) from None

    async def _run_proxy(self, tasks: asyncio.TaskGroup) -> None:
        self._set_conntrack()
        tasks.create_task(self._serve_health(), name="health")
        await self._wait_for_node()
        cidrs = await self._service_cidrs()
        for informer in (self._services, self._slices, cidrs):
            if informer is not None:
                tasks.create_task(informer.run(), name=informer.resource.plural)
        runner = self._active = self._runner(cidrs)
        self._tell_node(NORMAL, "Starting", "")
        tasks.create_task(self._serve_status(runner), name="status")
        tasks.create_task(_settle(runner), name="settle")
        try:
            await runner.run()
        except* AlreadyProxied as group:
            await self._say_last("AnotherProxy", str(_first(group)))
            raise ProxyError(str(_first(group))) from None
        except* OSError as group:
            error = _first(group)
            raise ProxyError(f"cannot go on: {error}") from error

    async def _serve_health(self) -> None:
        """From the start: whoever waits for its Node is alive, and must not be killed for that."""
        address = self._options.health
        if address is None:
            return
        handler = health_handler(self._health, self._metrics.health_answered)
        try:
            await serve_at(
                address, self._settings.netns, handler, self._clock, what="/healthz",
                hard_fail=self._options.hard_fail,
            )  # fmt: skip
        except OSError as error:
            await self._say_last("FailedToStartProxierHealthcheck", str(error))
            raise ProxyError(f"cannot go on: {error}") from error

    def _health(self) -> Health:
        return self._active.health() if self._active is not None else waiting(self._clock.now())

    def _runner(self, cidrs: Informer | None) -> ProxyRunner:
        return ProxyRunner(
            node_name=self._settings.node_name, services=self._services, slices=self._slices, nodes=self._nodes,
            service_cidrs=cidrs, netns=self._settings.netns, clock=self._clock,
            options=replace(self._options, health=None), observer=self._metrics,
            warn=ServiceWarnings(self._events, self._services),
            warn_node=lambda reason, message: self._tell_node(WARNING, reason, message),
        )  # fmt: skip

    async def _wait_for_node(self) -> None:
        """For its addresses half a minute, then without; for podCIDRs, if those tell pods, five minutes at most."""
        await self._nodes.wait_until_synced()
        needs_cidrs = self._options.pods_from_node
        if needs_cidrs and not await self._until(self._has_pod_cidrs, POD_CIDR_PATIENCE, "podCIDRs"):
            raise ProxyError(
                f"timeout waiting for PodCIDR allocation to configure detect-local-mode NodeCIDR: "
                f'node "{self._settings.node_name}" has none'
            )
        if self._options.node_address is None and not await self._until(
            self._has_address, ADDRESS_PATIENCE, "addresses"
        ):
            _log.warning(
                "cannot determine the addresses of node %s; going on: NodePorts answer once they are known, "
                "or set --bind-address",
                self._settings.node_name,
            )

    async def _until(self, condition: Callable[[], bool], patience: timedelta, what: str) -> bool:
        deadline = self._clock.monotonic() + patience.total_seconds()
        if not condition():
            node, seconds = self._settings.node_name, patience.total_seconds()
            _log.info("node %s has no %s yet: waiting for them, for %.0f s at most", node, what, seconds)
        while not condition():
            if self._clock.monotonic() >= deadline:
                return False
            await self._clock.sleep(_POLL)
        return True

    def _has_pod_cidrs(self) -> bool:
        spec = (self._nodes.get(self._key) or {}).get("spec") or {}
        return bool(spec.get("podCIDRs") or spec.get("podCIDR"))

    def _has_address(self) -> bool:
        status = (self._nodes.get(self._key) or {}).get("status") or {}
        kinds = {item.get("type") for item in status.get("addresses") or ()}
        return bool(kinds & {"InternalIP", "ExternalIP"})

    async def _service_cidrs(self) -> Informer | None:
        """``None`` for servers from before ServiceCIDRs: addresses of no Service are then left alone, as there.

        Such a server says that they are forbidden to whoever was never allowed to read them.
        """
        backoff = Backoff(timedelta(milliseconds=200), timedelta(seconds=10), jitter=0.2)
        while True:
            try:
                await self._client.list(SERVICE_CIDRS, limit=1)
            except NotFound:
                _log.info("this server has no ServiceCIDRs")
                return None
            except Forbidden as error:
                _log.warning(
                    "going on without ServiceCIDRs: addresses of no Service are left alone: %s", error
                )
                return None
            except (ApiError, TransportError) as error:
                _log.warning("servicecidrs: %s", error)
                await self._clock.sleep(backoff.next().total_seconds())
            else:
                return Informer(self._client, SERVICE_CIDRS, clock=self._clock)

    # --- verifying

    async def verify(self) -> dict[Family, list[Discrepancy]]:
        """Where this node's kernel is not what the cluster wants now; changes nothing."""
        async with self._client, asyncio.TaskGroup() as tasks:
            await self._ask_once()
            cidrs = await self._service_cidrs()
            followed = [self._nodes, self._services, self._slices, *([cidrs] if cidrs is not None else [])]
            running = [tasks.create_task(informer.run()) for informer in followed]
            await self._nodes.wait_until_synced()
            if self._nodes.get(self._key) is None:
                raise ProxyError(
                    f'nodes "{self._settings.node_name}" not found: what the kernel should have depends on its '
                    "addresses and podCIDRs (a proxy that runs keeps those that it saw last); "
                    "--hostname-override names another"
                )
            found: dict[Family, list[Discrepancy]] = {}
            for _ in range(_VERIFY_TRIES):  # a change may be on its way to the kernel
                found = await self._runner(cidrs).verify()
                if not any(found.values()):
                    break
                await self._clock.sleep(_POLL)
            for task in running:
                task.cancel()
        return found

    async def _ask_once(self) -> None:
        """Whoever waits for an answer is told what is in its way. Raises ProxyError."""
        try:
            for informer in (self._nodes, self._services, self._slices):
                await informer.probe()
        except (ApiError, TransportError) as error:
            raise ProxyError(f"cannot learn what the cluster wants: {error}") from error

    # --- around it

    def _introduce(self) -> None:
        """What somebody who reads the log wants to know first."""
        _log.info(
            "nodeport %s, in place of kube-proxy %s: mode %s, node %s, API %s",
            __version__, KUBERNETES_VERSION, self._options.mode, self._settings.node_name, self._client.config.server,
        )  # fmt: skip
        if not self._options.nodeport_addresses:
            _log.warning(
                "nodePortAddresses is unset: NodePorts answer on all local addresses; "
                "consider --nodeport-addresses=primary"
            )

    def _adjust_process(self) -> None:
        score = self._settings.config.oomScoreAdj
        try:
            if score is not None:
                _OOM_SCORE.write_text(str(score))
        except OSError as error:
            _log.debug("cannot set the out-of-memory score to %d: %s", score, error)

    def _set_conntrack(self) -> None:
        wanted = self._settings.config.conntrack
        for problem in apply_settings(wanted, os.cpu_count() or 1, self._settings.netns):
            _log.warning("%s", problem)
            if "read-only" in problem:
                self._tell_node(WARNING, "ReadOnlyConntrack", f"{problem}: problems may arise later")

    async def _serve_status(self, runner: ProxyRunner) -> None:
        settings = self._settings
        try:
            await serve_status(settings.config, runner, self._metrics, settings.netns, self._clock)
        except OSError as error:
            await self._say_last("FailedToStartMetricServer", str(error))
            raise ProxyError(f"starting metrics server failed: {error}") from error

    async def _watch_file(self) -> None:
        """As kube-proxy, start over when the configuration changes; whoever keeps us running starts the new one."""
        if self._watched is None:
            return
        before = self._watched.read_bytes()
        while True:
            await self._clock.sleep(_FILE_POLL)
            with suppress(FileNotFoundError):  # replaced just now
                if self._watched.read_bytes() != before:
                    raise ProxyError("content of the proxy server's configuration file was updated")

    # --- events

    def _node_reference(self) -> JsonObject:
        """The name stands for the uid, as kubectl describe looks for it."""
        return {
            "kind": "Node",
            "name": self._settings.node_name,
            "uid": self._settings.node_name,
            "apiVersion": "v1",
        }

    def _tell_node(self, kind: str, reason: str, message: str) -> None:
        self._events.event(self._node_reference(), kind, reason, message, action="StartKubeProxy")

    async def _say_last(self, reason: str, message: str) -> None:
        self._tell_node(WARNING, reason, message)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._events.wait_until_written()


async def _settle(runner: ProxyRunner) -> None:
    """What is there once the kernel has everything stays: the collector need not look at it again."""
    await runner.wait_until_programmed()
    ports = sum(len(runner.table(family)) for family in runner.families)
    _log.info("the kernel has all %d Service ports (%s)", ports, ", ".join(map(str, runner.families)))
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
