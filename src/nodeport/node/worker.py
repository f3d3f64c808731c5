"""One pod on its node, from its first sight to its deletion.

Level-based: whatever happens (a new spec, an exit, a probe's verdict, a retry that is due) only wakes the worker; it
then compares the pod with its containers and does what is missing. A second task reports the status, so that an API
that is away does not keep containers from being cared for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Any

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.status import ApiError
from nodeport.client.rest import TransportError
from nodeport.node import admission, pod_status
from nodeport.node import sandbox as sandboxes
from nodeport.node.containers import Keeper
from nodeport.node.environment import ConfigError
from nodeport.node.pod_record import NodeContext, PodRecord
from nodeport.node.pod_status import is_restartable_init
from nodeport.node.probes import Prober
from nodeport.node.reporter import StatusReporter
from nodeport.node.sandbox import Sandbox
from nodeport.node.sandboxkeeper import SandboxKeeper
from nodeport.node.starter import ContainerStarter
from nodeport.node.volumes import podvolumes

_log = logging.getLogger(__name__)
SANDBOX_RETRY = timedelta(seconds=5)
LEAST_GRACE = timedelta(seconds=2)
"""What is left for SIGTERM at least when a preStop hook has used up the grace period."""
DRAIN = timedelta(milliseconds=200)
"""Between the deletion and SIGTERM of a container that serves: nodes learn at the same moment that its endpoint is
going, and a program that ends sooner than their rules change would refuse connections."""
REFRESH = timedelta(seconds=10)
"""How soon a changed ConfigMap or Secret is seen in volumes. A kubelet takes a minute or so."""
FIRST_REPORT = timedelta(milliseconds=150)
"""A pod that runs by then has its first report say so: most need no report of being Pending."""


class PodWorker:
    """``run`` returns when the pod is gone from node and API. ``sandbox``: one that an earlier agent left."""

    def __init__(
        self, node: NodeContext, uid: str, pod: JsonObject | None, sandbox: Sandbox | None = None
    ) -> None:
        self._node = node
        self._record = PodRecord(node, uid, pod, node.clock.now(), last_pod=pod or {}, sandbox=sandbox)
        self._starter = ContainerStarter(self._record)
        self._reporter = StatusReporter(self._record)
        self._surroundings = SandboxKeeper(self._record)
        self._over = False

    @property
    def pod(self) -> JsonObject | None:
        return self._record.pod

    @property
    def record(self) -> PodRecord:
        return self._record

    def update(self, pod: JsonObject | None) -> None:
        """The pod as the API has it now; None: it is gone."""
        self._record.update(pod)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            await self._prepare(group)
            reporting = group.create_task(self._reporter.run())
            refreshing = group.create_task(self._refresh_volumes())
            await self._manage(group)
            refreshing.cancel()
            await self._terminate(group)
            await self._reporter.let_go()
            reporting.cancel()
        self._remove_logs()

    async def _prepare(self, group: asyncio.TaskGroup) -> None:
        """Keepers for the containers of the spec, with the runs that were found."""
        record = self._record
        if record.pod is not None:
            record.started_at = pod_status.started_at(record.pod, record.started_at)
            spec = record.pod["spec"]
            record.keepers = [self._keeper(one, "containerStatuses") for one in spec["containers"]]
            initial = spec.get("initContainers") or ()
            record.init_keepers = [self._keeper(one, "initContainerStatuses") for one in initial]
        if record.sandbox is not None:
            await self._adopt(group, record.sandbox)

    def _keeper(self, spec: dict[str, Any], status_field: str) -> Keeper:
        """After a reboot the count of restarts goes on from what the API knows."""
        known = self._record.known_status(status_field, spec["name"])
        ran_before = known.get("containerID") and self._record.sandbox is None
        return Keeper(spec, first_attempt=known.get("restartCount", 0) + 1 if ran_before else 0)

    async def _adopt(self, group: asyncio.TaskGroup, sandbox: Sandbox) -> None:
        record = self._record
        keepers = {keeper.name: keeper for keeper in record.all_keepers()}
        for container in await self._node.runtime.adopt(sandbox, record.changed):
            if container.name not in keepers:  # the pod is gone: its containers only have to be stopped
                keepers[container.name] = Keeper({"name": container.name})
                record.keepers.append(keepers[container.name])
            keepers[container.name].take(container)
        for keeper in record.all_keepers():
            if keeper.is_running and record.pod is not None:
                keeper.image = await self._starter.known_image(keeper)
                self._start_probes(group, keeper, sandbox, adopted=True)
        record.dirty.set()

    # --- managing

    async def _manage(self, group: asyncio.TaskGroup) -> None:
        """Until the pod is to go."""
        record = self._record
        asyncio.get_running_loop().call_later(FIRST_REPORT.total_seconds(), record.dirty.set)
        while record.pod is not None and not is_being_deleted(record.pod):
            record.wake.clear()
            for keeper in record.all_keepers():
                if keeper.current is not None and keeper.current.exit is not None:
                    keeper.ended()
            due = await self._advance(group)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(record.wake.wait(), due.total_seconds() if due is not None else None)

    async def _advance(self, group: asyncio.TaskGroup) -> timedelta | None:
        """Do what can be done now; how long until there is more to do, None: until something happens."""
        record = self._record
        if record.failure is None and record.sandbox is None:
            record.failure = admission.refusal(record.last_pod)
        if self._over or record.phase() in ("Succeeded", "Failed"):
            await self._settle()
            return None
        if not self._surroundings.ensure():
            return SANDBOX_RETRY
        policy = record.last_pod["spec"].get("restartPolicy") or "Always"
        try:
            for keeper in record.init_keepers:
                sidecar = is_restartable_init(keeper.spec)
                if not sidecar and keeper.view().exit_code == 0:
                    continue
                due = await self._keep(group, keeper, "Always" if sidecar else _init_policy(policy))
                if not (sidecar and keeper.started.is_set()):
                    return due
            dues = [await self._keep(group, keeper, policy) for keeper in record.keepers]
            return min((due for due in dues if due is not None), default=None)
        finally:
            record.dirty.set()

    async def _settle(self) -> None:
        """The pod has run to its end: only its status, its logs and its object stay."""
        if self._record.failure and not self._over:
            self._record.warn(*self._record.failure)
        self._over = True
        for keeper in (*self._record.keepers, *reversed(self._record.init_keepers)):
            if keeper.is_running and keeper.current:
                await self._node.runtime.stop(keeper.current, self._record.grace())
        self._surroundings.remove()
        self._record.dirty.set()

    async def _keep(self, group: asyncio.TaskGroup, keeper: Keeper, policy: str) -> timedelta | None:
        """The container runs, or will when it is due. None: nothing to wait for."""
        if not keeper.wants_start(policy):
            return None
        due = keeper.start_due(self._node.clock)
        if due > timedelta(0):
            if keeper.current is not None and keeper.waiting is None:
                self._starter.back_off(keeper)
            return due
        sandbox = self._record.sandbox
        assert sandbox is not None
        due_again = await self._starter.start(keeper, sandbox)
        if due_again is None:
            self._start_probes(group, keeper, sandbox)
        return due_again

    def _start_probes(
        self, group: asyncio.TaskGroup, keeper: Keeper, sandbox: Sandbox, *, adopted: bool = False
    ) -> None:
        record, runtime, container = self._record, self._node.runtime, keeper.current
        assert container is not None
        known = record.known_status("containerStatuses", keeper.name)
        was_ready = (
            adopted and known.get("ready") is True and known.get("containerID") == container.container_id
        )

        def kill(message: str) -> None:
            record.note("Killing", message, keeper)
            seconds = (keeper.spec.get("livenessProbe") or {}).get("terminationGracePeriodSeconds")
            grace = record.grace() if seconds is None else timedelta(seconds=seconds)
            group.create_task(runtime.stop(container, grace))

        prober = Prober(
            self._node.surroundings.netns,
            sandbox.address,
            lambda argv, limit: runtime.execute(sandbox, container, argv, limit),
        )
        keeper.start_probes(
            group, prober, self._node.clock,
            lambda kind, reason, message: record.tell(kind, reason, message, keeper), record.changed, kill,
            known_ready=was_ready,
        )  # fmt: skip

    async def _refresh_volumes(self) -> None:
        """Until cancelled: containers see changed settings, and tokens before the old ones end."""
        record = self._record
        while True:
            await self._node.clock.sleep(REFRESH.total_seconds())
            if record.sandbox is None or record.pod is None or not podvolumes.changes(record.pod):
                continue
            try:
                await self._starter.ensure_volumes(record.sandbox)
            except (ConfigError, ApiError, TransportError, OSError) as error:
                record.warn("FailedMount", str(error))

    # --- ending

    async def _terminate(self, group: asyncio.TaskGroup) -> None:
        """Stop everything within the grace period; readiness is still probed meanwhile, as endpoints drain."""
        record = self._record
        record.final = True
        for keeper in record.all_keepers():
            keeper.stop_restarting_probes()
        running = [keeper for keeper in record.all_keepers() if keeper.is_running]
        stopping = group.create_task(self._stop_in_order())
        while not stopping.done():
            record.wake.clear()
            if record.pod is None:
                await self._kill(running)
            wake = group.create_task(record.wake.wait())
            await asyncio.wait({stopping, wake}, return_when=asyncio.FIRST_COMPLETED)
            wake.cancel()
        for keeper in record.all_keepers():
            keeper.ended()
        self._surroundings.remove()

    async def _stop_in_order(self) -> None:
        """All at once but sidecars, which serve the others to their end: the last that was started goes first."""
        record, began = self._record, self._node.clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for keeper in record.keepers:
                if keeper.is_running:
                    group.create_task(self._stop(keeper, record.grace()))
        for keeper in reversed(record.init_keepers):
            if keeper.is_running:
                left = record.grace() - timedelta(seconds=self._node.clock.monotonic() - began)
                await self._stop(keeper, max(left, min(LEAST_GRACE, record.grace())))

    async def _kill(self, keepers: list[Keeper]) -> None:
        """The object is gone: somebody has forced the deletion, and nothing is left to wait for."""
        for keeper in keepers:
            if keeper.current is not None:
                await self._node.runtime.stop(keeper.current, timedelta(0))

    async def _stop(self, keeper: Keeper, grace: timedelta) -> None:
        container, clock = keeper.current, self._node.clock
        assert container is not None
        self._record.note("Killing", f"Stopping container {keeper.name}", keeper)
        began = clock.monotonic()
        await self._pre_stop(keeper, grace)
        if keeper.ready and grace > DRAIN:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(container.ended.wait(), DRAIN.total_seconds())
        left = grace - timedelta(seconds=clock.monotonic() - began)
        await self._node.runtime.stop(container, max(left, min(LEAST_GRACE, grace)))

    async def _pre_stop(self, keeper: Keeper, grace: timedelta) -> None:
        hook = (keeper.spec.get("lifecycle") or {}).get("preStop") or {}
        container, sandbox = keeper.current, self._record.sandbox
        if not grace or container is None or sandbox is None:
            return
        if seconds := (hook.get("sleep") or {}).get("seconds"):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(container.ended.wait(), min(float(seconds), grace.total_seconds()))
        elif command := (hook.get("exec") or {}).get("command"):
            try:
                await self._node.runtime.execute(sandbox, container, command, grace)
            except (OSError, TimeoutError) as error:
                self._record.warn("FailedPreStopHook", f"PreStopHook failed: {error}", keeper)

    def _remove_logs(self) -> None:
        if metadata := self._record.last_pod.get("metadata"):
            where = self._node.surroundings, metadata["namespace"], metadata["name"], self._record.uid
            sandboxes.remove_logs(sandboxes.log_directory(*where))


def _init_policy(policy: str) -> str:
    """An init container that succeeded is done, whatever the pod's policy."""
    return "OnFailure" if policy == "Always" else policy
