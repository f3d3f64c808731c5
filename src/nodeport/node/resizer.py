"""Gives a pod's running containers the cpu and memory that its spec has now."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from nodeport.node import resizing
from nodeport.node.containers import Keeper
from nodeport.node.endings import Stopper
from nodeport.node.oci.resources import cgroup_figures
from nodeport.node.pod_record import PodRecord
from nodeport.node.pod_status import is_restartable_init

DEFERRED_RETRY = timedelta(seconds=30)
ERROR_RETRY = timedelta(seconds=10)


class Resizer:
    """A keeper's spec has what its container has; ``keeper.allocated`` what it is to have."""

    def __init__(self, record: PodRecord, stopper: Stopper) -> None:
        self._record, self._stopper = record, stopper

    def begin(self) -> None:
        """Count what the pod has from the start."""
        record = self._record
        record.node.allocations.hold(record.uid, resizing.requested(self.given()))

    async def advance(self, group: asyncio.TaskGroup) -> timedelta | None:
        """Do what can be done; after how long there is more to do, None: nothing is left."""
        record = self._record
        wanted = {each["name"]: resizing.resources_of(each) for each in self._wanted()}
        changed = [
            keeper for keeper in self._keepers()
            if resizing.changes(keeper.allocated, wanted[keeper.name])
        ]  # fmt: skip
        if changed:
            if not self._allocate():
                return DEFERRED_RETRY
            for keeper in changed:
                keeper.allocated = wanted[keeper.name]
        elif record.resize.pending is not None:
            record.resize.pending = None
            record.node.allocations.waiting.pop(record.uid, None)
        return await self._actuate(group)

    def _allocate(self) -> bool:
        record, allocations = self._record, self._record.node.allocations
        spec, pod = record.last_pod["spec"], record.last_pod
        refused = allocations.refusal(record.uid, resizing.requested(spec))
        if refused is None:
            allocations.hold(record.uid, resizing.requested(spec))
            record.node.tenants.take(record.uid, spec)
            allocations.waiting.pop(record.uid, None)
            record.resize.pending, record.resize.in_progress = None, ("", "")
            record.note("ResizeStarted", resizing.told("started", pod))
            return True
        if refused != record.resize.pending:
            record.resize.pending = refused
            record.warn(f"Resize{refused[0]}", resizing.told(refused[0], pod, refused[1]))
        allocations.waiting[record.uid] = record.changed
        return False

    async def _actuate(self, group: asyncio.TaskGroup) -> timedelta | None:
        """Until every container has what was allocated."""
        record, trouble = self._record, ""
        if record.resize.in_progress is None:
            return None
        waits = False
        for keeper in self._keepers():
            changed = resizing.changes(resizing.resources_of(keeper.spec), keeper.allocated)
            if not changed:
                waits = waits or keeper.again
            elif not keeper.is_running or resizing.restarts(self._policy(keeper), changed):
                keeper.spec = {**keeper.spec, "resources": keeper.allocated}
                if keeper.is_running:
                    keeper.again = waits = True
                    words = f"Container {keeper.name} resize requires restart"
                    group.create_task(self._stopper.stop(keeper, record.grace(), words))
            else:
                trouble = await self._update(keeper) or trouble
        if trouble:
            if record.resize.in_progress != (resizing.ERROR, trouble):
                record.warn("ResizeError", resizing.told("error", record.last_pod, trouble))
            record.resize.in_progress = (resizing.ERROR, trouble)
            return ERROR_RETRY
        if not waits:
            record.resize.in_progress = None
            record.note("ResizeCompleted", resizing.told("completed", record.last_pod))
        return None

    async def _update(self, keeper: Keeper) -> str:
        """Why it failed; empty when it did not."""
        runtime, container, sandbox = self._record.node.runtime, keeper.current, self._record.sandbox
        if container is None or sandbox is None:
            return ""
        fresh = {**keeper.spec, "resources": keeper.allocated}
        limit = resizing.memory_limit(keeper.allocated)
        if why := resizing.too_little(limit, runtime.memory_usage(sandbox, container)):
            return why
        try:
            await runtime.update(sandbox, container, cgroup_figures(fresh))
        except OSError as error:
            return str(error)
        keeper.spec = fresh
        return ""

    def _policy(self, keeper: Keeper) -> dict[str, Any]:
        return next(each for each in self._wanted() if each["name"] == keeper.name)

    def _wanted(self) -> list[dict[str, Any]]:
        spec = self._record.last_pod["spec"]
        sidecars = [each for each in spec.get("initContainers") or () if is_restartable_init(each)]
        return [*sidecars, *spec["containers"]]

    def _keepers(self) -> list[Keeper]:
        record = self._record
        return [*(one for one in record.init_keepers if is_restartable_init(one.spec)), *record.keepers]

    def given(self) -> dict[str, Any]:
        """The pod's spec with what its containers have been given."""
        given = {keeper.name: keeper.allocated for keeper in self._keepers()}
        spec = self._record.last_pod["spec"]
        return {
            **spec,
            **{
                field: [
                    {**each, "resources": given.get(each["name"], resizing.resources_of(each))}
                    for each in spec.get(field) or ()
                ]
                for field in ("initContainers", "containers")
            },
        }
