"""The roles and bindings that every cluster has.

Rules: the default roles of Kubernetes 1.36, as far as the kinds go that are served here, and a role for what is
nodeport's own: one user for all controllers.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api.certificates import GROUP as CERTIFICATES
from nodeport.api.meta import JsonObject
from nodeport.api.rbac import AUTO_UPDATE, GROUP, SERVICE_ACCOUNT_PREFIX, PolicyRule
from nodeport.api.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource
from nodeport.apiserver.auth import AUTHENTICATED, MASTERS, NODES_GROUP, UNAUTHENTICATED

LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_READ = "get list watch"
_CHANGE = "create delete deletecollection patch update"
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_EVENTS = "core events.k8s.io"


def _rule(verbs: str, groups: str, resources: str, names: str = "") -> PolicyRule:
    """Words separated by spaces; in ``groups`` a ``core`` stands for the group without a name."""
    found = tuple("" if group == "core" else group for group in groups.split())
    return PolicyRule(tuple(verbs.split()), found, tuple(resources.split()), tuple(names.split()))


def _urls(*urls: str) -> PolicyRule:
    return PolicyRule(("get",), non_resource_urls=urls)


_SIGNERS = ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
"""Of the domain kubernetes.io: what the cluster's own authority signs."""
_CSR_ROLE = "system:certificates.k8s.io"
DEFAULT_NODE_TOKEN = "system:bootstrappers:kubeadm:default-node-token"  # a group, no secret
"""The group of tokens that let new machines in, called as kubeadm calls it."""
_EVERYTHING = (PolicyRule(("*",), ("*",), ("*",)), PolicyRule(("*",), non_resource_urls=("*",)))
_WRITE_EVENTS = _rule("create patch update", _EVENTS, "events")

_VIEW = (
    _rule(_READ, "core", "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods "
          "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"),
    _rule(_READ, "core", "bindings events limitranges namespaces/status pods/log pods/status "
          "replicationcontrollers/status resourcequotas resourcequotas/status"),
    _rule(_READ, "core", "namespaces"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule(_READ, "apps", "controllerrevisions daemonsets daemonsets/status deployments deployments/scale "
          "deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale "
          "statefulsets/status"),
    _rule(_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    _rule(_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    _rule(_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    _rule(_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
)  # fmt: skip
_EDIT = (
    _rule(_READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    _rule("impersonate", "core", "serviceaccounts"),
    _rule(_CHANGE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    _rule("create", "core", "pods/eviction"),
    _rule(_CHANGE, "core", "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale "
          "secrets serviceaccounts services services/proxy"),
    _rule("create", "core", "serviceaccounts/token"),
    _rule(_CHANGE, "apps", "daemonsets deployments deployments/rollback deployments/scale replicasets "
          "replicasets/scale statefulsets statefulsets/scale"),
    _rule(_CHANGE, "autoscaling", "horizontalpodautoscalers"),
    _rule(_CHANGE, "batch", "cronjobs jobs"),
    _rule(_CHANGE, "policy", "poddisruptionbudgets"),
    _rule(_CHANGE, "networking.k8s.io", "ingresses networkpolicies"),
    _rule(f"{_CHANGE} {_READ}", "coordination.k8s.io", "leases"),
)  # fmt: skip
_ADMIN = (
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule(f"{_CHANGE} {_READ}", GROUP, "rolebindings roles"),
)

NODE_RULES = (
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    _rule(_READ, "core", "services"),
    _rule("create get list watch", "core", "nodes"),
    _rule("patch update", "core", "nodes/status"),
    _rule("patch update", "core", "nodes"),
    _WRITE_EVENTS,
    _rule(_READ, "core", "pods"),
    _rule("create delete", "core", "pods"),
    _rule("patch update", "core", "pods/status"),
    _rule("create", "core", "pods/eviction"),
    _rule(_READ, "core", "configmaps secrets"),
    _rule("get", "core", "endpoints"),
    _rule("create", "core", "serviceaccounts/token"),
    _rule("get", "core", "serviceaccounts"),
    _rule("create get list watch", CERTIFICATES, "certificatesigningrequests"),
    _rule("create delete get patch update", "coordination.k8s.io", "leases"),
)
"""What a node may do at all; the node authorizer narrows it to what concerns the node."""

_PROXY = (
    _rule("list watch", "core", "endpoints services"),
    _rule("get list watch", "core", "nodes"),
    _WRITE_EVENTS,
    _rule("list watch", "discovery.k8s.io", "endpointslices"),
    _rule("list watch", "networking.k8s.io", "servicecidrs"),
)
_SCHEDULER = (
    _WRITE_EVENTS,
    _rule("create", "coordination.k8s.io", "leases"),
    _rule("get list update watch", "coordination.k8s.io", "leases", "kube-scheduler"),
    _rule(_READ, "core", "nodes"),
    _rule("delete get list watch", "core", "pods"),
    _rule("create", "core", "bindings pods/binding"),
    _rule("patch update", "core", "pods/status"),
    _rule(_READ, "core", "replicationcontrollers services"),
    _rule(_READ, "apps", "replicasets statefulsets"),
    _rule(_READ, "policy", "poddisruptionbudgets"),
    _rule(_READ, "core", "namespaces persistentvolumeclaims persistentvolumes"),
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
)
_CONTROLLERS = (
    _WRITE_EVENTS,
    _rule("delete deletecollection get list patch update watch", "*", "*"),
    _rule("create", "core", "configmaps endpoints pods pods/binding pods/eviction replicationcontrollers secrets "
          "serviceaccounts serviceaccounts/token services persistentvolumeclaims"),
    _rule("create", "apps", "controllerrevisions replicasets"),
    _rule("create", "batch", "jobs"),
    _rule("create", "discovery.k8s.io", "endpointslices"),
    _rule("create", "networking.k8s.io", "ipaddresses servicecidrs"),
    _rule("create", "coordination.k8s.io", "leases"),
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    _rule("approve", CERTIFICATES, "signers",
          "kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving"),
    _rule("sign", CERTIFICATES, "signers", " ".join(f"kubernetes.io/{name}" for name in _SIGNERS)),
    _urls("/metrics"),
)  # fmt: skip
"""All controllers share one user. Garbage collection and the end of namespaces reach every kind; making is listed."""

_ROLES: dict[str, tuple[PolicyRule, ...]] = {
    "cluster-admin": _EVERYTHING,
    "system:discovery": (
        _urls("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
              "/version", "/version/"),
    ),
    "system:monitoring": (
        _urls("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"),
    ),
    "system:basic-user": (
        _rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        _rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:public-info-viewer": (_urls("/healthz", "/livez", "/readyz", "/version", "/version/"),),
    "system:aggregate-to-view": _VIEW,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-admin": _ADMIN,
    "system:node": NODE_RULES,
    "system:node-proxier": _PROXY,
    "system:auth-delegator": (
        _rule("create", "authentication.k8s.io", "tokenreviews"),
        _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ),
    "system:kube-scheduler": _SCHEDULER,
    "system:kube-controller-manager": _CONTROLLERS,
    "system:service-account-issuer-discovery": (
        _urls("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks",
              "/openid/v1/jwks/"),
    ),
    "system:node-bootstrapper": (_rule("create get list watch", CERTIFICATES, "certificatesigningrequests"),),
    f"{_CSR_ROLE}:certificatesigningrequests:nodeclient": (
        _rule("create", CERTIFICATES, "certificatesigningrequests/nodeclient"),
    ),
    f"{_CSR_ROLE}:certificatesigningrequests:selfnodeclient": (
        _rule("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient"),
    ),
    **{
        f"{_CSR_ROLE}:{name}-approver": (_rule("approve", CERTIFICATES, "signers", f"kubernetes.io/{name}"),)
        for name in _SIGNERS
    },
    "system:kubelet-api-admin": (
        _rule(_READ, "core", "nodes"),
        _rule("proxy", "core", "nodes"),
        _rule("*", "core", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec "
              "nodes/stats"),
    ),
}  # fmt: skip
_AGGREGATED = {"admin": ("admin",), "edit": ("edit",), "view": ("view",)}
_AGGREGATED_BY = {
    "system:aggregate-to-view": ("view",),
    "system:aggregate-to-edit": ("edit",),
    "system:aggregate-to-admin": ("admin",),
    "view": ("edit",),
    "edit": ("admin",),
}
_CLUSTER_BINDINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cluster-admin": ("cluster-admin", (f"group:{MASTERS}",)),
    "system:monitoring": ("system:monitoring", ("group:system:monitoring",)),
    "system:discovery": ("system:discovery", (f"group:{AUTHENTICATED}",)),
    "system:basic-user": ("system:basic-user", (f"group:{AUTHENTICATED}",)),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        (f"group:{AUTHENTICATED}", f"group:{UNAUTHENTICATED}"),
    ),
    "system:node-proxier": ("system:node-proxier", ("user:system:kube-proxy", f"group:{NODES_GROUP}")),
    "system:kube-controller-manager": (
        "system:kube-controller-manager", ("user:system:kube-controller-manager",),
    ),
    "kubeadm:kubelet-bootstrap": ("system:node-bootstrapper", (f"group:{DEFAULT_NODE_TOKEN}",)),
    "kubeadm:node-autoapprove-bootstrap": (
        f"{_CSR_ROLE}:certificatesigningrequests:nodeclient", (f"group:{DEFAULT_NODE_TOKEN}",),
    ),
    "kubeadm:node-autoapprove-certificate-rotation": (
        f"{_CSR_ROLE}:certificatesigningrequests:selfnodeclient", (f"group:{NODES_GROUP}",),
    ),
    "system:kube-scheduler": ("system:kube-scheduler", ("user:system:kube-scheduler",)),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery", (f"group:{SERVICE_ACCOUNT_PREFIX[:-1]}s",),
    ),
}  # fmt: skip
"""Binding -> (ClusterRole, subjects). Nodes run their proxy under their own name."""

_NAMESPACED_ROLES: dict[tuple[str, str], tuple[PolicyRule, ...]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        _rule(_READ, "core", "configmaps", "extension-apiserver-authentication"),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        _rule("watch", "core", "configmaps"),
        _rule("get update", "core", "configmaps", "kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        _rule("watch", "core", "configmaps"),
        _rule("get update", "core", "configmaps", "kube-scheduler"),
    ),
}
_NAMESPACED_BINDINGS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("kube-system", name): (name, (f"user:{user}",))
    for name, user in (
        ("system::leader-locking-kube-controller-manager", "system:kube-controller-manager"),
        ("system::leader-locking-kube-scheduler", "system:kube-scheduler"),
    )
}

Default = tuple[Resource, JsonObject]
RETIRED = (
    (CLUSTER_ROLE_BINDINGS, "system:nodeport:local-nodes"),
    (CLUSTER_ROLES, "system:nodeport:local-nodes"),
)
"""Default objects of former releases that grant what nobody is to have any more."""


def defaults() -> list[Default]:
    """Every default object with its resource; roles before what binds them."""
    made: list[Default] = [(CLUSTER_ROLES, _cluster_role(name, rules)) for name, rules in _ROLES.items()]
    made += [(CLUSTER_ROLES, _aggregated_role(name)) for name in _AGGREGATED]
    made += [
        (ROLES, {"metadata": _metadata(name, namespace), "rules": _listed(rules)})
        for (namespace, name), rules in _NAMESPACED_ROLES.items()
    ]
    made += [
        (CLUSTER_ROLE_BINDINGS, _binding(_metadata(name), "ClusterRole", role, subjects))
        for name, (role, subjects) in _CLUSTER_BINDINGS.items()
    ]
    made += [
        (ROLE_BINDINGS, _binding(_metadata(name, namespace), "Role", role, subjects))
        for (namespace, name), (role, subjects) in _NAMESPACED_BINDINGS.items()
    ]
    return made


def _metadata(name: str, namespace: str = "") -> JsonObject:
    labels = dict(LABELS)
    if not namespace:
        labels |= {f"{_AGGREGATE}{target}": "true" for target in _AGGREGATED_BY.get(name, ())}
    found: JsonObject = {"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}}
    return {**found, "namespace": namespace} if namespace else found


def _listed(rules: Iterable[PolicyRule]) -> list[JsonObject]:
    return [rule.to_json() for rule in rules]


def _cluster_role(name: str, rules: Iterable[PolicyRule]) -> JsonObject:
    return {"metadata": _metadata(name), "rules": _listed(rules)}


def _aggregated_role(name: str) -> JsonObject:
    selectors = [{"matchLabels": {f"{_AGGREGATE}{target}": "true"}} for target in _AGGREGATED[name]]
    return {"metadata": _metadata(name), "aggregationRule": {"clusterRoleSelectors": selectors}}


def _binding(metadata: JsonObject, kind: str, role: str, subjects: Iterable[str]) -> JsonObject:
    return {
        "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [
            {"kind": word.capitalize(), "apiGroup": GROUP, "name": name}
            for word, _, name in (subject.partition(":") for subject in subjects)
        ],
    }


def is_default(found: JsonObject) -> bool:
    """Whether the server made it and may change it."""
    metadata = found["metadata"]
    marks = (metadata.get("labels") or {}, metadata.get("annotations") or {})
    return LABELS.items() <= marks[0].items() and marks[1].get(AUTO_UPDATE) == "true"


def mended(found: JsonObject, wanted: JsonObject) -> JsonObject | None:
    """What an existing default object must become; None when it is good, or when its owner forbids to touch it.

    Rules and subjects are only ever added; what an administrator added stays.
    """
    metadata = found["metadata"]
    if (metadata.get("annotations") or {}).get(AUTO_UPDATE) != "true":
        return None
    new = {**found, "metadata": {**metadata}}
    for field in ("labels", "annotations"):
        new["metadata"][field] = {**wanted["metadata"][field], **(metadata.get(field) or {})}
    if "aggregationRule" in wanted:
        new.setdefault("aggregationRule", wanted["aggregationRule"])
    elif "rules" in wanted:
        new["rules"] = _with_missing(found.get("rules") or [], wanted["rules"])
    else:
        new["subjects"] = _with_missing(found.get("subjects") or [], wanted["subjects"])
    return new if new != found else None


def _with_missing(found: list[JsonObject], wanted: list[JsonObject]) -> list[JsonObject]:
    return [*found, *(each for each in wanted if each not in found)]
