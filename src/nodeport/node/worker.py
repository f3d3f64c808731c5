"""One pod on its node, from its first sight to its deletion.

Level-based: whatever happens (a new spec, an exit, a probe's verdict, a retry that is due) only wakes the worker; it
then compares the pod with its containers and does what is missing. A second task reports the status, so that an API
that is away does not keep containers from being cared for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.resources import CONFIG_MAPS, PODS, SECRETS
from nodeport.api.status import ApiError, Conflict, NotFound
from nodeport.client.events import EventRecorder, object_reference
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient, TransportError
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock
from nodeport.netlink.codec import NetlinkError
from nodeport.node import environment, pod_status, volumes
from nodeport.node import sandbox as sandboxes
from nodeport.node.addresses import AddressesExhausted, PodAddresses
from nodeport.node.containers import Keeper
from nodeport.node.environment import ConfigError, PodFacts
from nodeport.node.images import ImageError, ImageStore
from nodeport.node.pod_status import PodView, is_restartable_init
from nodeport.node.probes import Prober
from nodeport.node.runtime import ContainerOrder, Runtime
from nodeport.node.sandbox import NodeSurroundings, PodIdentity, Sandbox

_log = logging.getLogger(__name__)
CONFIG_RETRY = timedelta(seconds=10)
SANDBOX_RETRY = timedelta(seconds=5)
FIRST_REPORT = timedelta(milliseconds=150)
"""A pod that runs by then has its first report say so: most need no report of being Pending."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What all pods of a node share."""

    surroundings: NodeSurroundings
    client: RestClient
    runtime: Runtime
    images: ImageStore
    addresses: PodAddresses
    recorder: EventRecorder
    clock: Clock


class PodWorker:
    """``run`` returns when the pod is gone from node and API. ``sandbox``: one that an earlier agent left."""

    def __init__(
        self, node: NodeContext, uid: str, pod: JsonObject | None, sandbox: Sandbox | None = None
    ) -> None:
        self.uid = uid
        self._node, self._pod, self._sandbox = node, pod, sandbox
        self._last_pod: JsonObject = pod or {}
        self._wake, self._dirty = asyncio.Event(), asyncio.Event()
        self._keepers: list[Keeper] = []
        self._init_keepers: list[Keeper] = []
        self._started_at = node.clock.now()
        self._sent: JsonObject = {}
        self._final = self._over = False
        self._group: asyncio.TaskGroup | None = None

    @property
    def pod(self) -> JsonObject | None:
        return self._pod

    def update(self, pod: JsonObject | None) -> None:
        """The pod as the API has it now; None: it is gone."""
        self._pod = pod
        if pod is not None:
            self._last_pod = pod
        self._wake.set()
        self._dirty.set()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._prepare()
                reporter = group.create_task(self._report())
                await self._manage()
                reporter.cancel()
                for keeper in self._all():
                    keeper.stop_probes()
        finally:
            self._group = None

    # --- managing

    def _all(self) -> Iterable[Keeper]:
        return (*self._init_keepers, *self._keepers)

    async def _prepare(self) -> None:
        """Keepers for the containers of the spec, with the runs that were found."""
        pod = self._pod
        if pod is not None:
            self._started_at = pod_status.started_at(pod, self._started_at)
            spec = pod["spec"]
            self._keepers = [self._keeper(one, "containerStatuses") for one in spec["containers"]]
            self._init_keepers = [
                self._keeper(one, "initContainerStatuses") for one in spec.get("initContainers") or ()
            ]
        if self._sandbox is not None:
            await self._adopt(self._sandbox)

    def _keeper(self, spec: dict[str, Any], status_field: str) -> Keeper:
        known = _known_status(self._last_pod, status_field, spec["name"])
        first = known.get("restartCount", 0) + 1 if known.get("containerID") and self._sandbox is None else 0
        return Keeper(spec, first_attempt=first)

    async def _adopt(self, sandbox: Sandbox) -> None:
        keepers = {keeper.name: keeper for keeper in self._all()}
        for container in await self._node.runtime.adopt(sandbox, self._on_exit):
            keeper = keepers.get(container.name)
            if keeper is None:  # the pod is gone: the container only has to be stopped
                keeper = keepers[container.name] = Keeper({"name": container.name})
                self._keepers.append(keeper)
            keeper.take(container)
        for keeper in self._all():
            if keeper.is_running and self._pod is not None:
                keeper.image = await self._pull(keeper)
                self._start_probes(keeper, sandbox, adopted=True)
        self._dirty.set()

    async def _manage(self) -> None:
        asyncio.get_running_loop().call_later(FIRST_REPORT.total_seconds(), self._dirty.set)
        while self._pod is not None and not is_being_deleted(self._pod):
            self._wake.clear()
            for keeper in self._all():
                if keeper.current is not None and keeper.current.exit is not None:
                    keeper.ended()
            due = await self._advance()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), due.total_seconds() if due is not None else None)
        await self._terminate()

    async def _advance(self) -> timedelta | None:
        """Do what can be done now; how long until there is more to do, None: until something happens."""
        if self._over or self._phase() in ("Succeeded", "Failed"):
            await self._settle()
            return None
        if self._sandbox is None and not self._make_sandbox():
            return SANDBOX_RETRY
        policy = self._last_pod["spec"].get("restartPolicy") or "Always"
        for keeper in self._init_keepers:
            sidecar = is_restartable_init(keeper.spec)
            if (
                keeper.current is not None
                and keeper.current.exit
                and keeper.current.exit.code == 0
                and not sidecar
            ):
                continue
            due = await self._keep(keeper, "Always" if sidecar or policy == "Always" else policy)
            if not (sidecar and keeper.started.is_set()):
                self._dirty.set()
                return due
        dues = [due for keeper in self._keepers if (due := await self._keep(keeper, policy)) is not None]
        self._dirty.set()
        return min(dues, default=None)

    async def _settle(self) -> None:
        """The pod has run to its end: only its status, its logs and its object stay."""
        self._over = True
        for keeper in self._all():
            if keeper.is_running and keeper.current:
                await self._node.runtime.stop(keeper.current, self._grace())
        self._remove_sandbox()
        self._dirty.set()

    def _make_sandbox(self) -> bool:
        pod, node = self._last_pod, self._node
        metadata, spec = pod["metadata"], pod["spec"]
        host_network = bool(spec.get("hostNetwork"))
        identity = PodIdentity(
            self.uid, metadata["namespace"], metadata["name"], spec.get("hostname") or metadata["name"]
        )
        aliases = [(item["ip"], item.get("hostnames") or ()) for item in spec.get("hostAliases") or ()]
        try:
            address = node.surroundings.address if host_network else node.addresses.take(self.uid)
            made = Sandbox(node.surroundings, identity, address, host_network)
            try:
                sandboxes.ensure(made, aliases)
            except BaseException:
                sandboxes.remove(made)
                node.addresses.release(address, self.uid)
                raise
        except (OSError, AddressesExhausted, NetlinkError) as error:
            _log.warning("pod %s/%s: no sandbox: %s", metadata["namespace"], metadata["name"], error)
            self._tell("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return False
        self._sandbox = made
        return True

    async def _keep(self, keeper: Keeper, policy: str) -> timedelta | None:
        if not keeper.wants_start(policy):
            return None
        due = keeper.start_due(self._node.clock)
        if due > timedelta(0):
            if keeper.current is not None and keeper.waiting is None:
                self._wait_for_restart(keeper)
            return due
        return await self._start(keeper)

    def _wait_for_restart(self, keeper: Keeper) -> None:
        delay = pod_status.crash_delay(keeper.restart + 1)
        metadata = self._last_pod["metadata"]
        pod = f"{metadata['name']}_{metadata['namespace']}({self.uid})"
        words = f"back-off {_go_duration(delay)} restarting failed container={keeper.name} pod={pod}"
        keeper.waiting = ("CrashLoopBackOff", words)
        self._tell(
            "Warning", "BackOff", f"Back-off restarting failed container {keeper.name} in pod {pod}", keeper
        )

    async def _start(self, keeper: Keeper) -> timedelta | None:
        """One more run. How long until the next try when it could not even be ordered."""
        sandbox, node = self._sandbox, self._node
        assert sandbox is not None
        try:
            keeper.image = await self._pull(keeper)
            order = await self._order(keeper, sandbox)
        except ImageError as error:
            return self._pull_failed(keeper, error)
        except (ConfigError, ApiError, TransportError, OSError) as error:
            keeper.waiting = ("CreateContainerConfigError", str(error))
            keeper.retry_at = node.clock.monotonic() + CONFIG_RETRY.total_seconds()
            self._tell("Warning", "Failed", f"Error: {error}", keeper)
            return CONFIG_RETRY
        if keeper.current is None:
            self._tell(
                "Normal",
                "Pulled",
                f'Container image "{keeper.spec.get("image")}" already present on machine',
                keeper,
            )
        self._tell("Normal", "Created", f"Created container: {keeper.name}", keeper)
        container = await node.runtime.start(sandbox, order, self._on_exit)
        keeper.take(container)
        self._dirty.set()
        if container.pid == 0 and container.exit is not None:
            self._tell(
                "Warning", "Failed", f"Error: failed to start container: {container.exit.message}", keeper
            )
            return timedelta(0)
        self._tell("Normal", "Started", f"Started container {keeper.name}", keeper)
        self._start_probes(keeper, sandbox)
        return None

    def _pull_failed(self, keeper: Keeper, error: ImageError) -> timedelta:
        first = keeper.waiting is None
        delay = keeper.pulls.next()
        keeper.retry_at = self._node.clock.monotonic() + delay.total_seconds()
        image = keeper.spec.get("image")
        if first:
            keeper.waiting = ("ErrImagePull", str(error))
            self._tell("Warning", "Failed", str(error), keeper)
            self._tell("Warning", "Failed", "Error: ErrImagePull", keeper)
        else:
            keeper.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            self._tell("Normal", "BackOff", f'Back-off pulling image "{image}"', keeper)
            self._tell("Warning", "Failed", "Error: ImagePullBackOff", keeper)
        return delay

    async def _pull(self, keeper: Keeper) -> Any:
        return await self._node.images.pull(str(keeper.spec.get("image") or ""))

    async def _order(self, keeper: Keeper, sandbox: Sandbox) -> ContainerOrder:
        """Raises ConfigError, or ApiError when the settings it needs cannot be read."""
        image, pod = keeper.image, self._last_pod
        assert image is not None
        wanted = {*environment.setting_keys(keeper.spec), *volumes.setting_keys(pod)}
        settings = {key: await self._setting(*key) for key in wanted}
        facts = PodFacts(pod, str(sandbox.address), str(self._node.surroundings.address), settings)
        variables = environment.environment(keeper.spec, image, facts)
        uid, gid = environment.user(keeper.spec, pod)
        return ContainerOrder(
            name=keeper.name, attempt=keeper.next_attempt(), image=image,
            argv=environment.arguments(keeper.spec, image, variables), env=variables,
            cwd=keeper.spec.get("workingDir") or "/", uid=uid, gid=gid,
            mounts=volumes.mounts(keeper.spec, facts, sandbox.directory / "volumes"),
            is_own_program=not keeper.spec.get("command"),
        )  # fmt: skip

    async def _setting(self, plural: str, name: str) -> dict[str, str] | None:
        resource = CONFIG_MAPS if plural == "configmaps" else SECRETS
        try:
            found = await self._node.client.get(resource, name, self._last_pod["metadata"]["namespace"])
        except NotFound:
            return None
        return volumes.text_values(found, secret=resource is SECRETS)

    def _start_probes(self, keeper: Keeper, sandbox: Sandbox, *, adopted: bool = False) -> None:
        container, runtime = keeper.current, self._node.runtime
        assert container is not None and self._group is not None
        known = _known_status(self._last_pod, "containerStatuses", keeper.name)
        was_ready = (
            adopted and known.get("ready") is True and known.get("containerID") == container.container_id
        )

        def kill(message: str) -> None:
            self._tell("Normal", "Killing", message, keeper)
            assert self._group is not None
            self._group.create_task(runtime.stop(container, self._probe_grace(keeper)))

        prober = Prober(
            self._node.surroundings.netns, sandbox.address,
            lambda argv, timeout: runtime.execute(sandbox, container, argv, timeout),
        )  # fmt: skip
        keeper.start_probes(
            self._group, prober, self._node.clock,
            lambda kind, reason, message: self._tell(kind, reason, message, keeper), self._dirty.set, kill,
            known_ready=was_ready,
        )  # fmt: skip

    def _on_exit(self) -> None:
        self._wake.set()
        self._dirty.set()

    # --- ending

    def _grace(self) -> timedelta:
        pod = self._pod
        if pod is None:
            return timedelta(0) if self._final else timedelta(seconds=2)
        seconds = pod["metadata"].get("deletionGracePeriodSeconds")
        if seconds is None:
            seconds = pod["spec"].get("terminationGracePeriodSeconds")
        return timedelta(seconds=30 if seconds is None else seconds)

    def _probe_grace(self, keeper: Keeper) -> timedelta:
        seconds = (keeper.spec.get("livenessProbe") or {}).get("terminationGracePeriodSeconds")
        return timedelta(seconds=seconds) if seconds is not None else self._grace()

    async def _terminate(self) -> None:
        """Stop everything within the grace period, say so, and let the object go."""
        self._final = True
        assert self._group is not None
        for keeper in self._all():
            keeper.stop_restarting_probes()
        running = [keeper for keeper in self._all() if keeper.is_running]
        stops = [self._group.create_task(self._stop(keeper)) for keeper in running]
        while any(not stop.done() for stop in stops):
            self._wake.clear()
            if self._pod is None:
                for keeper in running:
                    if keeper.current is not None:
                        await self._node.runtime.stop(keeper.current, timedelta(0))
            wake = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait({*stops, wake}, return_when=asyncio.FIRST_COMPLETED)
            wake.cancel()
        for keeper in self._all():
            keeper.ended()
        self._remove_sandbox()
        await self._let_go()

    async def _stop(self, keeper: Keeper) -> None:
        container, grace = keeper.current, self._grace()
        assert container is not None
        self._tell("Normal", "Killing", f"Stopping container {keeper.name}", keeper)
        began = self._node.clock.monotonic()
        await self._pre_stop(keeper, grace)
        spent = timedelta(seconds=self._node.clock.monotonic() - began)
        await self._node.runtime.stop(
            container, max(grace - spent, timedelta(seconds=min(2.0, grace.total_seconds())))
        )

    async def _pre_stop(self, keeper: Keeper, grace: timedelta) -> None:
        hook = (keeper.spec.get("lifecycle") or {}).get("preStop") or {}
        if not grace or keeper.current is None or self._sandbox is None:
            return
        if sleep := (hook.get("sleep") or {}).get("seconds"):
            await self._node.clock.sleep(min(float(sleep), grace.total_seconds()))
        elif command := (hook.get("exec") or {}).get("command"):
            try:
                await self._node.runtime.execute(self._sandbox, keeper.current, command, grace)
            except (OSError, TimeoutError) as error:
                self._tell("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}", keeper)

    def _remove_sandbox(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandboxes.remove(sandbox)
            if not sandbox.host_network:
                self._node.addresses.release(sandbox.address, self.uid)

    async def _let_go(self) -> None:
        """The last status, then the deletion that ends the object's grace period; until the API has taken both."""
        retry = Backoff(timedelta(milliseconds=200), timedelta(seconds=5), jitter=0.5)
        while self._pod is not None:
            metadata = self._pod["metadata"]
            try:
                await self._send_status()
                await self._node.client.delete(
                    PODS, metadata["name"], metadata["namespace"], uid=self.uid, grace_period_seconds=0
                )
                return
            except (NotFound, Conflict):
                return
            except (ApiError, TransportError) as error:
                _log.warning("pod %s/%s: %s", metadata["namespace"], metadata["name"], error)
                await self._node.clock.sleep(retry.next().total_seconds())

    # --- reporting

    async def _report(self) -> None:
        retry = Backoff(timedelta(milliseconds=200), timedelta(seconds=5), jitter=0.5)
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._send_status()
                retry.reset()
            except (NotFound, Conflict):
                continue  # gone, or another pod of the name: the informer will say so
            except (ApiError, TransportError) as error:
                _log.warning("status of pod %s: %s", self.uid, error)
                await self._node.clock.sleep(retry.next().total_seconds())
                self._dirty.set()

    async def _send_status(self) -> None:
        if self._pod is None:
            return
        wanted = pod_status.status(self._view(), self._node.clock.now())
        if wanted == self._sent:
            return
        metadata = self._pod["metadata"]
        patch: JsonObject = {"metadata": {"uid": self.uid}, "status": wanted}
        await self._node.client.patch(
            PODS, metadata["name"], patch, metadata["namespace"],
            content_type=STRATEGIC_MERGE_PATCH, subresource="status",
        )  # fmt: skip
        self._sent = wanted

    def _phase(self) -> str:
        known = (self._last_pod.get("status") or {}).get("phase")
        if known in ("Succeeded", "Failed") and not any(keeper.is_running for keeper in self._all()):
            return str(known)
        return pod_status.phase(self._view())

    def _view(self) -> PodView:
        pod = self._last_pod
        if self._sent:
            merged = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or ()}
            merged |= {item["type"]: item for item in self._sent["conditions"]}
            pod = {**pod, "status": {**(pod.get("status") or {}), "conditions": list(merged.values())}}
        known_ip = (pod.get("status") or {}).get("podIP") or ""
        return PodView(
            pod=pod,
            host_ip=str(self._node.surroundings.address),
            pod_ip=str(self._sandbox.address) if self._sandbox else known_ip,
            started_at=self._started_at,
            containers=[keeper.view() for keeper in self._keepers],
            init_containers=[keeper.view() for keeper in self._init_keepers],
            sandboxed=self._sandbox is not None,
            final=self._final,
        )

    def _tell(self, kind: str, reason: str, message: str, keeper: Keeper | None = None) -> None:
        if not self._last_pod:
            return
        path = f"spec.containers{{{keeper.name}}}" if keeper else ""
        self._node.recorder.event(
            object_reference(PODS, self._last_pod, field_path=path), kind, reason, message
        )


def _known_status(pod: JsonObject, field_name: str, name: str) -> dict[str, Any]:
    known = (pod.get("status") or {}).get(field_name) or ()
    return next((item for item in known if item.get("name") == name), {})


def _go_duration(delay: timedelta) -> str:
    """``10s``, ``1m20s``, ``5m0s``, as Go prints them."""
    minutes, seconds = divmod(int(delay.total_seconds()), 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
