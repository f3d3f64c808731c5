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

from nodeport.api.meta import JsonObject
from nodeport.api.status import ApiError
from nodeport.client.rest import TransportError
from nodeport.node import admission, ephemeral, eviction, pod_status
from nodeport.node import sandbox as sandboxes
from nodeport.node.containers import Keeper
from nodeport.node.endings import Stopper
from nodeport.node.environment import ConfigError
from nodeport.node.pod_record import OVER, NodeContext, PodRecord
from nodeport.node.pod_status import is_restartable_init
from nodeport.node.prober import Prober
from nodeport.node.probes import Probe
from nodeport.node.reporter import StatusReporter
from nodeport.node.resizer import Resizer
from nodeport.node.sandbox import Sandbox
from nodeport.node.sandboxkeeper import SandboxKeeper
from nodeport.node.starter import POST_START_ERROR, ContainerStarter
from nodeport.node.volumes import podvolumes

_log = logging.getLogger(__name__)
SANDBOX_RETRY = timedelta(seconds=5)
OVERDUE = "Pod was active on the node longer than the specified deadline"
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
        self._stopper = Stopper(self._record)
        self._resizer = Resizer(self._record, self._stopper)
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
        try:
            await self._run()
        finally:
            self._node.tenants.release(self._record.uid)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            await self._prepare(group)
            reporting = group.create_task(self._reporter.run())
            refreshing = group.create_task(self._refresh_volumes())
            await self._manage(group)
            refreshing.cancel()
            await self._end_containers(group)
            self._node.allocations.release(self._record.uid)
            self._node.tenants.release(self._record.uid)
            await self._rest()
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
            record.init_keepers = [
                self._keeper(one, "initContainerStatuses", initial=True) for one in initial
            ]
            self._take_ephemeral()
            self._recall_end(record.pod.get("status") or {})
            self._resizer.begin()
            if record.sandbox is not None:
                self._node.tenants.take(record.uid, self._resizer.given())
        if record.sandbox is not None:
            await self._adopt(group, record.sandbox)

    def _recall_end(self, status: JsonObject) -> None:
        """What the API knows of a pod that was over before."""
        record = self._record
        if status.get("phase") in OVER:
            record.settled = record.sandbox is None
            if status.get("reason"):
                record.failure = status["reason"], status.get("message") or ""

    def _keeper(self, spec: dict[str, Any], status_field: str, *, initial: bool = False) -> Keeper:
        """After a reboot the count of restarts goes on from what the API knows; what still runs has what it had."""
        known = self._record.known_status(status_field, spec["name"])
        ran_before = known.get("containerID") and self._record.sandbox is None
        if known.get("resources") is not None and self._record.sandbox is not None:
            spec = {**spec, "resources": known["resources"]}
        allocated = spec.get("resources") or {}
        first = known.get("restartCount", 0) + 1 if ran_before else 0
        return Keeper(spec, first, initial, allocated=allocated)

    def _take_ephemeral(self) -> None:
        """Ephemeral containers that were added. One that is gone, as after a reboot, is never started again."""
        record = self._record
        known = {
            *(keeper.name for keeper in record.ephemeral_keepers),
            *(each["name"] for each in record.lost),
        }
        for spec in record.last_pod["spec"].get("ephemeralContainers") or ():
            if spec["name"] in known:
                continue
            last = record.known_status("ephemeralContainerStatuses", spec["name"])
            if last.get("containerID") and record.sandbox is None:
                record.lost.append(ephemeral.lost(last, self._node.clock.now()))
            else:
                record.ephemeral_keepers.append(Keeper(spec))

    def _take_images(self, group: asyncio.TaskGroup) -> None:
        """Images that were changed. What runs under another one is restarted, whatever the restart policy says; but not
        an init container that is to end anyway."""
        record = self._record
        spec = record.last_pod["spec"]
        wanted = {each["name"]: each for each in (*(spec.get("initContainers") or ()), *spec["containers"])}
        for keeper in (*record.init_keepers, *record.keepers):
            image = wanted.get(keeper.name, keeper.spec).get("image")
            if image == keeper.spec.get("image"):
                continue
            keeper.change_image(str(image))
            if keeper.is_running and (not keeper.initial or is_restartable_init(keeper.spec)):
                keeper.again = True
                words = f"Container {keeper.name} definition changed, will be restarted"
                group.create_task(self._stopper.stop(keeper, record.grace(), words))

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
                self._recall_image(keeper)
                self._start_probes(group, keeper, sandbox, adopted=True)
        record.dirty.set()

    def _recall_image(self, keeper: Keeper) -> None:
        """An image that was changed while nobody looked: the run has the one that the API was told of."""
        field = "initContainerStatuses" if keeper.initial else "containerStatuses"
        known, run = self._record.known_status(field, keeper.name), keeper.current
        told = known.get("image")
        if run is None or keeper.image is None or known.get("containerID") != run.container_id:
            return
        if told and told != keeper.image.name:
            keeper.spec = {**keeper.spec, "image": told}

    # --- managing

    async def _manage(self, group: asyncio.TaskGroup) -> None:
        """Until the pod is over or to go."""
        record = self._record
        asyncio.get_running_loop().call_later(FIRST_REPORT.total_seconds(), record.dirty.set)
        while not record.is_going and not self._over:
            record.wake.clear()
            for keeper in record.all_keepers():
                if keeper.current is not None and keeper.current.exit is not None:
                    keeper.ended()
            if any(keeper.asks_for_all for keeper in record.all_keepers()):
                await self._start_over()
                continue
            due = await self._advance(group)
            if not self._over:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        record.wake.wait(), due.total_seconds() if due is not None else None
                    )

    async def _advance(self, group: asyncio.TaskGroup) -> timedelta | None:
        """Do what can be done now; how long until there is more to do, None: until something happens."""
        record = self._record
        if record.failure is None and record.sandbox is None and not record.settled:
            self._admit()
        left = self._time_left()
        if record.failure or record.settled or record.phase() in OVER:
            self._over = True
            record.dirty.set()
            return None
        if not await self._has_surroundings():
            return SANDBOX_RETRY
        self._take_ephemeral()
        self._take_images(group)
        try:
            dues = [left, *await self._keep_all(group)]
            dues.append(await self._resizer.advance(group))
            return min((due for due in dues if due is not None), default=None)
        finally:
            record.dirty.set()

    async def _has_surroundings(self) -> bool:
        """New ones are made one after another, so that a crowd of pods leaves the loop to the others in between."""
        if self._record.sandbox is not None:
            return self._surroundings.ensure()
        async with self._node.sandbox_turn:
            made = not self._record.is_going and self._surroundings.ensure()
            await asyncio.sleep(0)
        return made

    async def _start_over(self) -> None:
        """A container asks for all to be restarted: they are killed, without hooks or grace, and run again in the same
        surroundings, init containers first, however they ended."""
        record = self._record
        record.starting_over = True
        record.dirty.set()
        await self._stopper.kill_all()
        for keeper in record.all_keepers():
            keeper.ended()
            keeper.anew = keeper.current is not None
        record.starting_over = False
        record.changed()

    def _admit(self) -> None:
        """Once: what comes later cannot turn out whom the node has taken."""
        record, tenants = self._record, self._node.tenants
        if record.uid in tenants:
            return
        pod = record.last_pod
        refused = admission.refusal(pod)
        if self._node.pressure.holds and not eviction.is_critical(pod):
            refused = refused or (eviction.REASON, eviction.UNDER_PRESSURE)
        refused = refused or tenants.refusal(pod, self._node.own_node())
        if refused is None:
            tenants.take(record.uid, self._resizer.given())
            return
        reason, message = refused
        record.fail(reason, f"Pod was rejected: {message}")
        record.warn(reason, message)

    def _time_left(self) -> timedelta | None:
        """Until the pod has been active for too long, which ends it; None: it may be for ever."""
        record = self._record
        left = record.time_left()
        if (
            left is not None
            and left <= timedelta(0)
            and record.failure is None
            and record.phase() not in OVER
        ):
            record.note("DeadlineExceeded", OVERDUE)
            record.fail("DeadlineExceeded", OVERDUE)
        return left

    async def _keep_all(self, group: asyncio.TaskGroup) -> list[timedelta | None]:
        """Init containers one after another, then all others; until when each has to be waited for."""
        record = self._record
        policy = record.last_pod["spec"].get("restartPolicy") or "Always"
        under_way = any(keeper.current is not None and not keeper.anew for keeper in record.keepers)
        debugging = [await self._keep(group, keeper, "Never") for keeper in record.ephemeral_keepers]
        for keeper in record.init_keepers:
            sidecar = is_restartable_init(keeper.spec)
            done = keeper.view().exit_code == 0 and not keeper.anew
            if not sidecar and (under_way or done):
                continue
            due = await self._keep(group, keeper, policy)
            if not under_way and not (sidecar and keeper.started.is_set()):
                return [due, *debugging]
        return [*debugging, *[await self._keep(group, keeper, policy) for keeper in record.keepers]]

    async def _keep(self, group: asyncio.TaskGroup, keeper: Keeper, policy: str) -> timedelta | None:
        """The container runs, or will when it is due. None: nothing to wait for."""
        if not keeper.wants_start(policy):
            keeper.waiting = None
            return None
        due = keeper.start_due(self._node.clock)
        if due > timedelta(0):
            if keeper.current is not None and (keeper.waiting or ("",))[0] in ("", POST_START_ERROR):
                self._starter.back_off(keeper)
            return due
        sandbox = self._record.sandbox
        assert sandbox is not None
        due_again = await self._starter.start(keeper, sandbox)
        if due_again is None and keeper.is_running:
            self._start_probes(group, keeper, sandbox)
        return due_again

    def _start_probes(
        self, group: asyncio.TaskGroup, keeper: Keeper, sandbox: Sandbox, *, adopted: bool = False
    ) -> None:
        record, container = self._record, keeper.current
        assert container is not None
        known = record.known_status("containerStatuses", keeper.name)
        was_ready = (
            adopted and known.get("ready") is True and known.get("containerID") == container.container_id
        )

        def kill(probe: Probe, message: str) -> None:
            grace = record.grace() if probe.grace is None else probe.grace
            group.create_task(self._stopper.stop(keeper, grace, message))

        prober = Prober(record.reach(sandbox, container))
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

    async def _end_containers(self, group: asyncio.TaskGroup) -> None:
        """Stop everything within the grace period; readiness is still probed meanwhile, as endpoints drain."""
        record = self._record
        record.final = True
        for keeper in record.all_keepers():
            keeper.stop_restarting_probes()
        stopping, grace = group.create_task(self._stopper.stop_all()), record.grace()
        while not stopping.done():
            record.wake.clear()
            if record.pod is None:
                await self._stopper.kill_all()
            elif record.grace() < grace:  # the deletion has been asked for again, to be quicker
                grace = record.grace()
                group.create_task(self._kill_after(stopping, grace))
            wake = group.create_task(record.wake.wait())
            await asyncio.wait({stopping, wake}, return_when=asyncio.FIRST_COMPLETED)
            wake.cancel()
        for keeper in record.all_keepers():
            keeper.ended()
        record.dirty.set()

    async def _kill_after(self, stopping: asyncio.Task[None], grace: timedelta) -> None:
        await asyncio.wait({stopping}, timeout=grace.total_seconds())
        if not stopping.done():
            await self._stopper.kill_all()

    async def _rest(self) -> None:
        """The pod is over: its status, its logs and its object stay until it is deleted.

        What it ran in goes once the API knows how it ended: whoever comes after a crash before that finds it there, and
        does not run the pod a second time.
        """
        record = self._record
        while not (record.is_going or record.has_told_its_end):
            record.wake.clear()
            await record.wake.wait()
        self._surroundings.remove()
        record.dirty.set()
        await record.wait_until_going()

    def _remove_logs(self) -> None:
        if metadata := self._record.last_pod.get("metadata"):
            where = self._node.surroundings, metadata["namespace"], metadata["name"], self._record.uid
            sandboxes.remove_logs(sandboxes.log_directory(*where))
