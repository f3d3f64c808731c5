"""Builds every controller over one set of informers and runs them together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from nodeport.api.podcidrs import IPNetwork
from nodeport.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    IP_ADDRESSES,
    JOBS,
    LEASES,
    NAMESPACES,
    NEW_EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCES,
    SERVICE_ACCOUNTS,
    SERVICE_CIDRS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers import metrics
from nodeport.controllers.certificates.controller import CertificateController
from nodeport.controllers.certificates.signing import Authority
from nodeport.controllers.clusterdns.controller import ClusterDnsController
from nodeport.controllers.daemonset.controller import DaemonSetController
from nodeport.controllers.deployment.controller import DeploymentController
from nodeport.controllers.disruption.controller import DisruptionController, DisruptionInformers
from nodeport.controllers.endpoints.controller import EndpointsController
from nodeport.controllers.endpointslice.controller import (
    BY_SERVICE,
    EndpointInformers,
    EndpointSliceController,
    index_managed_slices,
)
from nodeport.controllers.endpointslice.reconcile import DEFAULT_MAX_ENDPOINTS
from nodeport.controllers.endpointslicemirroring.controller import (
    BY_ENDPOINTS,
    EndpointSliceMirroringController,
    MirroringInformers,
    index_mirrored_slices,
)
from nodeport.controllers.garbagecollector.controller import GarbageCollector
from nodeport.controllers.job.controller import JobController
from nodeport.controllers.namespace.controller import NamespaceController
from nodeport.controllers.nodeipam.controller import NodeIpamController
from nodeport.controllers.nodelifecycle.controller import LEASE_NAMESPACE, NodeLifecycleController
from nodeport.controllers.ownership import (
    BY_CONTROLLER,
    ORPHANS,
    index_by_controller,
    index_orphans,
)
from nodeport.controllers.podgc.controller import (
    QUARANTINE,
    PodGarbageCollector,
)
from nodeport.controllers.replicaset.controller import ReplicaSetController
from nodeport.controllers.scheduler.controller import Scheduler, SchedulerInformers
from nodeport.controllers.selection import index_pods, index_services
from nodeport.controllers.serviceaccount.controller import ServiceAccountController
from nodeport.controllers.servicecidr.controller import NOT_MANAGED, ServiceCidrController
from nodeport.controllers.statefulset.controller import StatefulSetController
from nodeport.kit.clock import Clock, SystemClock

_NOT_FOLLOWED = (EVENTS, NEW_EVENTS, LEASES)
"""Events own nothing; of the leases, which change all the time, only those of nodes matter here."""
_FOLLOWED_ONLY = {IP_ADDRESSES: NOT_MANAGED}
"""The addresses of Services, one for each, own nothing and go with their Services: of IPAddresses only those of others
may have owners that a garbage collector must look after."""


class Controller(Protocol):
    async def run(self) -> None: ...


class ControllerManager:
    """``ca_pem`` is what pods verify the API server with, and with ``ca_key_pem`` what signs certificates (None: not
    here); ``node_monitor_grace`` how long a node may be silent; ``cluster_cidrs`` out of which networks nodes that come
    without pod networks get some, one of each family (none: somebody else gives them).
    """

    def __init__(
        self,
        client: RestClient,
        clock: Clock | None = None,
        *,
        ca_pem: bytes,
        ca_key_pem: bytes | None = None,
        node_monitor_grace: timedelta = timedelta(seconds=50),
        pod_quarantine: timedelta = QUARANTINE,
        max_endpoints_per_slice: int = DEFAULT_MAX_ENDPOINTS,
        endpoint_updates_batch_period: timedelta = timedelta(),
        cluster_cidrs: Sequence[IPNetwork] = (),
    ) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self.informers = {
            row: Informer(client, row, label_selector=_FOLLOWED_ONLY.get(row, ""), clock=self._clock)
            for row in RESOURCES
            if row.is_kept and not row.stored_as and row not in _NOT_FOLLOWED
        }
        self._leases = Informer(client, LEASES, namespace=LEASE_NAMESPACE, clock=self._clock)
        self._recorders: list[EventRecorder] = []
        self._add_indexes()
        self.controllers: dict[str, Controller] = {
            **self._service_controllers(max_endpoints_per_slice, endpoint_updates_batch_period),
            **self._workload_controllers(),
            **self._cluster_controllers(ca_pem, node_monitor_grace, pod_quarantine),
            "certificates": self._certificate_controller(
                Authority(ca_pem, ca_key_pem) if ca_key_pem else None
            ),
        }
        if cluster_cidrs:
            self.controllers["nodeipam"] = self._node_ipam_controller(cluster_cidrs)

    async def run(self) -> None:
        """Until cancelled; may be run again."""
        async with asyncio.TaskGroup() as group:
            for informer in (*self.informers.values(), self._leases):
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
            for recorder in self._recorders:
                group.create_task(recorder.run(), name="event-recorder")
            for name, controller in self.controllers.items():
                group.create_task(controller.run(), name=name)

    def metrics(self) -> Iterable[str]:
        """Lines for whoever serves them."""
        return metrics.lines(metrics.loops_of(self.controllers.values()))

    async def wait_until_synced(self) -> None:
        for informer in (*self.informers.values(), self._leases):
            await informer.wait_until_synced()

    def _informer(self, resource: Resource) -> Informer:
        return self.informers[resource]

    def _recorder(self, component: str) -> EventRecorder:
        made = EventRecorder(self._client, component, clock=self._clock)
        self._recorders.append(made)
        return made

    def _add_indexes(self) -> None:
        pods = self._informer(PODS)
        index_pods(pods)
        for informer in (pods, self._informer(REPLICA_SETS), self._informer(CONTROLLER_REVISIONS)):
            informer.add_index(BY_CONTROLLER, index_by_controller)
            informer.add_index(ORPHANS, index_orphans)
        index_services(self._informer(SERVICES))
        slices = self._informer(ENDPOINT_SLICES)
        slices.add_index(BY_SERVICE, index_managed_slices)
        slices.add_index(BY_ENDPOINTS, index_mirrored_slices)

    def _service_controllers(self, max_endpoints: int, batch_period: timedelta) -> dict[str, Controller]:
        services, pods = self._informer(SERVICES), self._informer(PODS)
        slices, endpoints = self._informer(ENDPOINT_SLICES), self._informer(ENDPOINTS)
        shared = EndpointInformers(services, pods, slices, self._informer(NODES))
        return {
            "endpointslice": EndpointSliceController(
                self._client, shared, clock=self._clock, max_endpoints=max_endpoints,
                batch_period=batch_period, recorder=self._recorder("endpoint-slice-controller"),
            ),
            "endpoints": EndpointsController(
                self._client, services=services, pods=pods, endpoints=endpoints, clock=self._clock,
                batch_period=batch_period, recorder=self._recorder("endpoint-controller"),
            ),
            "endpointslicemirroring": EndpointSliceMirroringController(
                self._client, MirroringInformers(endpoints, services, slices), clock=self._clock,
                batch_period=batch_period, recorder=self._recorder("endpoint-slice-mirroring-controller"),
            ),
        }  # fmt: skip

    def _workload_controllers(self) -> dict[str, Controller]:
        pods, replica_sets = self._informer(PODS), self._informer(REPLICA_SETS)
        return {
            "deployment": DeploymentController(
                self._client, deployments=self._informer(DEPLOYMENTS), replica_sets=replica_sets, pods=pods,
                clock=self._clock, recorder=self._recorder("deployment-controller"),
            ),
            "replicaset": ReplicaSetController(
                self._client, owners=replica_sets, pods=pods, clock=self._clock,
                recorder=self._recorder("replicaset-controller"),
            ),
            "replicationcontroller": ReplicaSetController(
                self._client, owners=self._informer(REPLICATION_CONTROLLERS), pods=pods, clock=self._clock,
                recorder=self._recorder("replication-controller"),
            ),
            "statefulset": StatefulSetController(
                self._client, stateful_sets=self._informer(STATEFUL_SETS), pods=pods,
                revisions=self._informer(CONTROLLER_REVISIONS), clock=self._clock,
                recorder=self._recorder("statefulset-controller"),
            ),
            "daemonset": DaemonSetController(
                self._client, daemon_sets=self._informer(DAEMON_SETS), pods=pods, nodes=self._informer(NODES),
                revisions=self._informer(CONTROLLER_REVISIONS), clock=self._clock,
                recorder=self._recorder("daemonset-controller"),
            ),
            "job": JobController(
                self._client, jobs=self._informer(JOBS), pods=pods, clock=self._clock,
                recorder=self._recorder("job-controller"),
            ),
            "scheduler": Scheduler(
                self._client,
                SchedulerInformers(
                    pods, self._informer(NODES), self._informer(SERVICES), self._informer(NAMESPACES),
                    self._informer(POD_DISRUPTION_BUDGETS), self._informer(PERSISTENT_VOLUME_CLAIMS),
                ),
                clock=self._clock, recorder=self._recorder("default-scheduler"),
            ),
        }  # fmt: skip

    def _node_ipam_controller(self, cluster_cidrs: Sequence[IPNetwork]) -> NodeIpamController:
        return NodeIpamController(
            self._client, nodes=self._informer(NODES), cluster_cidrs=cluster_cidrs, clock=self._clock,
            recorder=self._recorder("cidrAllocator"),
        )  # fmt: skip

    def _disruption_controller(self) -> DisruptionController:
        scaled = (DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS)
        owners = {row.kind: self._informer(row) for row in scaled}
        informers = DisruptionInformers(self._informer(POD_DISRUPTION_BUDGETS), self._informer(PODS), owners)
        return DisruptionController(self._client, informers, clock=self._clock)

    def _certificate_controller(self, authority: Authority | None) -> CertificateController:
        requests = self._informer(CERTIFICATE_SIGNING_REQUESTS)
        return CertificateController(self._client, requests=requests, authority=authority, clock=self._clock)

    def _cluster_controllers(
        self, ca_pem: bytes, grace: timedelta, quarantine: timedelta
    ) -> dict[str, Controller]:
        pods, nodes, namespaces = self._informer(PODS), self._informer(NODES), self._informer(NAMESPACES)
        return {
            "garbagecollector": GarbageCollector(
                self._client, {**self.informers, LEASES: self._leases}, clock=self._clock,
                recorder=self._recorder("garbage-collector-controller"),
            ),
            "namespace": NamespaceController(
                self._client, namespaces=namespaces, pods=pods, clock=self._clock
            ),
            "service-cidr": ServiceCidrController(
                self._client, service_cidrs=self._informer(SERVICE_CIDRS), clock=self._clock
            ),
            "serviceaccount": ServiceAccountController(
                self._client, namespaces=namespaces, service_accounts=self._informer(SERVICE_ACCOUNTS),
                config_maps=self._informer(CONFIG_MAPS), ca_pem=ca_pem, clock=self._clock,
            ),
            "nodelifecycle": NodeLifecycleController(
                self._client, nodes=nodes, leases=self._leases, pods=pods, clock=self._clock, grace=grace,
                recorder=self._recorder("node-controller"),
            ),
            "disruption": self._disruption_controller(),
            "cluster-dns": ClusterDnsController(
                self._client, services=self._informer(SERVICES), slices=self._informer(ENDPOINT_SLICES),
                nodes=nodes, clock=self._clock,
            ),
            "podgc": PodGarbageCollector(
                self._client, pods=pods, nodes=nodes, clock=self._clock, quarantine=quarantine
            ),
        }  # fmt: skip
