"""What other objects decide about a new pod: its priority, and what it may and must ask for.

Rules: the admission plugins ServiceAccount, Priority and LimitRanger, with their texts.
"""

from __future__ import annotations

import random

from nodeport.api import limits
from nodeport.api.meta import JsonObject, name_or_base
from nodeport.api.resources import LIMIT_RANGES, PRIORITY_CLASSES, SERVICE_ACCOUNTS
from nodeport.api.status import Forbidden
from nodeport.apiserver.encoding import decode, key_of, prefix_of
from nodeport.apiserver.strategies import accounttokens
from nodeport.store.base import Store


async def admit_pod(pod: JsonObject, store: Store, rng: random.Random) -> None:
    """Complete the pod, or raise 403."""
    accounttokens.complete(pod, await _account(pod, store), rng)
    await _prioritize(pod, store)
    listing = await store.list(prefix_of(LIMIT_RANGES, pod["metadata"].get("namespace") or ""))
    found = [decode(kv.value) for kv in listing.items]
    if not found:
        return
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
