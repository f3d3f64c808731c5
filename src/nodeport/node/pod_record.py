"""What is known of one pod on its node: shared by those that manage it, start its containers and report it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.resources import PODS
from nodeport.client.events import EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.kit.clock import Clock, bounded_seconds
from nodeport.kit.giveup import unless
from nodeport.node import pod_status
from nodeport.node.addresses import PodAddresses
from nodeport.node.containers import Keeper
from nodeport.node.hostports import HostPorts
from nodeport.node.images.base import ImageStore
from nodeport.node.oci.machine import Machine
from nodeport.node.pod_status import PodView
from nodeport.node.podfiles import NodeNaming
from nodeport.node.predicates import Tenants
from nodeport.node.reach import Reach
from nodeport.node.resizing import Allocations, ResizeState
from nodeport.node.runtime import Container, Runtime
from nodeport.node.sandbox import NodeSurroundings, Sandbox
from nodeport.node.settings import PodTokens, Settings
from nodeport.node.webget import Dialer

ORPHAN_GRACE = timedelta(seconds=2)
"""For a pod whose object was already gone when it was found running."""
DEFAULT_GRACE = 30
OVER = ("Succeeded", "Failed")
"""The phases of a pod that has run to its end."""


@dataclass(slots=True)
class Pressure:
    """Whether the node has too little room on its disk, and when it last had."""

    calm: timedelta
    holds: bool = False
    _last: float = 0.0

    def note(self, met: bool, now: float) -> None:
        """``met``: there is too little now; ``now``: monotonic seconds."""
        if met:
            self.holds, self._last = True, now
        elif now - self._last >= self.calm.total_seconds():
            self.holds = False


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What all pods of a node share."""

    surroundings: NodeSurroundings
    client: RestClient
    runtime: Runtime
    images: ImageStore
    machine: Machine
    settings: Settings
    services: Informer
    capacity: Mapping[str, str]
    naming: NodeNaming
    host_ports: HostPorts
    addresses: PodAddresses
    allocations: Allocations
    tenants: Tenants
    own_node: Callable[[], JsonObject | None]
    recorder: EventRecorder
    clock: Clock
    pressure: Pressure
    sandbox_turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class PodRecord:
    """``pod``: the object as the API has it, None when it is gone; ``last_pod``: as it last was.

    ``failure``: (reason, message) why it can never run here, or no longer; ``most_grace``: what that leaves it.
    ``starting_over``: all containers are being ended to begin anew. ``disruption``: why the node had to end it for its
    own sake. ``settled``: it was over before we came, and the API has all there is to say. ``lost``: the last statuses
    of ephemeral containers that nobody starts again.
    ``final``: nothing will be started again. ``sent``: the last status that the API took, ``sent_version`` the object's
    revision with it. ``wake`` has the manager look again, ``dirty`` the reporter.
    """

    node: NodeContext
    uid: str
    pod: JsonObject | None
    started_at: datetime
    last_pod: JsonObject = field(default_factory=dict)
    sandbox: Sandbox | None = None
    keepers: list[Keeper] = field(default_factory=list)
    init_keepers: list[Keeper] = field(default_factory=list)
    ephemeral_keepers: list[Keeper] = field(default_factory=list)
    lost: list[JsonObject] = field(default_factory=list)
    resize: ResizeState = field(default_factory=ResizeState)
    tokens: PodTokens | None = None
    final: bool = False
    failure: tuple[str, str] | None = None
    most_grace: timedelta | None = None
    starting_over: bool = False
    disruption: str = ""
    settled: bool = False
    sent: JsonObject = field(default_factory=dict)
    sent_version: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    dirty: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, pod: JsonObject | None) -> None:
        self.pod = pod
        if pod is not None:
            self.last_pod = pod
        self.changed()

    def changed(self) -> None:
        self.wake.set()
        self.dirty.set()

    def all_keepers(self) -> Iterator[Keeper]:
        yield from self.init_keepers
        yield from self.keepers
        yield from self.ephemeral_keepers

    def known_status(self, field_name: str, container: str) -> dict[str, Any]:
        """What the API knows of a container; empty when nothing."""
        known = (self.last_pod.get("status") or {}).get(field_name) or ()
        return next((item for item in known if item.get("name") == container), {})

    def grace(self) -> timedelta:
        """How long the pod's containers have from SIGTERM to SIGKILL."""
        if self.pod is None:
            return timedelta(0) if self.final else ORPHAN_GRACE
        seconds = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if seconds is None:
            seconds = self.pod["spec"].get("terminationGracePeriodSeconds")
        found = bounded_seconds(DEFAULT_GRACE if seconds is None else seconds)
        return found if self.most_grace is None else min(found, self.most_grace)

    @property
    def is_going(self) -> bool:
        """Whether the object is gone or being deleted."""
        return self.pod is None or is_being_deleted(self.pod)

    @property
    def has_told_its_end(self) -> bool:
        """Whether the API knows that the pod is over."""
        return self.settled or self.sent.get("phase") in OVER

    def time_left(self) -> timedelta | None:
        """Of the time that the pod may be active; None: as long as it likes."""
        seconds = self.last_pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return None
        return self.started_at + bounded_seconds(seconds) - self.node.clock.now()

    async def wait_until_going(self) -> None:
        """Until the object is gone or being deleted, or the pod is to end for another reason."""
        while not (self.is_going or (self.failure and not self.final)):
            await self.wake.wait()
            self.wake.clear()

    async def unless_it_ends(self, work: Coroutine[Any, Any, None]) -> None:
        """Until ``work`` is done, or given up since the pod is to go or to end. Raises what it raises."""
        left = self.time_left()
        seconds = None if left is None else max(left.total_seconds(), 0)
        await unless(self.wait_until_going(), work, seconds)

    def fail(self, reason: str, message: str, most_grace: timedelta | None = None) -> None:
        """The pod is to end here; what it was ended for first stays."""
        if self.failure is None:
            self.failure, self.most_grace = (reason, message), most_grace
            self.changed()

    def reach(self, sandbox: Sandbox, container: Container) -> Reach:
        runtime = self.node.runtime
        return Reach(
            Dialer(self.node.surroundings.netns), sandbox.address,
            lambda argv, limit: runtime.execute(sandbox, container, argv, limit),
        )  # fmt: skip

    @property
    def full_name(self) -> str:
        """``NAME_NAMESPACE(UID)``, as a kubelet has it in its messages."""
        metadata = self.last_pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({self.uid})"

    def who(self, keeper: Keeper) -> str:
        """The container, for messages about its hooks."""
        return f'Container "{keeper.name}" in Pod "{self.full_name}"'

    def phase(self) -> str:
        """As the API has it once the pod is over, else as its containers say."""
        known = (self.last_pod.get("status") or {}).get("phase")
        if known in OVER and not any(keeper.is_running for keeper in self.all_keepers()):
            return str(known)
        return pod_status.phase(self.view())

    def view(self) -> PodView:
        """What the status is made from. Conditions just sent count before those of the object, which may be older."""
        pod = self.last_pod
        if self.sent:
            status = pod.get("status") or {}
            merged = {item["type"]: item for item in status.get("conditions") or ()}
            merged |= {item["type"]: item for item in self.sent["conditions"]}
            pod = {**pod, "status": {**status, "conditions": list(merged.values())}}
        known = (pod.get("status") or {}).get("podIPs") or ()
        return PodView(
            pod=pod,
            host_ips=list(map(str, self.node.surroundings.addresses)),
            pod_ips=list(map(str, self.sandbox.addresses))
            if self.sandbox
            else [each["ip"] for each in known],
            started_at=self.started_at,
            containers=[keeper.view() for keeper in self.keepers],
            init_containers=[keeper.view() for keeper in self.init_keepers],
            sandboxed=self.sandbox is not None,
            final=self.final,
            failure=self.failure,
            disruption=self.disruption,
            starting_over=self.starting_over,
            ephemeral_containers=[keeper.view() for keeper in self.ephemeral_keepers],
            lost=self.lost,
            resize=self.resize,
        )

    def _list_of(self, keeper: Keeper) -> str:
        if keeper in self.ephemeral_keepers:
            return "ephemeralContainers"
        return "initContainers" if keeper.initial else "containers"

    def warn(self, reason: str, message: str, keeper: Keeper | None = None) -> None:
        self.tell("Warning", reason, message, keeper)

    def note(self, reason: str, message: str, keeper: Keeper | None = None) -> None:
        self.tell("Normal", reason, message, keeper)

    def tell(self, kind: str, reason: str, message: str, keeper: Keeper | None = None) -> None:
        """An event about the pod, or about one of its containers."""
        if self.last_pod:
            path = f"spec.{self._list_of(keeper)}{{{keeper.name}}}" if keeper else ""
            reference = object_reference(PODS, self.last_pod, field_path=path)
            self.node.recorder.event(reference, kind, reason, message)
