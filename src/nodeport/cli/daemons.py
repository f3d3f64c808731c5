"""The two processes of a local cluster: ``server`` (API and controllers) and ``nodes`` (agents and proxies).

``python -m nodeport.cli.daemons PART NAME DATA_ROOT RUN_ROOT`` is how `up` starts them: without the command line's own
imports, and with the expensive ones begun before network and certificates are there.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport.node import daemonlog, local, localoptions
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.localoptions import LocalError, Network

if TYPE_CHECKING:
    from nodeport.apiserver.audit import AuditOptions

PREPARED_PATIENCE = 60.0
SERVER_TRIES = 1000
POLL = 0.005
MANY_FILES = 65_536
STARTING_OBJECTS = 200_000
"""How many new objects the collector waits for until ``_settle``: what a start makes, stays."""
TLS_BUFFER_BYTES = 32 * 1024
"""Two records for each of a node's connections, of which there are two: asyncio's own 256 KiB are for few."""


async def wait_until_prepared(paths: Paths) -> ClusterConfig:
    """The configuration, once `up` has made network and certificates."""
    try:
        async with asyncio.timeout(PREPARED_PATIENCE):
            while not paths.prepared.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(POLL)
    except TimeoutError as error:
        raise LocalError(
            f"cluster {paths.name!r} has no network after {PREPARED_PATIENCE:.0f} s: `nodeport up` makes it"
        ) from error
    config = local.load(paths)
    if config is None:
        raise LocalError(f"there is no cluster {paths.name!r} in {paths.data_root}: `nodeport up` makes one")
    return config


@dataclass(frozen=True, slots=True)
class Ranges:
    """What Services get in this run of the server; None: what the cluster was made with."""

    cidrs: tuple[Network, ...] | None = None
    node_ports: range | None = None

    def applied_to(self, name: str, config: ClusterConfig) -> ClusterConfig:
        """Raises LocalError when the cluster cannot have these addresses."""
        if self.cidrs is not None:
            localoptions.check_same_service_cidrs(name, self.cidrs, config.service_networks)
            config = replace(config, service_cidr=localoptions.shown_cidrs(self.cidrs))
        if self.node_ports is not None:
            config = replace(config, node_ports=f"{self.node_ports.start}-{self.node_ports.stop - 1}")
        return config


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """How failed nodes are dealt with in this run of the server, in seconds. None: as the cluster was made."""

    grace: float | None = None
    not_ready: int | None = None
    unreachable: int | None = None

    def applied_to(self, config: ClusterConfig) -> ClusterConfig:
        """Raises LocalError when the cluster's nodes would seem to fail all the time."""
        if self.grace is None:
            return config
        renewal = config.renew_every.total_seconds()
        if self.grace <= renewal:
            raise LocalError(
                f"--node-monitor-grace-period {self.grace:g}s: must be more than the {renewal:g} s after which this"
                " cluster's nodes renew their leases; `nodeport up` with the option makes them quicker"
            )
        return replace(config, node_grace=self.grace)

    def tolerated(self) -> Mapping[str, int]:
        given = {"not_ready": self.not_ready, "unreachable": self.unreachable}
        return {field: seconds for field, seconds in given.items() if seconds is not None}


async def serve(paths: Paths, ranges: Ranges, limits: Mapping[str, int], failure: NodeFailure) -> None:
    """API server and controllers, until cancelled. ``limits``: fields of the API server's that are not the default."""
    from nodeport.apiserver.auth import User
    from nodeport.apiserver.limits import Limits
    from nodeport.apiserver.server import ApiServer, ApiServerConfig, TlsFiles
    from nodeport.apiserver.strategies.pods import Tolerated
    from nodeport.client.config import ClientConfig
    from nodeport.client.rest import RestClient
    from nodeport.controllers.manager import ControllerManager
    from nodeport.store.sqlite import SqliteStore

    config = failure.applied_to(ranges.applied_to(paths.name, await wait_until_prepared(paths)))
    plan = config.plan(paths.name)
    authority = paths.certificate("ca")
    port = config.api_port

    def tls(stem: str) -> TlsFiles:
        return TlsFiles(paths.certificate(stem), paths.key(stem), authority)

    managers: list[ControllerManager] = []
    async with await SqliteStore.open(paths.store) as store:
        server = ApiServer(
            ApiServerConfig(
                store=store,
                listen=(("127.0.0.1", port), *((str(host), port) for host in plan.hosts)),
                tls=tls("server"),
                tokens={paths.token.read_text().strip(): User("kubernetes-admin", ("system:masters",))},
                service_cidrs=config.service_networks,
                node_port_range=config.node_port_range,
                advertise=(str(plan.host), port),
                kubelet_client=tls("kubelet-client"),
                service_account_key=paths.key("sa"),
                audit=audit_options(config),
                limits=Limits(**limits),
                cluster_dns=True,
                tolerated=Tolerated(**failure.tolerated()),
                metrics=lambda: [line for manager in managers for line in manager.metrics()],
            )
        )
        client = RestClient(
            ClientConfig(
                config.url, authority.read_bytes(), paths.certificate("controller"), paths.key("controller")
            ),
            user_agent="nodeport-controllers",
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run())
            await server.wait_until_serving()
            announce(paths.ready("server"))
            async with client:
                manager = ControllerManager(
                    client, ca_pem=authority.read_bytes(), ca_key_pem=paths.key("ca").read_bytes(),
                    node_monitor_grace=timedelta(seconds=config.node_grace),
                    max_endpoints_per_slice=config.max_endpoints_per_slice, cluster_cidrs=plan.pods,
                )  # fmt: skip
                managers.append(manager)
                settled = group.create_task(_settle(manager.wait_until_synced))
                await manager.run()
                settled.cancel()


def audit_options(config: ClusterConfig) -> AuditOptions | None:
    from nodeport.apiserver.audit import AuditOptions

    if not config.audit_log:
        return None
    return AuditOptions(Path(config.audit_log), config.audit_megabytes, config.audit_backups)


async def run_nodes(paths: Paths) -> None:
    """All nodes of the cluster, until cancelled; their pods and rules stay."""
    from nodeport.cli.localnodes import LocalNodes

    SSLProtocol.max_size = TLS_BUFFER_BYTES
    config = await wait_until_prepared(paths)
    nodes = LocalNodes(paths, config)
    await _until_served(paths)
    async with asyncio.TaskGroup() as group:
        group.create_task(nodes.run())
        await nodes.wait_until_ready()
        announce(paths.ready("nodes"))
        await _settle(None)


async def _until_served(paths: Paths) -> None:
    """Waits for the API server, which starts at the same time: sooner known here than by the clients' back-off."""
    for _ in range(SERVER_TRIES):
        if paths.ready("server").exists():
            return
        await asyncio.sleep(POLL)


async def _settle(synced: Callable[[], Awaitable[None]] | None) -> None:
    """What is there now stays for ever: the collector need not look at it again."""
    if synced is not None:
        await synced()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def announce(path: Path) -> None:
    """Tell `up`, which looks every few milliseconds, that the part serves."""
    local.write_private(path, f"{os.getpid()}\n")


async def until_terminated(work: Callable[[], Awaitable[None]]) -> None:
    """Runs ``work`` until SIGTERM or SIGINT cancels it."""
    task = asyncio.ensure_future(work())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise


def allow_many_files() -> None:
    """Each connection is an open file: raise what is allowed without asking as far as that may be done."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(
    part: str, paths: Paths, ranges: Ranges = Ranges(), limits: Mapping[str, int] | None = None,
    failure: NodeFailure = NodeFailure(),
) -> None:  # fmt: skip
    """Run one part in this process until it is told to end. What keeps it from its work is said in one line."""
    from nodeport.kit.logs import configure

    gc.set_threshold(STARTING_OBJECTS, 50, 50)
    configure("INFO")
    try:
        if part == "server":
            import uvloop

            allow_many_files()
            work: Callable[[], Awaitable[None]] = lambda: serve(paths, ranges, limits or {}, failure)  # noqa: E731
            uvloop.run(until_terminated(lambda: _with_small_log(paths.log(part), work)))
        else:
            asyncio.run(until_terminated(lambda: _with_small_log(paths.log(part), lambda: run_nodes(paths))))
    except BaseException as error:
        if (said := _in_words(error)) is None:
            raise
        raise SystemExit(f"error: {said}") from error


def _in_words(error: BaseException) -> str | None:
    """None for a bug."""
    from nodeport.cli.errors import sentence
    from nodeport.proxy.claim import AlreadyProxied

    return sentence(error, (LocalError, AlreadyProxied))


async def _with_small_log(log: Path, work: Callable[[], Awaitable[None]]) -> None:
    """What this process says does not fill the disk while it works, if it goes to the file that `up` opened."""
    keeping = asyncio.create_task(daemonlog.keep_small(log))
    try:
        await work()
    finally:
        keeping.cancel()


if __name__ == "__main__":
    run(sys.argv[1], Paths(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
