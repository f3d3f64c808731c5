"""What other objects decide about a new pod: its priority, and what it may and must ask for.

Rules: the admission plugins ServiceAccount, Priority, RuntimeClass and LimitRanger, with their texts.
"""

from __future__ import annotations

import random

from nodeport.api import limits
from nodeport.api.meta import JsonObject, name_or_base
from nodeport.api.resources import LIMIT_RANGES, PRIORITY_CLASSES, RUNTIME_CLASSES, SERVICE_ACCOUNTS
from nodeport.api.status import Forbidden
from nodeport.apiserver.encoding import decode, key_of, prefix_of
from nodeport.apiserver.strategies import accounttokens
from nodeport.store.base import Store


async def admit_pod(pod: JsonObject, store: Store, rng: random.Random) -> None:
    """Complete the pod, or raise 403."""
    accounttokens.complete(pod, await _account(pod, store), rng)
    await _prioritize(pod, store)
    await _fit_runtime_class(pod, store)
    await fit_limit_ranges(pod, store, fill=True)


async def fit_limit_ranges(pod: JsonObject, store: Store, *, fill: bool = False) -> None:
    """What limit ranges say about the pod's amounts, after they filled in what it left out. Raises 403."""
    listing = await store.list(prefix_of(LIMIT_RANGES, pod["metadata"].get("namespace") or ""))
    found = [decode(kv.value) for kv in listing.items]
    if not found:
        return
    if fill:
        limits.fill(found, pod)
    wrong = limits.complaints(found, pod)
    if wrong:
        raise _forbidden(pod, wrong[0] if len(wrong) == 1 else f"[{', '.join(dict.fromkeys(wrong))}]")


async def _account(pod: JsonObject, store: Store) -> JsonObject:
    """Every namespace gets its ``default`` account in a moment, so that one is not waited for."""
    spec, namespace = pod["spec"], pod["metadata"].get("namespace") or ""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    found = await store.get(key_of(SERVICE_ACCOUNTS, namespace, name))
    if found is not None:
        return decode(found.value)
    if name == "default":
        return {}
    why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
    raise _forbidden(pod, why)


async def _prioritize(pod: JsonObject, store: Store) -> None:
    spec = pod["spec"]
    name = spec.get("priorityClassName") or ""
    chosen = await (_named(pod, name, store) if name else _default(store))
    value = int((chosen or {}).get("value") or 0)
    if spec.get("priority") is not None and spec["priority"] != value:
        why = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission "
            f"controller computed {value} from the given PriorityClass name"
        )
        raise _forbidden(pod, why)
    policy = (chosen or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    if spec.get("preemptionPolicy") not in (None, policy):
        why = (
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
            f"priority admission controller computed {policy} from the given PriorityClass name"
        )
        raise _forbidden(pod, why)
    if chosen is not None:
        spec["priorityClassName"] = chosen["metadata"]["name"]
    spec["priority"], spec["preemptionPolicy"] = value, policy


async def _fit_runtime_class(pod: JsonObject, store: Store) -> None:
    """Take over what the pod's RuntimeClass says of its overhead and of the nodes that have it."""
    spec = pod["spec"]
    name = spec.get("runtimeClassName")
    overhead: JsonObject = {}
    if name:
        found = await store.get(key_of(RUNTIME_CLASSES, "", name))
        if found is None:
            raise _forbidden(pod, f'pod rejected: RuntimeClass "{name}" not found')
        chosen = decode(found.value)
        overhead = (chosen.get("overhead") or {}).get("podFixed") or {}
        _schedule_as(chosen.get("scheduling") or {}, pod)
    own = spec.get("overhead") or {}
    if own and not overhead:
        raise _forbidden(
            pod, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        )
    if own and own != overhead:
        raise _forbidden(pod, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    if overhead:
        spec["overhead"] = overhead


def _schedule_as(scheduling: JsonObject, pod: JsonObject) -> None:
    spec = pod["spec"]
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.setdefault(key, value) != value:
            raise _forbidden(
                pod,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = "
                f"{selector[key]}",
            )
    if selector:
        spec["nodeSelector"] = selector
    tolerations = spec.get("tolerations") or []
    added = [each for each in scheduling.get("tolerations") or [] if each not in tolerations]
    if added:
        spec["tolerations"] = [*tolerations, *added]


async def _named(pod: JsonObject, name: str, store: Store) -> JsonObject:
    found = await store.get(key_of(PRIORITY_CLASSES, "", name))
    if found is None:
        raise _forbidden(pod, f"no PriorityClass with name {name} was found")
    return decode(found.value)


async def _default(store: Store) -> JsonObject | None:
    """Of several global defaults the one with the smallest value."""
    classes = [decode(kv.value) for kv in (await store.list(prefix_of(PRIORITY_CLASSES))).items]
    marked = [each for each in classes if each.get("globalDefault")]
    return min(marked, key=lambda each: int(each.get("value") or 0), default=None)


def _forbidden(pod: JsonObject, why: str) -> Forbidden:
    name = name_or_base(pod["metadata"])
    return Forbidden(f'pods "{name}" is forbidden: {why}', details={"name": name, "kind": "pods"})
