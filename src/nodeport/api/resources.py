"""THE table of what the API serves: discovery, routes, tables, OpenAPI and clients are derived from its rows.

A row is everything that the generic machinery needs to know of a resource. What only one kind does (allocation,
graceful deletion) lives in ``apiserver/strategies``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS = ("get", "patch", "update")
CONNECT_VERBS = ("create", "get")
PROXY_VERBS = ("create", "delete", "get", "patch", "update")


@dataclass(frozen=True, slots=True)
class GroupVersionKind:
    """``group`` is empty for the core group, as in ``apiVersion: v1``."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class Subresource:
    """One path segment below an object. ``kind`` is the kind of its body where that is not the parent's."""

    name: str
    verbs: tuple[str, ...] = STATUS_VERBS
    kind: GroupVersionKind | None = None


STATUS = Subresource("status")
SCALE = Subresource("scale", kind=GroupVersionKind("autoscaling", "v1", "Scale"))


@dataclass(frozen=True, slots=True)
class Resource:
    """One row. ``schema`` names the type in ``api/schema`` (``io.k8s.api.core.v1.Service``).

    ``has_generation``: ``metadata.generation`` counts changes outside metadata and status (Services have none).
    ``upsert``: PUT to a missing name creates. ``returns_deleted``: DELETE answers with the object, not a Status.
    ``deprecation``: a warning that comes with every answer.
    ``stored_as``: the qualified name of the row whose objects these are in another version; empty for its own.
    ``field_selectors``: dotted paths beside ``metadata.name`` and ``metadata.namespace``.
    """

    gvk: GroupVersionKind
    plural: str
    singular: str
    schema: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    field_selectors: tuple[str, ...] = ()
    has_generation: bool = False
    upsert: bool = False
    returns_deleted: bool = False
    deprecation: str = ""
    stored_as: str = ""

    @property
    def group(self) -> str:
        return self.gvk.group

    @property
    def version(self) -> str:
        return self.gvk.version

    @property
    def kind(self) -> str:
        return self.gvk.kind

    @property
    def api_version(self) -> str:
        return self.gvk.api_version

    @property
    def is_kept(self) -> bool:
        """Whether what is created is stored. Else it is a question: answered, and forgotten."""
        return "get" in self.verbs

    @property
    def list_kind(self) -> str:
        return f"{self.gvk.kind}List"

    @property
    def qualified_name(self) -> str:
        """How error texts name the resource: ``services``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def base_path(self) -> str:
        """``/api/v1`` or ``/apis/apps/v1``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, object or subresource; all namespaces when ``namespace`` is empty."""
        segments = [self.base_path]
        if namespace and self.namespaced:
            segments.append(f"namespaces/{namespace}")
        segments.append(self.plural)
        segments.extend(segment for segment in (name, subresource) if segment)
        return "/".join(segments)

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)


def _core(kind: str, plural: str, **options: object) -> Resource:
    return _row("", "v1", kind, plural, "core", **options)


def _row(group: str, version: str, kind: str, plural: str, package: str, **options: object) -> Resource:
    return Resource(
        gvk=GroupVersionKind(group, version, kind),
        plural=plural,
        singular=kind.lower(),
        schema=f"io.k8s.api.{package}.{version}.{kind}",
        **options,  # type: ignore[arg-type]  # the two row makers forward the dataclass's own keywords
    )


BINDINGS = _core("Binding", "bindings", verbs=("create",))
"""Never kept: the way in to a pod's binding that was there before pods had one of their own."""
NAMESPACES = _core(
    "Namespace", "namespaces", namespaced=False, short_names=("ns",), field_selectors=("status.phase",),
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"), returns_deleted=True,
    subresources=(STATUS, Subresource("finalize", verbs=("update",))),
)  # fmt: skip
NODES = _core(
    "Node", "nodes", namespaced=False, short_names=("no",),
    subresources=(STATUS, Subresource("proxy", verbs=PROXY_VERBS, kind=GroupVersionKind("", "v1", "NodeProxyOptions"))),
    field_selectors=("spec.unschedulable",),
)  # fmt: skip
PODS = _core(
    "Pod", "pods", short_names=("po",), categories=("all",), returns_deleted=True, has_generation=True,
    subresources=(
        STATUS,
        Subresource("binding", verbs=("create",), kind=GroupVersionKind("", "v1", "Binding")),
        Subresource("attach", verbs=CONNECT_VERBS, kind=GroupVersionKind("", "v1", "PodAttachOptions")),
        Subresource("ephemeralcontainers"),
        Subresource("eviction", verbs=("create",), kind=GroupVersionKind("policy", "v1", "Eviction")),
        Subresource("exec", verbs=CONNECT_VERBS, kind=GroupVersionKind("", "v1", "PodExecOptions")),
        Subresource("log", verbs=("get",)),
        Subresource("portforward", verbs=CONNECT_VERBS, kind=GroupVersionKind("", "v1", "PodPortForwardOptions")),
        Subresource("proxy", verbs=PROXY_VERBS, kind=GroupVersionKind("", "v1", "PodProxyOptions")),
        Subresource("resize"),
    ),
    field_selectors=(
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
    ),
)  # fmt: skip
SERVICES = _core(
    "Service", "services", short_names=("svc",), categories=("all",), upsert=True, returns_deleted=True,
    subresources=(
        STATUS, Subresource("proxy", verbs=PROXY_VERBS, kind=GroupVersionKind("", "v1", "ServiceProxyOptions")),
    ),
    field_selectors=("spec.clusterIP", "spec.type"),
)  # fmt: skip
ENDPOINTS = _core(
    "Endpoints", "endpoints", short_names=("ep",), upsert=True,
    deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)  # fmt: skip
EVENTS = _core(
    "Event", "events", short_names=("ev",), upsert=True,
    field_selectors=(
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
        "reason", "reportingComponent", "source", "type",
    ),
)  # fmt: skip
NEW_EVENTS = _row(
    "events.k8s.io", "v1", "Event", "events", "events", short_names=("ev",), upsert=True, stored_as="events",
    field_selectors=(
        "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
        "regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type",
    ),
)  # fmt: skip
CONFIG_MAPS = _core("ConfigMap", "configmaps", short_names=("cm",))
SECRETS = _core("Secret", "secrets", field_selectors=("type",))
SERVICE_ACCOUNTS = _core(
    "ServiceAccount", "serviceaccounts", short_names=("sa",), returns_deleted=True,
    subresources=(
        Subresource("token", ("create",), GroupVersionKind("authentication.k8s.io", "v1", "TokenRequest")),
    ),
)  # fmt: skip
ENDPOINT_SLICES = _row(
    "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "discovery", has_generation=True
)  # fmt: skip
DEPLOYMENTS = _row(
    "apps", "v1", "Deployment", "deployments", "apps", short_names=("deploy",), categories=("all",),
    subresources=(STATUS, SCALE), has_generation=True,
)  # fmt: skip
REPLICA_SETS = _row(
    "apps", "v1", "ReplicaSet", "replicasets", "apps", short_names=("rs",), categories=("all",),
    subresources=(STATUS, SCALE), has_generation=True, field_selectors=("status.replicas",),
)  # fmt: skip
REPLICATION_CONTROLLERS = _core(
    "ReplicationController", "replicationcontrollers", short_names=("rc",), categories=("all",),
    subresources=(STATUS, SCALE), has_generation=True, field_selectors=("status.replicas",),
)  # fmt: skip
STATEFUL_SETS = _row(
    "apps", "v1", "StatefulSet", "statefulsets", "apps", short_names=("sts",), categories=("all",),
    subresources=(STATUS, SCALE), has_generation=True,
)  # fmt: skip
DAEMON_SETS = _row(
    "apps", "v1", "DaemonSet", "daemonsets", "apps", short_names=("ds",), categories=("all",),
    subresources=(STATUS,), has_generation=True,
)  # fmt: skip
CONTROLLER_REVISIONS = _row("apps", "v1", "ControllerRevision", "controllerrevisions", "apps")
JOBS = _row(
    "batch", "v1", "Job", "jobs", "batch", categories=("all",), subresources=(STATUS,), has_generation=True,
    field_selectors=("status.successful",),
)  # fmt: skip
LEASES = _row("coordination.k8s.io", "v1", "Lease", "leases", "coordination", upsert=True)
INGRESSES = _row(
    "networking.k8s.io", "v1", "Ingress", "ingresses", "networking", short_names=("ing",), subresources=(STATUS,),
    has_generation=True,
)  # fmt: skip
INGRESS_CLASSES = _row(
    "networking.k8s.io", "v1", "IngressClass", "ingressclasses", "networking", namespaced=False,
    has_generation=True,
)  # fmt: skip
SERVICE_CIDRS = _row(
    "networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "networking", namespaced=False,
    subresources=(STATUS,),
)  # fmt: skip
IP_ADDRESSES = _row(
    "networking.k8s.io", "v1", "IPAddress", "ipaddresses", "networking", namespaced=False, short_names=("ip",),
    )  # fmt: skip
RESOURCE_QUOTAS = _core(
    "ResourceQuota", "resourcequotas", short_names=("quota",), subresources=(STATUS,), returns_deleted=True
)
POD_TEMPLATES = _core("PodTemplate", "podtemplates", returns_deleted=True, has_generation=True)
PERSISTENT_VOLUMES = _core(
    "PersistentVolume", "persistentvolumes", namespaced=False, short_names=("pv",), subresources=(STATUS,),
    returns_deleted=True,
)  # fmt: skip
PERSISTENT_VOLUME_CLAIMS = _core(
    "PersistentVolumeClaim", "persistentvolumeclaims", short_names=("pvc",), subresources=(STATUS,),
    returns_deleted=True,
)  # fmt: skip
STORAGE_CLASSES = _row(
    "storage.k8s.io", "v1", "StorageClass", "storageclasses", "storage", namespaced=False, short_names=("sc",),
    returns_deleted=True,
)  # fmt: skip
LIMIT_RANGES = _core("LimitRange", "limitranges", short_names=("limits",), upsert=True)
POD_DISRUPTION_BUDGETS = _row(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "policy", short_names=("pdb",),
    subresources=(STATUS,), has_generation=True,
)  # fmt: skip
PRIORITY_CLASSES = _row(
    "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "scheduling", namespaced=False,
    short_names=("pc",), has_generation=True,
)  # fmt: skip
RUNTIME_CLASSES = _row("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "node", namespaced=False)
ROLES = _row("rbac.authorization.k8s.io", "v1", "Role", "roles", "rbac", upsert=True)
ROLE_BINDINGS = _row("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rbac", upsert=True)
CLUSTER_ROLES = _row(
    "rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "rbac", namespaced=False, upsert=True
)
CLUSTER_ROLE_BINDINGS = _row(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "rbac", namespaced=False,
    upsert=True,
)  # fmt: skip
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), "customresourcedefinitions",
    "customresourcedefinition",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    namespaced=False, short_names=("crd", "crds"), categories=("api-extensions",), subresources=(STATUS,),
    has_generation=True,
)  # fmt: skip
"""Served so that clients find that there are none: old ones look before they validate. Making one is refused."""
CERTIFICATE_SIGNING_REQUESTS = _row(
    "certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", "certificates",
    namespaced=False, short_names=("csr",), subresources=(Subresource("approval"), STATUS),
    field_selectors=("spec.signerName",),
)  # fmt: skip


def _review(group: str, kind: str, *, namespaced: bool = False) -> Resource:
    package = group.partition(".")[0]
    return _row(
        group, "v1", kind, f"{kind.lower()}s", package, namespaced=namespaced, verbs=("create",),
    )  # fmt: skip


TOKEN_REVIEWS = _review("authentication.k8s.io", "TokenReview")
SELF_SUBJECT_REVIEWS = _review("authentication.k8s.io", "SelfSubjectReview")
SUBJECT_ACCESS_REVIEWS = _review("authorization.k8s.io", "SubjectAccessReview")
LOCAL_SUBJECT_ACCESS_REVIEWS = _review("authorization.k8s.io", "LocalSubjectAccessReview", namespaced=True)
SELF_SUBJECT_ACCESS_REVIEWS = _review("authorization.k8s.io", "SelfSubjectAccessReview")
SELF_SUBJECT_RULES_REVIEWS = _review("authorization.k8s.io", "SelfSubjectRulesReview")

SCALES = Resource(
    GroupVersionKind("autoscaling", "v1", "Scale"),
    "scales",
    "scale",
    "io.k8s.api.autoscaling.v1.Scale",
    verbs=("get",),
)
"""No collection of its own: how the Scale of a workload is shown."""

RESOURCES: tuple[Resource, ...] = (
    BINDINGS, NAMESPACES, NODES, PODS, SERVICES, ENDPOINTS, EVENTS, CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS,
    REPLICATION_CONTROLLERS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS, ENDPOINT_SLICES, LEASES,
    INGRESSES, INGRESS_CLASSES, SERVICE_CIDRS, IP_ADDRESSES, ROLES, ROLE_BINDINGS, CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS, CONTROLLER_REVISIONS, RESOURCE_QUOTAS, LIMIT_RANGES, POD_TEMPLATES, POD_DISRUPTION_BUDGETS,
    PRIORITY_CLASSES, RUNTIME_CLASSES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES,
    CUSTOM_RESOURCE_DEFINITIONS, NEW_EVENTS, CERTIFICATE_SIGNING_REQUESTS,
    TOKEN_REVIEWS, SELF_SUBJECT_REVIEWS, SUBJECT_ACCESS_REVIEWS, LOCAL_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_RULES_REVIEWS,
)  # fmt: skip


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The row for an object's ``apiVersion`` and ``kind``."""
    return next((row for row in RESOURCES if row.api_version == api_version and row.kind == kind), None)


def matching(word: str) -> Iterator[Resource]:
    """Rows that a user may mean by ``word``: plural, singular, short name, category or ``plural.group``.

    Another version of the same objects is meant only by its whole name.
    """
    lowered = word.lower()
    for row in RESOURCES:
        if row.stored_as and lowered != row.qualified_name:
            continue
        if lowered in (row.plural, row.singular, row.qualified_name, *row.short_names, *row.categories):
            yield row
