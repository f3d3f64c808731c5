"""pods/{name}/eviction: a deletion that asks first whether the pod's disruption budget allows it.

`judge` is the rule, without I/O; the budget's status is what its controller last found.
Source: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from nodeport.api.meta import JsonObject
from nodeport.api.resources import POD_DISRUPTION_BUDGETS, PODS, GroupVersionKind
from nodeport.api.selectors import label_selector_of
from nodeport.api.status import BadRequest, Cause, Forbidden, InternalError, TooManyRequests
from nodeport.apiserver.deletes import Deleter
from nodeport.apiserver.encoding import prefix_of
from nodeport.apiserver.options import DeleteOptions, WriteOptions
from nodeport.apiserver.preconditions import check_preconditions
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer
from nodeport.kit.clock import rfc3339

EVICTION = GroupVersionKind("policy", "v1", "Eviction")
OLD_EVICTION = "policy/v1beta1"
"""What kubectl sends until 1.21; Kubernetes takes it still."""
EVICTION_SCHEMA = "io.k8s.api.policy.v1.Eviction"
WOULD_VIOLATE = "Cannot evict pod as it would violate the pod's disruption budget."
RETRY_SECONDS = 10
MOST_DISRUPTED = 2000


class Verdict(Enum):
    """``SPEND``: allowed, and one less is left of the budget."""

    FREE = "free"
    SPEND = "spend"


def judge(pod: JsonObject, budget: JsonObject | None) -> Verdict:
    """Whether the pod may go. Raises the ApiError that says why not."""
    if budget is None or is_beyond_budgets(pod):
        return Verdict.FREE
    if not is_ready(pod):
        status = budget.get("status") or {}
        policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy")
        healthy, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
        if policy == "AlwaysAllow" or 0 < desired <= healthy:
            return Verdict.FREE
    check_budget(budget)
    return Verdict.SPEND


def is_beyond_budgets(pod: JsonObject) -> bool:
    """Pods that do not run, or are going anyway, are missed by nobody."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Pending", "Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def is_ready(pod: JsonObject) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def check_budget(budget: JsonObject) -> None:
    """403 and 429 of a budget that has nothing left to spend."""
    metadata, status = budget["metadata"], budget.get("status") or {}
    name, allowed = metadata["name"], status.get("disruptionsAllowed") or 0
    if (status.get("observedGeneration") or 0) < (metadata.get("generation") or 0):
        why = f"The disruption budget {name} is still being processed by the server."
        raise over_budget(why, retry_after=RETRY_SECONDS)
    if allowed < 0:
        raise forbidden_by(name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or {}) > MOST_DISRUPTED:
        raise forbidden_by(
            name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        )
    if allowed == 0:
        desired, healthy = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
        raise over_budget(
            f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        )


def over_budget(why: str, retry_after: int = 0) -> TooManyRequests:
    return TooManyRequests(
        WOULD_VIOLATE, causes=[Cause("DisruptionBudget", why)], retry_after_seconds=retry_after
    )


def forbidden_by(name: str, why: str) -> Forbidden:
    details = {"name": name, "group": "policy", "kind": "poddisruptionbudgets"}
    return Forbidden(f'poddisruptionbudgets.policy "{name}" is forbidden: {why}', details=details)


def spent(budget: JsonObject, pod: str, now: str) -> JsonObject:
    """The budget with one disruption less, and the pod noted for its controller. Raises as `check_budget`."""
    check_budget(budget)
    new = copy.deepcopy(budget)
    status = new["status"]
    status["disruptionsAllowed"] -= 1
    status.setdefault("disruptedPods", {})[pod] = now
    new["metadata"]["resourceVersion"] = ""
    return new


def with_target_condition(pod: JsonObject, now: str) -> JsonObject:
    """The pod with the condition that says why it goes."""
    new = copy.deepcopy(pod)
    status = new.setdefault("status", {})
    kept = [each for each in status.get("conditions") or [] if each.get("type") != "DisruptionTarget"]
    kept.append({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": None, "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    })  # fmt: skip
    status["conditions"] = kept
    new["metadata"]["resourceVersion"] = ""
    return new


@dataclass(frozen=True, slots=True)
class Evictions:
    registry: Registry
    writer: Writer
    deleter: Deleter

    async def evict(
        self, target: Target, name: str, options: WriteOptions, deletion: DeleteOptions
    ) -> JsonObject:
        """``name``: in the Eviction. The Status of a pod that is going; raises what keeps it."""
        if name and name != target.name:
            raise BadRequest("name in URL does not match name in Eviction object")
        own = WriteOptions(deletion.dry_run, options.field_validation, options.field_manager)
        kv = await self.registry.find(PODS, target.namespace, target.name)
        pod = self.registry.entry(PODS).splicer.read(kv)
        await self.registry.admission.delete(options.user, target, pod)
        check_preconditions(PODS, pod, deletion)
        budget = await self._budget_of(pod, target.namespace)
        if judge(pod, budget) is Verdict.SPEND:
            assert budget is not None
            await self._spend(budget, target, own)
        if not is_beyond_budgets(pod) and not deletion.dry_run:
            now = rfc3339(self.registry.clock.now())
            where = Target(PODS, target.namespace, target.name, "status")
            await self._change(where, own, with_target_condition, now)
            deletion = replace(deletion, resource_version=None)  # it was as asked; now it has the condition
        await self.deleter.delete(target, deletion)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    async def _budget_of(self, pod: JsonObject, namespace: str) -> JsonObject | None:
        """The one budget that covers the pod; 500 when several do."""
        listing = await self.registry.store.list(prefix_of(POD_DISRUPTION_BUDGETS, namespace))
        splicer = self.registry.entry(POD_DISRUPTION_BUDGETS).splicer
        labels = pod["metadata"].get("labels") or {}
        found = []
        for kv in listing.items:
            budget = splicer.read(kv)
            if label_selector_of((budget.get("spec") or {}).get("selector")).matches(labels):
                found.append(budget)
        if len(found) > 1 and not is_beyond_budgets(pod):
            raise InternalError(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        return found[0] if found else None

    async def _spend(self, budget: JsonObject, target: Target, options: WriteOptions) -> None:
        now = rfc3339(self.registry.clock.now())
        where = Target(POD_DISRUPTION_BUDGETS, target.namespace, budget["metadata"]["name"], "status")
        await self._change(where, options, lambda found, now: spent(found, target.name, now), now)

    async def _change(
        self, where: Target, options: WriteOptions, change: Callable[[JsonObject, str], JsonObject], now: str
    ) -> None:
        """By the server itself: whoever may evict need not be allowed to write what that changes."""
        await self.writer.change(where, lambda found: change(found, now), options)
