"""Kinds whose peculiarities fit into a few lines, and the list of all strategies."""

from __future__ import annotations

import base64

from nodeport.api.meta import JsonObject, name_or_base
from nodeport.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    INGRESSES,
    JOBS,
    LEASES,
    NAMESPACES,
    NEW_EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICE_CIDRS,
    SERVICES,
    STATEFUL_SETS,
)
from nodeport.api.status import Forbidden
from nodeport.apiserver.strategies.addressing import ServiceCidrStrategy
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore
from nodeport.apiserver.strategies.certificates import CertificateSigningRequestStrategy
from nodeport.apiserver.strategies.ingresses import IngressStrategy
from nodeport.apiserver.strategies.services import ServiceStrategy
from nodeport.apiserver.strategies.storage import PersistentVolumeClaimStrategy, PersistentVolumeStrategy
from nodeport.apiserver.strategies.workloads import (
    DaemonSetStrategy,
    JobStrategy,
    ReplicationControllerStrategy,
    StatefulSetStrategy,
)
from nodeport.store.base import Store

NAME_LABEL = "kubernetes.io/metadata.name"
NAMESPACE_FINALIZER = "kubernetes"
IMMORTAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


class NamespaceStrategy(Strategy):
    """A namespace outlives its deletion until ``spec.finalizers`` is empty: its contents go first."""

    def __init__(self) -> None:
        super().__init__(NAMESPACES)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        metadata = obj["metadata"]
        if metadata.get("name"):
            metadata["labels"] = {**(metadata.get("labels") or {}), NAME_LABEL: metadata["name"]}
        spec = obj.setdefault("spec", {})
        finalizers = [name for name in spec.get("finalizers") or [] if name != NAMESPACE_FINALIZER]
        spec["finalizers"] = [*finalizers, NAMESPACE_FINALIZER]

    def complete(self, obj: JsonObject) -> None:
        metadata = obj["metadata"]
        if metadata.get("name"):
            metadata["labels"] = {**(metadata.get("labels") or {}), NAME_LABEL: metadata["name"]}

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"phase": "Active"}

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_update(new, old, context)
        restore(new, old, "spec")
        metadata = new["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), NAME_LABEL: metadata["name"]}

    def check_delete(self, obj: JsonObject) -> None:
        name = obj["metadata"]["name"]
        if name in IMMORTAL_NAMESPACES:
            raise Forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted',
                details={"name": name, "kind": "namespaces"},
            )

    def mark_deleted(self, obj: JsonObject) -> None:
        obj.setdefault("status", {})["phase"] = "Terminating"

    def holds_back(self, obj: JsonObject) -> bool:
        return bool((obj.get("spec") or {}).get("finalizers"))


class NodeStrategy(Strategy):
    """A node may bring its status when it registers."""

    def __init__(self) -> None:
        super().__init__(NODES)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        obj.setdefault("status", {})


class DeploymentStrategy(Strategy):
    """Annotations are part of what a Deployment's generation counts; its status never changes labels."""

    status_resets = ("metadata.labels",)

    def __init__(self) -> None:
        super().__init__(DEPLOYMENTS)

    def generation_changes(self, new: JsonObject, old: JsonObject) -> bool:
        annotations = new["metadata"].get("annotations") or {}
        return annotations != (old["metadata"].get("annotations") or {}) or super().generation_changes(
            new, old
        )

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_status_update(new, old, context)
        restore(new["metadata"], old["metadata"], "labels")


class ReplicaSetStrategy(Strategy):
    def __init__(self) -> None:
        super().__init__(REPLICA_SETS)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"replicas": 0}


class EndpointSliceStrategy(Strategy):
    """Labels count: they say which Service a slice belongs to."""

    def __init__(self) -> None:
        super().__init__(ENDPOINT_SLICES)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        _drop_topology(obj)

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_update(new, old, context)
        _drop_topology(new)

    def generation_changes(self, new: JsonObject, old: JsonObject) -> bool:
        labels = new["metadata"].get("labels") or {}
        return labels != (old["metadata"].get("labels") or {}) or super().generation_changes(new, old)


def _drop_topology(endpoint_slice: JsonObject) -> None:
    """v1 has the field of its predecessor, but nobody can write it."""
    for endpoint in endpoint_slice.get("endpoints") or []:
        endpoint.pop("deprecatedTopology", None)


class SecretStrategy(Strategy):
    """``stringData`` is for writing only; it ends up, encoded, in ``data``."""

    def __init__(self) -> None:
        super().__init__(SECRETS)

    def complete(self, obj: JsonObject) -> None:
        _fold_string_data(obj)

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        if not new.get("type"):
            restore(new, old, "type")


def _fold_string_data(secret: JsonObject) -> None:
    text = secret.pop("stringData", None)
    if text:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


class ConditionalStrategy(Strategy):
    """Kinds that refuse an update without a resourceVersion."""

    unconditional_update = False


class EventStrategy(Strategy):
    """Too many, too short-lived and never anyone's owner."""

    is_collected = False


class LeaseStrategy(ConditionalStrategy):
    """Changes all the time and owns nothing."""

    is_collected = False


class CustomResourceDefinitionStrategy(Strategy):
    """None can be made: the kinds are those of the resource table."""

    def __init__(self) -> None:
        super().__init__(CUSTOM_RESOURCE_DEFINITIONS)

    async def admit(self, obj: JsonObject, store: Store) -> None:
        name = name_or_base(obj["metadata"])
        raise Forbidden(
            f'{self.resource.qualified_name} "{name}" is forbidden: this server serves no custom resources',
            details={"name": name, "group": self.resource.group, "kind": self.resource.plural},
        )


def all_strategies(services: ServiceStrategy, *others: Strategy) -> list[Strategy]:
    """One strategy for every row of the resource table; ``others`` need more than their row to be built."""
    special: dict[str, Strategy] = {
        NAMESPACES.qualified_name: NamespaceStrategy(),
        NODES.qualified_name: NodeStrategy(),
        SERVICES.qualified_name: services,
        SERVICE_CIDRS.qualified_name: ServiceCidrStrategy(),
        CUSTOM_RESOURCE_DEFINITIONS.qualified_name: CustomResourceDefinitionStrategy(),
        **{other.resource.qualified_name: other for other in others},
        DEPLOYMENTS.qualified_name: DeploymentStrategy(),
        REPLICA_SETS.qualified_name: ReplicaSetStrategy(),
        REPLICATION_CONTROLLERS.qualified_name: ReplicationControllerStrategy(),
        STATEFUL_SETS.qualified_name: StatefulSetStrategy(),
        DAEMON_SETS.qualified_name: DaemonSetStrategy(),
        JOBS.qualified_name: JobStrategy(),
        INGRESSES.qualified_name: IngressStrategy(),
        PERSISTENT_VOLUMES.qualified_name: PersistentVolumeStrategy(),
        PERSISTENT_VOLUME_CLAIMS.qualified_name: PersistentVolumeClaimStrategy(),
        ENDPOINT_SLICES.qualified_name: EndpointSliceStrategy(),
        SECRETS.qualified_name: SecretStrategy(),
        LEASES.qualified_name: LeaseStrategy(LEASES),
        EVENTS.qualified_name: EventStrategy(EVENTS),
        NEW_EVENTS.qualified_name: EventStrategy(NEW_EVENTS),
        CERTIFICATE_SIGNING_REQUESTS.qualified_name: CertificateSigningRequestStrategy(),
        SERVICE_ACCOUNTS.qualified_name: ConditionalStrategy(SERVICE_ACCOUNTS),
    }
    return [special.get(row.qualified_name) or Strategy(row) for row in RESOURCES]
