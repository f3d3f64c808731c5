"""Which printer shows which resource."""

from __future__ import annotations

from nodeport.api import resources as rows
from nodeport.api.resources import Resource
from nodeport.apiserver.tables import access, network, nodes, pods, policies, small, storage, workloads
from nodeport.apiserver.tables.columns import AGE, NAME, Printer, age, name_of

_GENERIC = Printer((NAME, AGE), lambda obj, now: [name_of(obj), age(obj, now)])

_PRINTERS = {
    rows.NAMESPACES.qualified_name: small.NAMESPACE,
    rows.NODES.qualified_name: nodes.NODE,
    rows.PODS.qualified_name: pods.POD,
    rows.SERVICES.qualified_name: network.SERVICE,
    rows.ENDPOINTS.qualified_name: network.ENDPOINTS_PRINTER,
    rows.EVENTS.qualified_name: small.EVENT,
    rows.CONFIG_MAPS.qualified_name: small.CONFIG_MAP,
    rows.SECRETS.qualified_name: small.SECRET,
    rows.SERVICE_ACCOUNTS.qualified_name: small.SERVICE_ACCOUNT,
    rows.ENDPOINT_SLICES.qualified_name: network.ENDPOINT_SLICE,
    rows.REPLICATION_CONTROLLERS.qualified_name: workloads.REPLICATION_CONTROLLER,
    rows.DEPLOYMENTS.qualified_name: workloads.DEPLOYMENT,
    rows.REPLICA_SETS.qualified_name: workloads.REPLICA_SET,
    rows.STATEFUL_SETS.qualified_name: workloads.STATEFUL_SET,
    rows.DAEMON_SETS.qualified_name: workloads.DAEMON_SET,
    rows.JOBS.qualified_name: workloads.JOB,
    rows.LEASES.qualified_name: small.LEASE,
    rows.SCALES.qualified_name: small.SCALE,
    rows.INGRESSES.qualified_name: network.INGRESS,
    rows.INGRESS_CLASSES.qualified_name: network.INGRESS_CLASS,
    rows.SERVICE_CIDRS.qualified_name: network.SERVICE_CIDR,
    rows.IP_ADDRESSES.qualified_name: network.IP_ADDRESS,
    rows.ROLES.qualified_name: access.ROLE,
    rows.ROLE_BINDINGS.qualified_name: access.ROLE_BINDING,
    rows.CLUSTER_ROLES.qualified_name: access.ROLE,
    rows.CLUSTER_ROLE_BINDINGS.qualified_name: access.ROLE_BINDING,
    rows.NEW_EVENTS.qualified_name: small.NEW_EVENT,
    rows.CERTIFICATE_SIGNING_REQUESTS.qualified_name: access.CERTIFICATE_SIGNING_REQUEST,
    rows.CONTROLLER_REVISIONS.qualified_name: policies.CONTROLLER_REVISION,
    rows.RESOURCE_QUOTAS.qualified_name: policies.QUOTA,
    rows.POD_TEMPLATES.qualified_name: workloads.POD_TEMPLATE,
    rows.LIMIT_RANGES.qualified_name: policies.LIMIT_RANGE,
    rows.POD_DISRUPTION_BUDGETS.qualified_name: policies.DISRUPTION_BUDGET,
    rows.PRIORITY_CLASSES.qualified_name: policies.PRIORITY_CLASS,
    rows.RUNTIME_CLASSES.qualified_name: policies.RUNTIME_CLASS,
    rows.PERSISTENT_VOLUMES.qualified_name: storage.VOLUME,
    rows.PERSISTENT_VOLUME_CLAIMS.qualified_name: storage.CLAIM,
    rows.STORAGE_CLASSES.qualified_name: storage.CLASS,
    rows.CUSTOM_RESOURCE_DEFINITIONS.qualified_name: small.CUSTOM_RESOURCE_DEFINITION,
}


def printer_of(resource: Resource) -> Printer:
    """Kinds without columns of their own show name and age."""
    return _PRINTERS.get(resource.qualified_name, _GENERIC)
