"""What a node may write: itself, its lease, and the pods that were given to it.

Rules: Kubernetes' NodeRestriction, with its texts; narrower in one thing: there are no mirror pods.
"""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.resources import LEASES, NODES, PODS
from nodeport.api.status import Forbidden
from nodeport.apiserver.routes import Target

MIRROR = "kubernetes.io/config.mirror"
LEASE_NAMESPACE = "kube-node-lease"
RESTRICTED = "node-restriction.kubernetes.io"
_NODES_OWN_LABELS = frozenset((
    "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch", "node.kubernetes.io/instance-type",
))  # fmt: skip
_NODES_OWN_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


def check_create(node: str, target: Target, obj: JsonObject) -> None:
    """403 unless ``node`` may create ``obj``."""
    name = obj["metadata"].get("name") or ""
    resource = target.resource
    if resource is PODS:
        why = f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
        if MIRROR in (obj["metadata"].get("annotations") or {}):
            why = f'node "{node}" cannot create mirror pods here'
        raise refused(target, name, why)
    if resource is NODES:
        _check_node_name(node, target, name)
        labels = forbidden_labels(obj["metadata"].get("labels") or {}, {})
        if labels:
            raise refused(
                target, name, f'node "{node}" is not allowed to set the following labels: {", ".join(labels)}'
            )
        if obj["metadata"].get("ownerReferences"):
            raise refused(target, name, f'node "{node}" is not allowed to set ownerReferences')
    elif resource is LEASES:
        _check_lease(node, target, name)


def check_update(node: str, target: Target, new: JsonObject, old: JsonObject) -> None:
    """403 unless ``node`` may make ``new`` of ``old``."""
    name = target.name
    resource = target.resource
    if resource is PODS:
        _check_pod_update(node, target, new, old)
    elif resource is NODES:
        _check_node_name(node, target, name)
        _check_node_update(node, target, new, old)
    elif resource is LEASES:
        _check_lease(node, target, name)


def check_delete(node: str, target: Target, old: JsonObject) -> None:
    """403 unless ``node`` may delete ``old``, or evict it."""
    resource = target.resource
    if resource is PODS:
        if (old.get("spec") or {}).get("nodeName") != node:
            deed = "evict" if target.subresource == "eviction" else "delete"
            why = f'node "{node}" can only {deed} pods with spec.nodeName set to itself'
            raise refused(target, target.name, why)
    elif resource is NODES:
        _check_node_name(node, target, target.name)
    elif resource is LEASES:
        _check_lease(node, target, target.name)


def check_token(node: str, target: Target, spec: JsonObject, pod: JsonObject | None) -> None:
    """403 unless the token is for a pod on ``node``. ``spec``: of the TokenRequest; ``pod``: what it is bound to."""
    bound = spec.get("boundObjectRef") or {}
    if bound.get("kind") != "Pod" or not bound.get("name"):
        raise refused(target, target.name, "node requested token not bound to a pod")
    if not bound.get("uid"):
        raise refused(target, target.name, "node requested token with a pod binding without a uid")
    if pod is None or (pod.get("spec") or {}).get("nodeName") != node:
        raise refused(
            target, target.name, "node requested token bound to a pod scheduled on a different node"
        )


def _check_pod_update(node: str, target: Target, new: JsonObject, old: JsonObject) -> None:
    if target.subresource != "status":
        why = f'unexpected operation "UPDATE", node "{node}" can only create and delete mirror pods'
        raise refused(target, target.name, why)
    if (old.get("spec") or {}).get("nodeName") != node:
        why = f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
        raise refused(target, target.name, why)
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise refused(target, target.name, f'node "{node}" cannot update labels through pod status')


def _check_node_name(node: str, target: Target, name: str) -> None:
    if name != node:
        raise refused(target, name, f'node "{node}" is not allowed to modify node "{name}"')


def _check_node_update(node: str, target: Target, new: JsonObject, old: JsonObject) -> None:
    labels = forbidden_labels(new["metadata"].get("labels") or {}, old["metadata"].get("labels") or {})
    if labels:
        raise refused(
            target, target.name, f'node "{node}" is not allowed to modify labels: {", ".join(labels)}'
        )
    if not target.subresource and _taints(new) != _taints(old):
        raise refused(target, target.name, f'node "{node}" is not allowed to modify taints')
    owners = [obj["metadata"].get("ownerReferences") or [] for obj in (new, old)]
    if owners[0] != owners[1]:
        raise refused(target, target.name, f'node "{node}" is not allowed to modify ownerReferences')


def _taints(node: JsonObject) -> list[JsonObject]:
    return (node.get("spec") or {}).get("taints") or []


def _check_lease(node: str, target: Target, name: str) -> None:
    if target.namespace != LEASE_NAMESPACE:
        why = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
        raise refused(target, name, why)
    if name != node:
        raise refused(target, name, "can only access node lease with the same name as the requesting node")


def forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """The changed labels that say something about a node which it may not decide itself, sorted."""
    changed = {key for key in {*new, *old} if new.get(key) != old.get(key)}
    return sorted(key for key in changed if _is_forbidden(key))


def _is_forbidden(label: str) -> bool:
    domain = label.partition("/")[0] if "/" in label else ""
    if _within(domain, RESTRICTED):
        return True
    if not (_within(domain, "kubernetes.io") or _within(domain, "k8s.io")):
        return False
    return label not in _NODES_OWN_LABELS and not any(_within(domain, own) for own in _NODES_OWN_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith(f".{parent}")


def refused(target: Target, name: str, why: str) -> Forbidden:
    resource = target.resource
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    subject = f'{resource.qualified_name} "{name}"' if name else resource.qualified_name
    return Forbidden(
        f"{subject} is forbidden: {why}", details={key: value for key, value in details.items() if value}
    )
