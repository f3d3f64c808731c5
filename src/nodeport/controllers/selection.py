"""Which Services select a pod, found by index instead of asking every Service of the namespace."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted, labels
from nodeport.client.cache import Change
from nodeport.client.informer import Informer

BY_NODE = "node"

_BY_SELECTOR = "selector"
_BY_LABEL = "label"


def selector_of(service: JsonObject) -> dict[str, str]:
    """Empty for Services whose endpoints are not ours to compute: no selector, or ExternalName."""
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def index_services(services: Informer) -> None:
    """Index each Service under one pair of its selector: a pod it selects has that label."""
    services.add_index(_BY_SELECTOR, _index_values)


def _index_values(service: JsonObject) -> list[str]:
    selector = selector_of(service)
    if not selector:
        return []
    key = min(selector)
    return [_value(service["metadata"]["namespace"], key, selector[key])]


def index_pods(pods: Informer) -> None:
    """Index each pod under each of its labels, so that a Service finds its own without looking at all, and
    under its node (``BY_NODE``).
    """
    pods.add_index(_BY_LABEL, _label_values)
    pods.add_index(BY_NODE, _node_values)


def _node_values(pod: JsonObject) -> list[str]:
    node = pod["spec"].get("nodeName")
    return [node] if node else []


def _label_values(pod: JsonObject) -> list[str]:
    namespace = pod["metadata"]["namespace"]
    return [_value(namespace, key, value) for key, value in labels(pod).items()]


def selected_pods(pods: Informer, service: JsonObject) -> list[JsonObject]:
    selector = selector_of(service)
    if not selector:
        return []
    key = min(selector)
    candidates = pods.by_index(_BY_LABEL, _value(service["metadata"]["namespace"], key, selector[key]))
    return [pod for pod in candidates if selector.items() <= labels(pod).items()]


def _value(namespace: str, key: str, value: str) -> str:
    return f"{namespace}/{key}={value}"


def selecting_services(services: Informer, pod: JsonObject) -> Iterator[NamespacedName]:
    namespace = pod["metadata"]["namespace"]
    has = labels(pod)
    for key, value in has.items():
        for service in services.by_index(_BY_SELECTOR, _value(namespace, key, value)):
            if selector_of(service).items() <= has.items():
                yield NamespacedName.of(service)


def services_to_look_at(services: Informer, change: Change) -> set[NamespacedName]:
    """The Services whose endpoints a pod's change may change."""
    if change.old is not None and change.new is not None and _facts(change.old) == _facts(change.new):
        return set()
    return {
        name
        for pod in (change.old, change.new)
        if pod is not None
        for name in selecting_services(services, pod)
    }


def _facts(pod: JsonObject) -> tuple[object, ...]:
    """All of a pod that endpoints are made of."""
    status, spec = pod.get("status") or {}, pod["spec"]
    return (
        labels(pod),
        is_being_deleted(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
        status.get("phase") in ("Succeeded", "Failed"),
        status.get("podIPs") or status.get("podIP"),
        ready_condition(pod),
    )


def ready_condition(pod: JsonObject) -> JsonObject:
    """The pod's Ready condition as far as it matters here; empty when it has none."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return {key: condition.get(key) for key in ("status", "lastTransitionTime")}
    return {}


def is_ready(pod: JsonObject) -> bool:
    return ready_condition(pod).get("status") == "True"


def is_finished(pod: JsonObject) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
