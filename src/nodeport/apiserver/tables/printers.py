"""Which printer shows which resource."""

from __future__ import annotations

from nodeport.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from nodeport.apiserver.tables.columns import AGE, NAME, Printer, age, name_of
from nodeport.apiserver.tables.network import ENDPOINT_SLICE, ENDPOINTS_PRINTER, SERVICE
from nodeport.apiserver.tables.nodes import NODE
from nodeport.apiserver.tables.pods import POD
from nodeport.apiserver.tables.small import CONFIG_MAP, EVENT, LEASE, NAMESPACE, SECRET, SERVICE_ACCOUNT
from nodeport.apiserver.tables.workloads import DEPLOYMENT, REPLICA_SET

_GENERIC = Printer((NAME, AGE), lambda obj, now: [name_of(obj), age(obj, now)])

_PRINTERS = {
    NAMESPACES.qualified_name: NAMESPACE,
    NODES.qualified_name: NODE,
    PODS.qualified_name: POD,
    SERVICES.qualified_name: SERVICE,
    ENDPOINTS.qualified_name: ENDPOINTS_PRINTER,
    EVENTS.qualified_name: EVENT,
    CONFIG_MAPS.qualified_name: CONFIG_MAP,
    SECRETS.qualified_name: SECRET,
    SERVICE_ACCOUNTS.qualified_name: SERVICE_ACCOUNT,
    ENDPOINT_SLICES.qualified_name: ENDPOINT_SLICE,
    DEPLOYMENTS.qualified_name: DEPLOYMENT,
    REPLICA_SETS.qualified_name: REPLICA_SET,
    LEASES.qualified_name: LEASE,
}


def printer_of(resource: Resource) -> Printer:
    """Kinds without columns of their own show name and age."""
    return _PRINTERS.get(resource.qualified_name, _GENERIC)
