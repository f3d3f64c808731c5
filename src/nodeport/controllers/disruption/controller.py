"""Writes what ``reconcile`` says of one PodDisruptionBudget at a time."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, controller_of, labels
from nodeport.api.resources import POD_DISRUPTION_BUDGETS
from nodeport.api.selectors import label_selector_of
from nodeport.api.status import BadRequest
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.disruption.reconcile import plan_status
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock


@dataclass(frozen=True, slots=True)
class DisruptionInformers:
    """``owners``: those of every kind that has a scale, by kind."""

    budgets: Informer
    pods: Informer
    owners: dict[str, Informer]


class DisruptionController:
    """Budgets are few: a pod's change looks at those of its namespace."""

    def __init__(self, client: RestClient, informers: DisruptionInformers, *, clock: Clock) -> None:
        self._client, self._informers, self._clock = client, informers, clock
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "disruption", self.reconcile, clock=clock, workers=2,
            informers=(informers.budgets, informers.pods, *informers.owners.values()),
        )  # fmt: skip
        informers.budgets.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        informers.pods.subscribe(self._pod_changed)
        for owners in informers.owners.values():
            owners.subscribe(self._owner_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, change: Change) -> None:
        for pod in (change.old, change.new):
            if pod is None:
                continue
            for budget in self._budgets_of(pod["metadata"]["namespace"]):
                if _selects(budget, pod):
                    self.loop.queue.add(NamespacedName.of(budget))

    def _owner_changed(self, change: Change) -> None:
        """Another scale: whichever budgets may count by it."""
        old, new = (_replicas(one) for one in (change.old, change.new))
        if old != new:
            for budget in self._budgets_of(change.object["metadata"]["namespace"]):
                self.loop.queue.add(NamespacedName.of(budget))

    def _budgets_of(self, namespace: str) -> list[JsonObject]:
        return [one for one in self._informers.budgets.list() if one["metadata"]["namespace"] == namespace]

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        budget = self._informers.budgets.get(key)
        if budget is None:
            return None
        pods = [
            pod for pod in self._informers.pods.list()
            if pod["metadata"]["namespace"] == key.namespace and _selects(budget, pod)
        ]  # fmt: skip
        plan = plan_status(budget, pods, self._scale_of, self._clock.now())
        if plan.status != budget.get("status"):
            wanted = copy.deepcopy(budget)
            wanted["status"] = plan.status
            await self._client.update(POD_DISRUPTION_BUDGETS, wanted, subresource="status")
        return plan.again

    def _scale_of(self, pod: JsonObject) -> tuple[str, int] | None:
        """By the topmost controller that has a scale: a ReplicaSet's Deployment counts, not the ReplicaSet."""
        found, namespace, reference = None, pod["metadata"]["namespace"], controller_of(pod)
        while reference is not None and (owners := self._informers.owners.get(reference["kind"])) is not None:
            owner = owners.get(NamespacedName(namespace, reference["name"]))
            if owner is None or owner["metadata"]["uid"] != reference["uid"]:
                break
            found = owner["metadata"]["uid"], _replicas(owner)
            reference = controller_of(owner)
        return found


def _replicas(owner: JsonObject | None) -> int:
    replicas = ((owner or {}).get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def _selects(budget: JsonObject, pod: JsonObject) -> bool:
    try:
        return label_selector_of((budget.get("spec") or {}).get("selector")).matches(labels(pod))
    except BadRequest:
        return False
