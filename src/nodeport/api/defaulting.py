"""Static defaults of every kind: what the API fills in before it validates. In place and idempotent.

Rules: the v1 defaulting of Kubernetes 1.36. What needs the cluster's state (addresses, node ports, service accounts)
is filled in elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nodeport.api import events, rbac, services, storage
from nodeport.api.meta import JsonObject, metadata
from nodeport.api.resources import Resource

_CLIENT_IP_SECONDS = 10800
_FILE_MODE = 0o644
_TOKEN_SECONDS = 3600
_NO_LIMIT = 2**31 - 1


def apply_defaults(resource: Resource, obj: JsonObject) -> None:
    """Fill ``obj``, a pruned object of ``resource``."""
    found = _DEFAULTS.get((resource.group, resource.kind))
    if found is not None:
        found(obj)


def _default(target: JsonObject, field: str, value: Any) -> None:
    """Set what is absent, null, zero or empty: Go's zero value of a field that is no pointer."""
    if not target.get(field):
        target[field] = value


def _each(target: JsonObject, field: str) -> Iterable[JsonObject]:
    return (item for item in target.get(field) or () if isinstance(item, dict))


def _spec(obj: JsonObject) -> JsonObject:
    spec: JsonObject = obj.get("spec") or {}
    obj["spec"] = spec
    return spec


def _service(obj: JsonObject) -> None:
    spec = _spec(obj)
    _default(spec, "sessionAffinity", "None")
    _session_affinity(spec)
    _default(spec, "type", services.CLUSTER_IP)
    kind = spec["type"]
    for port in _each(spec, "ports"):
        _default(port, "protocol", "TCP")
        _default(port, "targetPort", port.get("port") or 0)
    if services.externally_accessible(obj):
        _default(spec, "externalTrafficPolicy", "Cluster")
    if services.needs_cluster_ip(obj) and spec.get("internalTrafficPolicy") is None:
        spec["internalTrafficPolicy"] = "Cluster"
    if kind == services.LOAD_BALANCER:
        if spec.get("allocateLoadBalancerNodePorts") is None:
            spec["allocateLoadBalancerNodePorts"] = True
        for ingress in _each((obj.get("status") or {}).get("loadBalancer") or {}, "ingress"):
            if ingress.get("ip") and ingress.get("ipMode") is None:
                ingress["ipMode"] = "VIP"


def _session_affinity(spec: JsonObject) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client_ip.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _CLIENT_IP_SECONDS}}


def _pod(obj: JsonObject) -> None:
    spec = _spec(obj)
    _pod_spec(spec)
    containers = [*_each(spec, "containers"), *_each(spec, "initContainers")]
    for container in containers:
        resources = container["resources"]
        limits = resources.get("limits")
        if limits:
            resources["requests"] = {**limits, **(resources.get("requests") or {})}
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        for container in containers:
            for port in _each(container, "ports"):
                _default(port, "hostPort", port.get("containerPort") or 0)
    for condition in _each(obj.get("status") or {}, "conditions"):
        condition.setdefault("lastProbeTime", None)
        condition.setdefault("lastTransitionTime", None)


def _pod_spec(spec: JsonObject) -> None:
    """What pods and pod templates share."""
    _default(spec, "dnsPolicy", "ClusterFirst")
    _default(spec, "restartPolicy", "Always")
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    _default(spec, "schedulerName", "default-scheduler")
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in _each(spec, field):
            _container(container)
    for volume in _each(spec, "volumes"):
        _volume(volume)


def _container(container: JsonObject) -> None:
    _default(container, "imagePullPolicy", _pull_policy(container.get("image") or ""))
    _default(container, "terminationMessagePath", "/dev/termination-log")
    _default(container, "terminationMessagePolicy", "File")
    if container.get("resources") is None:
        container["resources"] = {}
    for port in _each(container, "ports"):
        _default(port, "protocol", "TCP")
    for variable in _each(container, "env"):
        field_ref = (variable.get("valueFrom") or {}).get("fieldRef")
        if field_ref is not None:
            _default(field_ref, "apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict) and hook.get("httpGet") is not None:
            _http_get(hook["httpGet"])


def _pull_policy(image: str) -> str:
    """``Always`` for a missing or ``latest`` tag; a digest is never pulled again."""
    if "@" in image:
        return "IfNotPresent"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _probe(probe: JsonObject) -> None:
    for field, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1),
                         ("failureThreshold", 3)):  # fmt: skip
        _default(probe, field, value)
    if probe.get("httpGet") is not None:
        _http_get(probe["httpGet"])
    if probe.get("grpc") is not None and probe["grpc"].get("service") is None:
        probe["grpc"]["service"] = ""


def _http_get(action: JsonObject) -> None:
    _default(action, "path", "/")
    _default(action, "scheme", "HTTP")


def _volume(volume: JsonObject) -> None:
    if not any(value is not None for field, value in volume.items() if field != "name"):
        volume["emptyDir"] = {}
    for field in ("secret", "configMap", "downwardAPI", "projected"):
        source = volume.get(field)
        if source is not None and source.get("defaultMode") is None:
            source["defaultMode"] = _FILE_MODE
    if volume.get("hostPath") is not None and volume["hostPath"].get("type") is None:
        volume["hostPath"]["type"] = ""
    for source in (volume.get("downwardAPI") or {}, *_each(volume.get("projected") or {}, "sources")):
        _projection(source)


def _projection(source: JsonObject) -> None:
    token = source.get("serviceAccountToken")
    if token is not None and token.get("expirationSeconds") is None:
        token["expirationSeconds"] = _TOKEN_SECONDS
    for holder in (source, source.get("downwardAPI") or {}):
        for item in _each(holder, "items"):
            if item.get("fieldRef") is not None:
                _default(item["fieldRef"], "apiVersion", "v1")


def _template(spec: JsonObject) -> None:
    """The template of every kind but ReplicationController is there even when nobody wrote one."""
    if spec.get("template") is None:
        spec["template"] = {}
    template = spec["template"]
    if isinstance(template, dict):
        inner = template.get("spec")
        template["spec"] = inner if isinstance(inner, dict) else {}
        _pod_spec(template["spec"])


def _replicas(spec: JsonObject) -> None:
    if spec.get("replicas") is None:
        spec["replicas"] = 1


def _deployment(obj: JsonObject) -> None:
    spec = _spec(obj)
    _replicas(spec)
    strategy = spec["strategy"] = spec.get("strategy") or {}
    _default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy["rollingUpdate"] = strategy.get("rollingUpdate") or {}
        for field in ("maxUnavailable", "maxSurge"):
            if rolling.get(field) is None:
                rolling[field] = "25%"
    for field, value in (("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)):
        if spec.get(field) is None:
            spec[field] = value
    _template(spec)


def _replica_set(obj: JsonObject) -> None:
    _replicas(_spec(obj))
    _template(_spec(obj))


def _replication_controller(obj: JsonObject) -> None:
    """The template's labels are what selects its pods, and the object's own labels, unless it says otherwise."""
    spec = _spec(obj)
    _replicas(spec)
    if spec.get("template") is not None:
        _template(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        _default(spec, "selector", dict(labels))
        _default(metadata(obj), "labels", dict(labels))


def _stateful_set(obj: JsonObject) -> None:
    spec = _spec(obj)
    _default(spec, "podManagementPolicy", "OrderedReady")
    strategy = spec["updateStrategy"] = spec.get("updateStrategy") or {}
    _default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy["rollingUpdate"] = strategy.get("rollingUpdate") or {}
        for field, value in (("partition", 0), ("maxUnavailable", 1)):
            if rolling.get(field) is None:
                rolling[field] = value
    policy = spec["persistentVolumeClaimRetentionPolicy"] = (
        spec.get("persistentVolumeClaimRetentionPolicy") or {}
    )
    for field in ("whenDeleted", "whenScaled"):
        _default(policy, field, "Retain")
    _replicas(spec)
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    _template(spec)


def _daemon_set(obj: JsonObject) -> None:
    spec = _spec(obj)
    strategy = spec["updateStrategy"] = spec.get("updateStrategy") or {}
    _default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy["rollingUpdate"] = strategy.get("rollingUpdate") or {}
        for field, value in (("maxUnavailable", 1), ("maxSurge", 0)):
            if rolling.get(field) is None:
                rolling[field] = value
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    _template(spec)


def _job(obj: JsonObject) -> None:
    spec = _spec(obj)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    fails = "Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed"
    for field, value in (
        ("parallelism", 1), ("backoffLimit", _NO_LIMIT if per_index else 6), ("completionMode", "NonIndexed"),
        ("suspend", False), ("manualSelector", False), ("podReplacementPolicy", fails),
    ):  # fmt: skip
        if spec.get(field) is None:
            spec[field] = value
    for rule in _each(spec.get("podFailurePolicy") or {}, "rules"):
        for pattern in _each(rule, "onPodConditions"):
            _default(pattern, "status", "True")
    _template(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        _default(metadata(obj), "labels", dict(labels))


def _endpoints(obj: JsonObject) -> None:
    for subset in _each(obj, "subsets"):
        for port in _each(subset, "ports"):
            _default(port, "protocol", "TCP")


def _endpoint_slice(obj: JsonObject) -> None:
    """Both lists are always shown, as null when they were not given, and so are an endpoint's conditions and the
    name of a hint.
    """
    obj.setdefault("endpoints", None)
    obj.setdefault("ports", None)
    for endpoint in _each(obj, "endpoints"):
        if endpoint.get("conditions") is None:
            endpoint["conditions"] = {}
        if endpoint.get("hints"):
            for hint in (*_each(endpoint["hints"], "forZones"), *_each(endpoint["hints"], "forNodes")):
                _default(hint, "name", "")
    for port in _each(obj, "ports"):
        if port.get("name") is None:
            port["name"] = ""
        if port.get("protocol") is None:
            port["protocol"] = "TCP"


def _namespace(obj: JsonObject) -> None:
    meta = metadata(obj)
    if meta.get("name"):
        meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]}
    obj["status"] = obj.get("status") or {}
    _default(obj["status"], "phase", "Active")


def _node(obj: JsonObject) -> None:
    _spec(obj)
    status = obj.get("status") or {}
    if status.get("allocatable") is None and status.get("capacity"):
        status["allocatable"] = dict(status["capacity"])


def _secret(obj: JsonObject) -> None:
    _default(obj, "type", "Opaque")


def _limit_range(obj: JsonObject) -> None:
    """Container limits: a maximum is the default limit, a default limit or else a minimum the default request."""
    for item in _each(_spec(obj), "limits"):
        if item.get("type") == "Container":
            limits = {**(item.get("max") or {}), **(item.get("default") or {})}
            requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
            for field, amounts in (("default", limits), ("defaultRequest", requests)):
                if amounts:
                    item[field] = amounts


def _priority_class(obj: JsonObject) -> None:
    _default(obj, "preemptionPolicy", "PreemptLowerPriority")


def _only_spec(obj: JsonObject) -> None:
    """Go has no object of this kind without a spec: what was left out is empty."""
    _spec(obj)


def _ingress_class(obj: JsonObject) -> None:
    parameters = _spec(obj).get("parameters")
    if isinstance(parameters, dict) and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def _role_binding(obj: JsonObject) -> None:
    role = obj["roleRef"] = obj.get("roleRef") or {}
    _default(role, "apiGroup", rbac.GROUP)
    for subject in _each(obj, "subjects"):
        if subject.get("kind") in (rbac.USER, rbac.GROUP_KIND):
            _default(subject, "apiGroup", rbac.GROUP)


_DEFAULTS: dict[tuple[str, str], Callable[[JsonObject], None]] = {
    ("", "Service"): _service,
    ("", "Pod"): _pod,
    ("", "Endpoints"): _endpoints,
    ("", "Namespace"): _namespace,
    ("", "Event"): events.fill_core,
    ("events.k8s.io", "Event"): events.fill_new,
    ("", "Node"): _node,
    ("", "Secret"): _secret,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("", "ReplicationController"): _replication_controller,
    ("", "PodTemplate"): _template,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    ("", "LimitRange"): _limit_range,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("", "PersistentVolume"): storage.default_volume,
    ("", "PersistentVolumeClaim"): storage.default_claim,
    ("storage.k8s.io", "StorageClass"): storage.default_class,
    ("networking.k8s.io", "Ingress"): _only_spec,
    ("", "ResourceQuota"): _only_spec,
    ("coordination.k8s.io", "Lease"): _only_spec,
    ("policy", "PodDisruptionBudget"): _only_spec,
    ("networking.k8s.io", "IngressClass"): _ingress_class,
    (rbac.GROUP, "RoleBinding"): _role_binding,
    (rbac.GROUP, "ClusterRoleBinding"): _role_binding,
}
