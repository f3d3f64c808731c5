"""Which rules hold for which kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.rbac import GROUP
from nodeport.api.resources import Resource
from nodeport.api.status import FieldError
from nodeport.api.validation import (
    addressing,
    apps,
    certificates,
    daemonsets,
    endpoints,
    events,
    ingresses,
    jobs,
    others,
    pods,
    podsubresources,
    podupdates,
    policies,
    rbac,
    services,
    statefulsets,
    storage,
)
from nodeport.api.validation.meta import Again, NameRule, validate_meta, validate_meta_update

Check = Callable[[JsonObject], Iterable[FieldError]]
Comparison = Callable[[JsonObject, JsonObject], Iterable[FieldError]]


def _nothing(_obj: JsonObject) -> Iterable[FieldError]:
    return ()


def _no_comparison(_new: JsonObject, _old: JsonObject) -> Iterable[FieldError]:
    return ()


_AS_MOST = Again()
_WHOLE = Again(whole=1)
_WHOLE_TWICE = Again(whole=2)
_ONLY_WHOLE = Again(compared=0, whole=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """``create`` judges a new object's content; ``update`` a new object against its predecessor (content included);
    ``status`` the same for /status, ``ways`` for the other subresources that write the object, by their names;
    ``again``: how an update's metadata is judged once more."""

    name: NameRule = names.dns_subdomain
    create: Check = _nothing
    update: Comparison = _no_comparison
    status: Comparison = _no_comparison
    ways: Mapping[str, Comparison] = field(default_factory=dict)
    again: Again = _AS_MOST


_PLAIN = Rules(name=names.path_segment)
_RULES: dict[tuple[str, str], Rules] = {
    ("", "Service"): Rules(
        names.dns_label,
        services.validate_service,
        services.validate_service_update,
        services.validate_service_status,
    ),
    ("", "Pod"): Rules(
        create=pods.validate_pod,
        update=podupdates.validate_pod_update,
        status=podupdates.validate_pod_status_update,
        ways={
            podsubresources.EPHEMERAL_CONTAINERS: podsubresources.validate_ephemeral_containers,
            podsubresources.RESIZE: podsubresources.validate_resize,
        },
        again=_WHOLE,
    ),
    ("", "Endpoints"): Rules(
        create=endpoints.validate_endpoints, update=endpoints.validate_endpoints_update, again=_WHOLE
    ),
    ("discovery.k8s.io", "EndpointSlice"): Rules(
        create=endpoints.validate_endpoint_slice,
        update=endpoints.validate_endpoint_slice_update,
        again=_ONLY_WHOLE,
    ),
    ("apps", "Deployment"): Rules(
        create=apps.validate_deployment,
        update=apps.validate_deployment_update,
        status=apps.validate_deployment_status,
    ),
    ("apps", "ReplicaSet"): Rules(
        create=apps.validate_replica_set,
        update=apps.validate_replica_set_update,
        status=apps.validate_replica_set_status,
        again=_WHOLE,
    ),
    ("", "ReplicationController"): Rules(
        create=apps.validate_replication_controller,
        update=apps.validate_replication_controller_update,
        status=apps.validate_replica_set_status,
        again=_WHOLE,
    ),
    ("apps", "StatefulSet"): Rules(
        create=statefulsets.validate_stateful_set,
        update=statefulsets.validate_stateful_set_update,
        status=statefulsets.validate_stateful_set_status,
        again=_WHOLE,
    ),
    ("apps", "DaemonSet"): Rules(
        create=daemonsets.validate_daemon_set,
        update=daemonsets.validate_daemon_set_update,
        status=daemonsets.validate_daemon_set_status,
        again=_WHOLE,
    ),
    ("batch", "Job"): Rules(
        create=jobs.validate_job,
        update=jobs.validate_job_update,
        status=jobs.validate_job_status,
        again=_WHOLE,
    ),
    ("", "Namespace"): Rules(
        names.dns_label,
        others.validate_namespace,
        others.validate_namespace_update,
        others.validate_namespace_status,
    ),
    ("", "Node"): Rules(create=others.validate_node, update=others.validate_node_update),
    ("", "ConfigMap"): Rules(
        create=others.validate_config_map, update=others.validate_config_map_update, again=_WHOLE
    ),
    ("", "Secret"): Rules(create=others.validate_secret, update=others.validate_secret_update, again=_WHOLE),
    ("", "ServiceAccount"): Rules(again=_WHOLE),
    ("", "Event"): Rules(
        name=names.path_segment, create=events.validate_event, update=events.validate_event_update
    ),
    ("events.k8s.io", "Event"): Rules(
        create=events.validate_new_event, update=events.validate_new_event_update
    ),
    ("", "ResourceQuota"): Rules(
        create=policies.validate_quota,
        update=policies.validate_quota_update,
        status=policies.validate_quota_status,
        again=_WHOLE,
    ),
    ("", "PodTemplate"): Rules(create=apps.validate_pod_template, update=apps.validate_pod_template_update),
    ("", "LimitRange"): Rules(
        create=policies.validate_limit_range, update=policies.validate_limit_range_update, again=_ONLY_WHOLE
    ),
    ("policy", "PodDisruptionBudget"): Rules(
        create=policies.validate_disruption_budget,
        update=policies.validate_disruption_budget_update,
        status=policies.validate_disruption_budget_status,
        again=Again(compared=0, finalizers=False),
    ),
    ("scheduling.k8s.io", "PriorityClass"): Rules(
        create=policies.validate_priority_class, update=policies.validate_priority_class_update
    ),
    ("node.k8s.io", "RuntimeClass"): Rules(
        create=policies.validate_runtime_class, update=policies.validate_runtime_class_update
    ),
    ("", "PersistentVolume"): Rules(
        create=storage.validate_volume, update=storage.validate_volume_update, again=_WHOLE
    ),
    ("", "PersistentVolumeClaim"): Rules(
        create=storage.validate_claim, update=storage.validate_claim_update, again=_WHOLE_TWICE
    ),
    ("storage.k8s.io", "StorageClass"): Rules(
        create=storage.validate_class, update=storage.validate_class_update
    ),
    ("apps", "ControllerRevision"): Rules(
        create=policies.validate_controller_revision, update=policies.validate_controller_revision_update
    ),
    ("networking.k8s.io", "Ingress"): Rules(
        create=ingresses.validate_ingress,
        update=ingresses.validate_ingress_update,
        status=ingresses.validate_ingress_status,
        again=_WHOLE,
    ),
    ("networking.k8s.io", "IngressClass"): Rules(
        create=ingresses.validate_ingress_class, update=ingresses.validate_ingress_class_update
    ),
    ("networking.k8s.io", "ServiceCIDR"): Rules(
        create=addressing.validate_service_cidr, update=addressing.validate_service_cidr_update
    ),
    ("networking.k8s.io", "IPAddress"): Rules(
        addressing.ip_address_name, addressing.validate_ip_address, addressing.validate_ip_address_update
    ),
    ("coordination.k8s.io", "Lease"): Rules(
        create=others.validate_lease, update=others.validate_lease_update, again=Again(finalizers=False)
    ),
    ("certificates.k8s.io", "CertificateSigningRequest"): Rules(
        names.path_segment,
        certificates.validate_request,
        certificates.validate_request_update,
        certificates.validate_request_status,
        {"approval": certificates.validate_request_approval},
    ),
    (GROUP, "Role"): Rules(
        names.path_segment, rbac.validate_role, rbac.validate_role_update, again=_WHOLE_TWICE
    ),
    (GROUP, "ClusterRole"): Rules(
        names.path_segment, rbac.validate_cluster_role, rbac.validate_cluster_role_update, again=_WHOLE_TWICE
    ),
    (GROUP, "RoleBinding"): Rules(
        names.path_segment, rbac.validate_role_binding, rbac.validate_role_binding_update, again=_WHOLE_TWICE
    ),
    (GROUP, "ClusterRoleBinding"): Rules(
        names.path_segment,
        rbac.validate_cluster_role_binding,
        rbac.validate_cluster_role_binding_update,
        again=_WHOLE_TWICE,
    ),
}


def _rules(resource: Resource) -> Rules:
    return _RULES.get((resource.group, resource.kind), _PLAIN)


def validate_create(resource: Resource, obj: JsonObject) -> list[FieldError]:
    """The faults of a new, defaulted object; metadata first."""
    rules = _rules(resource)
    errors = validate_meta(
        obj.get("metadata") or {},
        namespaced=resource.namespaced,
        name_rule=rules.name,
        finalizers=rules.again.finalizers,
    )
    errors += rules.create(obj)
    return errors


def validate_update(resource: Resource, new: JsonObject, old: JsonObject) -> list[FieldError]:
    """The faults of ``new`` as the successor of the stored object ``old``."""
    rules = _rules(resource)
    return [*_meta_update(resource, new, old, rules.again), *rules.update(new, old)]


def validate_status_update(resource: Resource, new: JsonObject, old: JsonObject) -> list[FieldError]:
    """The faults of a write to the status subresource."""
    return [*_meta_update(resource, new, old, _AS_MOST), *_rules(resource).status(new, old)]


def validate_way(resource: Resource, way: str, new: JsonObject, old: JsonObject) -> list[FieldError]:
    """The faults of a write to another subresource; those without rules here have checked their one field."""
    rule = _rules(resource).ways.get(way)
    return [] if rule is None else [*_meta_update(resource, new, old, _AS_MOST), *rule(new, old)]


def _meta_update(resource: Resource, new: JsonObject, old: JsonObject, again: Again) -> list[FieldError]:
    return validate_meta_update(
        new.get("metadata") or {},
        old.get("metadata") or {},
        namespaced=resource.namespaced,
        name_rule=_rules(resource).name,
        again=again,
    )
