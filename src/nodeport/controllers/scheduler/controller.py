"""Finds pods without a node and binds them to one.

Choosing is one worker's job, so that each choice sees the one before, and pods of a higher priority come first;
binding is done by several at once. A pod that fits nowhere waits until it or a node changes, a placed pod goes away,
or half a minute passes; one that looks at other pods also until one is placed or changes, but not more than once a
second. For one that fits nowhere pods of a lower priority may have to go; their room is then kept for it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted, labels
from nodeport.api.resources import NODES, PODS
from nodeport.api.selectors import LabelSelector, label_selector_of
from nodeport.api.status import ApiError, Conflict, NotFound
from nodeport.client.cache import Change, uid
from nodeport.client.events import NORMAL, WARNING, EventRecorder, object_reference
from nodeport.client.informer import Informer
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient, TransportError
from nodeport.client.workqueue import Ranked, WorkQueue
from nodeport.controllers import conditions
from nodeport.controllers.scheduler.claims import why_not_yet
from nodeport.controllers.scheduler.eviction import drive_away
from nodeport.controllers.scheduler.nodes import ClusterState
from nodeport.controllers.scheduler.nominees import Nominees
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.controllers.scheduler.preemption import Preemption, preempt
from nodeport.controllers.scheduler.reconcile import Choice, choose
from nodeport.controllers.selection import is_finished, selecting_services, selector_of
from nodeport.kit.clock import Clock, rfc3339

SCHEDULER_NAME = "default-scheduler"

_BINDERS = 32
_RETRY = timedelta(seconds=30)
_SOON = timedelta(seconds=1)
_FEW = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SchedulerInformers:
    """``services`` are indexed by their selectors."""

    pods: Informer
    nodes: Informer
    services: Informer
    namespaces: Informer
    budgets: Informer
    claims: Informer


@dataclass(frozen=True, slots=True)
class _Decision:
    """``made``: what was found out about driving others away; None when that was no question."""

    pod: JsonObject
    choice: Choice
    made: Preemption | None = None


class Scheduler:
    def __init__(
        self, client: RestClient, informers: SchedulerInformers, *, clock: Clock, recorder: EventRecorder
    ) -> None:
        self._client = client
        self._informers = informers
        self._pods = informers.pods
        self._clock = clock
        self._recorder = recorder
        self._cluster = ClusterState()
        self._nominees = Nominees(self._cluster)
        self._queue: WorkQueue[NamespacedName] = WorkQueue(
            clock, initial=timedelta(milliseconds=50), maximum=_RETRY, ready=Ranked(self._priority)
        )
        self._decided: asyncio.Queue[_Decision] = asyncio.Queue(_BINDERS)
        self._unplaced: set[NamespacedName] = set()
        self.failures = 0
        informers.namespaces.subscribe(self._namespace_changed)
        informers.nodes.subscribe(self._node_changed)
        informers.pods.subscribe(self._pod_changed)
        informers.claims.subscribe(lambda _: self._retry_unplaced())

    async def run(self) -> None:
        """Until cancelled."""
        found = self._informers
        for informer in (
            found.namespaces,
            found.services,
            found.budgets,
            found.claims,
            found.nodes,
            found.pods,
        ):
            await informer.wait_until_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._choose_all(), name="scheduler")
            for number in range(_BINDERS):
                group.create_task(self._bind_all(), name=f"scheduler-binder-{number}")

    # --- following

    def _pod_changed(self, change: Change) -> None:
        key = NamespacedName.of(change.object)
        pod = change.new
        if pod is None:
            self._forget(key)
            self._make_room(key)
        elif pod["spec"].get("nodeName"):
            self._forget(key)
            self._placed_changed(key, pod, change.old)
        elif self._is_ours(pod) and self._cluster.placement(key) is None:
            self._wait_for_node(key, pod, change.old)

    def _forget(self, key: NamespacedName) -> None:
        """The pod waits no longer."""
        self._unplaced.discard(key)
        self._nominees.drop(key)

    def _wait_for_node(self, key: NamespacedName, pod: JsonObject, old: JsonObject | None) -> None:
        """A pod that fitted nowhere is looked at again when it asks for something else."""
        kept = _nomination(pod)
        if kept and old is None:
            self._nominees.set(key, PodInfo.of(pod), kept)
        if key not in self._unplaced or (old is not None and _asked(old) != _asked(pod)):
            self._unplaced.discard(key)
            self._queue.add(key)

    def _placed_changed(self, key: NamespacedName, pod: JsonObject, old: JsonObject | None) -> None:
        if is_finished(pod):
            self._make_room(key)
            return
        is_known = self._cluster.placement(key) == pod["spec"]["nodeName"]
        if is_known and old is not None and _told(old) == _told(pod):
            return
        self._cluster.place(key, pod, pod["spec"]["nodeName"])
        for other in self._unplaced:
            waiting = self._pods.get(other)
            if waiting is not None and _looks_at_pods(waiting):
                self._queue.add_after(other, _SOON)

    def _make_room(self, key: NamespacedName) -> None:
        if self._cluster.placement(key) is not None:
            self._cluster.remove(key)
            self._retry_unplaced()

    def _node_changed(self, change: Change) -> None:
        if change.new is None:
            self._cluster.drop_node(change.object["metadata"]["name"])
            return
        self._cluster.set_node(change.new)
        if change.old is None or _facts(change.old) != _facts(change.new):
            self._retry_unplaced()

    def _namespace_changed(self, change: Change) -> None:
        name = change.object["metadata"]["name"]
        if change.new is None:
            self._cluster.namespaces.pop(name, None)
            return
        self._cluster.namespaces[name] = labels(change.new)
        if change.old is not None and labels(change.old) != labels(change.new):
            self._retry_unplaced()

    def _retry_unplaced(self) -> None:
        """At once while they are few: a crowd is not to be looked through for every pod that goes."""
        delay = timedelta() if len(self._unplaced) <= _FEW else _SOON
        for key in self._unplaced:
            self._queue.add_after(key, delay)

    @staticmethod
    def _is_ours(pod: JsonObject) -> bool:
        spec = pod["spec"]
        is_waiting = not (spec.get("nodeName") or spec.get("schedulingGates"))
        name = spec.get("schedulerName") or SCHEDULER_NAME
        return is_waiting and name == SCHEDULER_NAME and not is_being_deleted(pod) and not is_finished(pod)

    def _priority(self, key: NamespacedName) -> int:
        pod = self._pods.get(key)
        return 0 if pod is None else pod["spec"].get("priority") or 0

    # --- choosing

    async def _choose_all(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._choose(key)
            except asyncio.CancelledError:
                self._take_back(key)
                raise
            except Exception:
                self.failures += 1
                _log.exception("scheduler: no decision for %s", key)
                self._queue.add_rate_limited(key)
            finally:
                self._queue.done(key)
            await asyncio.sleep(0)  # others share this loop

    async def _choose(self, key: NamespacedName) -> None:
        pod = self._pods.get(key)
        if pod is None or not self._is_ours(pod) or self._cluster.placement(key) is not None:
            return
        with self._nominees.counted(key, pod["spec"].get("priority") or 0):
            choice = self._held_back(pod) or choose(pod, self._cluster, self._selected_with(pod))
            made = None if choice.node else self._make_others_go(key, pod, choice)
        if choice.node:
            self._forget(key)
            self._cluster.place(key, pod, choice.node)
        else:
            self._unplaced.add(key)
            self._queue.add_after(key, _RETRY)
        if made is not None and made.message:
            choice = replace(choice, message=f"{choice.message} {made.message}")
        await self._decided.put(_Decision(pod, choice, made))

    def _held_back(self, pod: JsonObject) -> Choice | None:
        """What keeps the pod from every node alike."""
        reason = why_not_yet(pod, self._informers.claims.get)
        count = len(self._cluster.nodes)
        return Choice("", f"0/{count} nodes are available: {reason}.") if reason and count else None

    def _make_others_go(self, key: NamespacedName, pod: JsonObject, choice: Choice) -> Preemption | None:
        """Keep the room of those that will have to, if that helps; None when it is no question."""
        if not self._cluster.nodes:
            return None
        if pod["spec"].get("preemptionPolicy") == "Never":
            return Preemption("", message="preemption: not eligible due to preemptionPolicy=Never.")
        if self._nominees.is_waiting(key):
            return Preemption(
                self._nominees.node(key),
                message="preemption: not eligible due to terminating pod on the nominated node.",
            )
        info = PodInfo.of(pod)
        made = preempt(info, choice.hopeful, self._cluster, list(self._informers.budgets.list()))
        if made.node:
            self._nominees.set(key, info, made.node, (victim for _, victim in made.victims))
        else:
            self._nominees.drop(key)
        return made

    def _selected_with(self, pod: JsonObject) -> LabelSelector | None:
        """What all Services that select the pod ask for; None when none does."""
        services, wanted = self._informers.services, {}
        for name in selecting_services(services, pod):
            service = services.get(name)
            wanted.update(selector_of(service) if service is not None else {})
        return label_selector_of({"matchLabels": wanted}) if wanted else None

    # --- binding

    async def _bind_all(self) -> None:
        while True:
            decision = await self._decided.get()
            pod, node = decision.pod, decision.choice.node
            key = NamespacedName.of(pod)
            try:
                if node:
                    await self._bind(key, pod, node)
                else:
                    await self._explain(key, decision)
            except asyncio.CancelledError:
                self._take_back(key)
                raise
            except Exception as error:
                self._note(key, error)

    def _take_back(self, key: NamespacedName) -> None:
        """What was decided may not have happened: decide again from what the cache shows."""
        if not self._is_placed(key):
            self._queue.add(key)

    def _is_placed(self, key: NamespacedName) -> bool:
        """Forget what was decided and count the pod where the cache shows it, if anywhere."""
        self._cluster.remove(key)
        self._forget(key)
        pod = self._pods.get(key)
        if pod is None or not pod["spec"].get("nodeName"):
            return False
        self._cluster.place(key, pod, pod["spec"]["nodeName"])
        return True

    def _note(self, key: NamespacedName, error: Exception) -> None:
        if self._is_placed(key):
            return
        if isinstance(error, (NotFound, Conflict)):
            _log.debug("scheduler %s: %s", key, error)
        else:
            self.failures += 1
            if not self._queue.failures(key):
                bug = None if isinstance(error, (ApiError, TransportError)) else error
                _log.warning("scheduler %s: %s", key, error, exc_info=bug)
        self._queue.add_rate_limited(key)

    async def _bind(self, key: NamespacedName, pod: JsonObject, node: str) -> None:
        binding: JsonObject = {
            "kind": "Binding",
            "apiVersion": "v1",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid(pod)},
            "target": {"kind": NODES.kind, "name": node},
        }
        await self._client.create_subresource(PODS, key.name, key.namespace, "binding", binding)
        self._queue.forget(key)
        text = f"Successfully assigned {key} to {node}"
        self._recorder.event(object_reference(PODS, pod), NORMAL, "Scheduled", text)

    async def _explain(self, key: NamespacedName, decision: _Decision) -> None:
        pod, message = decision.pod, decision.choice.message
        self._recorder.event(object_reference(PODS, pod), WARNING, "FailedScheduling", message)
        found = conditions.find((pod.get("status") or {}).get("conditions"), "PodScheduled") or {}
        node = decision.made.node if decision.made is not None else ""
        if (found.get("status"), found.get("message"), _nomination(pod)) != ("False", message, node):
            await self._tell(key, pod, message, node)
        if decision.made is not None:
            await drive_away(self._client, self._recorder, self._clock, decision.made, pod)

    async def _tell(self, key: NamespacedName, pod: JsonObject, message: str, node: str) -> None:
        """In the pod's status. ``node``: the one that is kept for it."""
        found = conditions.find((pod.get("status") or {}).get("conditions"), "PodScheduled") or {}
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": found.get("lastTransitionTime") or rfc3339(self._clock.now()),
        }
        status = {"conditions": [condition], "nominatedNodeName": node or None}
        patch = {"metadata": {"uid": uid(pod)}, "status": status}
        with suppress(NotFound, Conflict):
            await self._client.patch(
                PODS, key.name, patch, key.namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
            )


def _nomination(pod: JsonObject) -> str:
    return (pod.get("status") or {}).get("nominatedNodeName") or ""


def _facts(node: JsonObject) -> tuple[object, ...]:
    """All of a node that decides whether pods fit."""
    status = node.get("status") or {}
    ready = conditions.find(status.get("conditions"), "Ready") or {}
    meta, spec = node["metadata"], node.get("spec") or {}
    return (
        meta.get("labels"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        ready.get("status"),
    )


def _asked(pod: JsonObject) -> tuple[object, ...]:
    """All of a pod that decides where it fits."""
    return pod["spec"], labels(pod)


def _told(pod: JsonObject) -> tuple[object, ...]:
    """All of a placed pod that decides where others fit; what it asks for can be resized."""
    return pod["spec"], labels(pod), is_being_deleted(pod)


def _looks_at_pods(pod: JsonObject) -> bool:
    affinity = pod["spec"].get("affinity") or {}
    return bool(
        pod["spec"].get("topologySpreadConstraints")
        or affinity.get("podAffinity")
        or affinity.get("podAntiAffinity")
    )
