"""Ends a pod's containers: their hooks, their signals, their order."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from nodeport.node import actions, hooks
from nodeport.node.containers import Keeper
from nodeport.node.hooks import HookFailed
from nodeport.node.pod_record import PodRecord

LEAST_GRACE = timedelta(seconds=2)
"""What is left for SIGTERM at least when a preStop hook has used up the grace period."""
DRAIN = timedelta(milliseconds=200)
"""Between the deletion and SIGTERM of a container that serves: nodes learn at the same moment that its endpoint is
going, and a program that ends sooner than their rules change would refuse connections."""


class Stopper:
    def __init__(self, record: PodRecord) -> None:
        self._record = record

    async def stop_all(self) -> None:
        """All at once but sidecars, which serve the others to their end: the last that was started goes first."""
        record, began = self._record, self._record.node.clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for keeper in (*record.keepers, *record.ephemeral_keepers):
                if keeper.is_running:
                    group.create_task(self.stop(keeper, record.grace()))
        for keeper in reversed(record.init_keepers):
            if keeper.is_running:
                left = record.grace() - timedelta(seconds=record.node.clock.monotonic() - began)
                await self.stop(keeper, max(left, min(LEAST_GRACE, record.grace())))

    async def kill_all(self) -> None:
        """Nothing is left to wait for."""
        for keeper in self._record.all_keepers():
            if keeper.current is not None and keeper.is_running:
                await self._record.node.runtime.stop(keeper.current, timedelta(0))

    async def stop(self, keeper: Keeper, grace: timedelta, message: str = "") -> None:
        """The hook, then the image's stop signal, then SIGKILL; returns when the container has ended.

        What is being stopped already gets no second hook, but no more time than ``grace`` either.
        """
        container, clock = keeper.current, self._record.node.clock
        assert container is not None
        began = clock.monotonic()
        if keeper.stopping is not container:
            keeper.stopping = container
            self._record.note("Killing", message or f"Stopping container {keeper.name}", keeper)
            await self._pre_stop(keeper, grace)
            if keeper.ready and grace > DRAIN:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(container.ended.wait(), DRAIN.total_seconds())
        left = grace - timedelta(seconds=clock.monotonic() - began)
        await self._record.node.runtime.stop(container, max(left, min(LEAST_GRACE, grace)))

    async def _pre_stop(self, keeper: Keeper, grace: timedelta) -> None:
        """Until the hook is done, the container has ended, or the grace period is over."""
        hook = (keeper.spec.get("lifecycle") or {}).get("preStop") or {}
        action, container, sandbox = actions.parse(hook, keeper.spec), keeper.current, self._record.sandbox
        if action is None or not grace or container is None or sandbox is None:
            return
        reach, who = self._record.reach(sandbox, container), self._record.who(keeper)
        try:
            await hooks.run_while_it_lives(action, reach, grace, who, container.ended)
        except (HookFailed, TimeoutError):
            self._record.warn("FailedPreStopHook", "PreStopHook failed", keeper)
