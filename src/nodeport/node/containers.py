"""Keeps one container of a pod as its spec wants it: pulled, started, probed, started again with back-off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock
from nodeport.node import probes
from nodeport.node.images.base import Image
from nodeport.node.pod_status import (
    CRASH_LOOP_FORGET,
    ContainerView,
    Run,
    crash_delay,
    restarts,
    restarts_all,
)
from nodeport.node.prober import Prober
from nodeport.node.probes import Probe, ProbeKind, ProbeState
from nodeport.node.runtime import Container

PULL_FIRST = timedelta(seconds=10)
PULL_MOST = timedelta(seconds=300)

Tell = Callable[[str, str, str], None]
"""(Normal or Warning, reason, message): an event about the container."""


@dataclass(slots=True)
class Keeper:
    """What is known of one container of a pod. ``first_attempt``: the number of its first run in this sandbox;
    ``initial``: an init container; ``hooking``: its postStart hook runs; ``anew``: it runs again however it ended, as
    the whole pod does; ``stopping``: the run that is being ended; ``allocated``: the resources that it is to have;
    ``again``: it alone is ended, to begin again with other resources or another image."""

    spec: dict[str, Any]
    first_attempt: int = 0
    initial: bool = False
    current: Container | None = None
    previous: Container | None = None
    image: Image | None = None
    waiting: tuple[str, str] | None = None
    ready: bool = False
    hooking: bool = False
    anew: bool = False
    stopping: Container | None = None
    allocated: dict[str, Any] = field(default_factory=dict)
    again: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    retry_at: float = 0.0
    restart: int = 0
    pulls: Backoff = field(default_factory=lambda: Backoff(PULL_FIRST, PULL_MOST))
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def is_running(self) -> bool:
        return self.current is not None and self.current.exit is None

    def view(self) -> ContainerView:
        """One that ended to begin again is being created: that it ended must not be told, for most restart policies."""
        between = self.again and self.current is not None and not self.is_running
        return ContainerView(
            spec=self.spec, current=_run(self.current), previous=_run(self.previous),
            waiting=self.waiting or (("ContainerCreating", "") if between else None),
            started=self.started.is_set(), ready=self.ready and self.is_running, hooking=self.hooking,
            anew=self.anew or self.again,
            image=self.image.name if self.image else "", image_id=self.image.image_id if self.image else "",
            allocated=self.allocated,
        )  # fmt: skip

    def wants_start(self, policy: str) -> bool:
        """Whether the spec wants a (further) run, however soon."""
        if self.current is None or self.anew:
            return not self.is_running
        ended = self.current.exit
        if ended is not None and self.again:
            return True
        return ended is not None and restarts(self.spec, policy, ended.code, initial=self.initial)

    @property
    def asks_for_all(self) -> bool:
        """Whether it ended so that the whole pod is to begin anew, and that has not been heard yet."""
        ended = self.current.exit if self.current else None
        return ended is not None and not self.anew and restarts_all(self.spec, ended.code)

    def start_due(self, clock: Clock) -> timedelta:
        """How long until the next run may start; zero: now."""
        if self.current is None or self.current.exit is None:
            return max(timedelta(seconds=self.retry_at - clock.monotonic()), timedelta(0))
        ended = self.current.exit
        if self.again:
            return timedelta(0)
        if ended.finished_at - self.current.started_at >= CRASH_LOOP_FORGET:
            self.restart = 0
        due = ended.finished_at + crash_delay(self.restart + 1) - clock.now()
        return max(due, timedelta(seconds=self.retry_at - clock.monotonic()), timedelta(0))

    def next_attempt(self) -> int:
        return self.current.attempt + 1 if self.current else self.first_attempt

    def take(self, container: Container) -> None:
        """A new run: started now, or found."""
        if self.current is not None:
            self.previous = self.current
            self.restart += not self.again
        self.current, self.waiting, self.anew, self.again = container, None, False, False
        self.ready = False
        self.started.clear()

    def change_image(self, image: str) -> None:
        """What could not be had before is asked for no longer."""
        self.spec = {**self.spec, "image": image}
        self.waiting, self.retry_at = None, 0.0
        self.pulls.reset()

    def ended(self) -> None:
        self.ready = False
        self.started.clear()
        self.stop_probes()

    def stop_probes(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def stop_restarting_probes(self) -> None:
        """While a pod is going only its readiness is still of interest."""
        for task in self._tasks:
            if task.get_name() != ProbeKind.READINESS.value:
                task.cancel()

    def start_probes(
        self, group: asyncio.TaskGroup, prober: Prober, clock: Clock, tell: Tell, changed: Callable[[], None],
        kill: Callable[[Probe, str], None], *, known_ready: bool = False,
    ) -> None:  # fmt: skip
        """Begin to probe the current run. ``known_ready``: an earlier agent found it started and ready."""
        wanted = {kind: probe for kind in ProbeKind if (probe := probes.parse(self.spec, kind))}
        self.ready = known_ready or not wanted.keys() & {ProbeKind.READINESS, ProbeKind.STARTUP}
        if known_ready or ProbeKind.STARTUP not in wanted:
            self.started.set()
        for kind, probe in wanted.items():
            if kind is ProbeKind.STARTUP and known_ready:
                continue
            loop = _ProbeLoop(self, prober, clock, tell, changed, kill)
            self._tasks.append(group.create_task(loop.run(ProbeState(probe)), name=kind.value))


def _run(container: Container | None) -> Run | None:
    if container is None:
        return None
    return Run(container.attempt, container.container_id, container.started_at, container.exit)


@dataclass(frozen=True, slots=True)
class _ProbeLoop:
    keeper: Keeper
    prober: Prober
    clock: Clock
    tell: Tell
    changed: Callable[[], None]
    kill: Callable[[Probe, str], None]

    async def run(self, state: ProbeState) -> None:
        """Ask for ever; cancelled with the container."""
        probe, container = state.probe, self.keeper.current
        assert container is not None
        if probe.kind is not ProbeKind.STARTUP:
            await self.keeper.started.wait()
        running = (self.clock.now() - container.started_at).total_seconds()
        await self.clock.sleep(max(0.0, probe.initial_delay.total_seconds() - running))
        first = True
        while True:
            result = await self.prober.ask(probe, first=first)
            if said := probes.event(probe.kind, result):
                self.tell("Warning", *said)
            state, first = state.record(result), False
            if self._apply(state):
                return
            await self.clock.sleep(probe.period.total_seconds())

    def _apply(self, state: ProbeState) -> bool:
        """Act on the newest result; whether this probe has done its work."""
        keeper, kind = self.keeper, state.probe.kind
        if state.must_restart:
            self.kill(state.probe, f"Container {keeper.name} failed {kind.value} probe, will be restarted")
            return True
        if kind is ProbeKind.STARTUP and state.verdict:
            keeper.started.set()
            keeper.ready = keeper.ready or probes.parse(keeper.spec, ProbeKind.READINESS) is None
            self.changed()
            return True
        if kind is ProbeKind.READINESS and state.verdict is not None and keeper.ready != state.verdict:
            keeper.ready = state.verdict
            self.changed()
        return False
