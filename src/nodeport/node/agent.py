"""One node: registers it, keeps its lease and status, and gives each of its pods a worker.

Builds its own object graph; what several nodes of a local cluster share (client, informers) is given.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from ipaddress import ip_address

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import LEASES, NODES
from nodeport.api.status import AlreadyExists, ApiError, NotFound
from nodeport.client.events import EventRecorder
from nodeport.client.informer import Change, Informer
from nodeport.client.rest import STRATEGIC_MERGE_PATCH, RestClient, TransportError
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock, rfc3339_micro
from nodeport.netlink.codec import NetlinkError
from nodeport.node import hostports, naming, node_status
from nodeport.node import sandbox as sandboxes
from nodeport.node.addresses import PodAddresses
from nodeport.node.hostports import HostPorts
from nodeport.node.images.base import ImageStore
from nodeport.node.node_status import NodeFacts
from nodeport.node.oci.machine import this_machine
from nodeport.node.pod_record import NodeContext, PodRecord, Pressure
from nodeport.node.podnetwork.follow import PodNetwork
from nodeport.node.podnetwork.kernel import Setup
from nodeport.node.podnetwork.plan import Way
from nodeport.node.predicates import Tenants
from nodeport.node.resizing import Allocations
from nodeport.node.runtime import Runtime
from nodeport.node.sandbox import NodeSurroundings, Sandbox
from nodeport.node.server import NodePods, NodeServer
from nodeport.node.settings import Settings
from nodeport.node.storagewatch import CALM, NodeDisk, StorageWatch
from nodeport.node.worker import PodWorker

LEASE_NAMESPACE = "kube-node-lease"
RENEW_EVERY = timedelta(seconds=10)
RENEWALS_PER_LEASE = 4
REPORT_EVERY = timedelta(minutes=5)
WORKER_RETRY = timedelta(seconds=5)
PLAIN_ROUTES = Way()
FIRST_TRY, LAST_TRY = timedelta(milliseconds=10), timedelta(milliseconds=500)
_log = logging.getLogger(__name__)


class NodeAgent:
    """``run`` until cancelled; pods go on running without it and are taken over by the next one.

    ``pods`` and ``nodes`` may be shared; they are run by their owner. ``tls`` None: no server. ``renew_every``: how
    often it says that it is there. ``way``: how its pods reach those of other nodes.
    """

    def __init__(
        self, *, facts: NodeFacts, surroundings: NodeSurroundings, client: RestClient, pods: Informer,
        nodes: Informer, services: Informer, runtime: Runtime, images: ImageStore, clock: Clock,
        tls: ssl.SSLContext | None = None, cluster_dns: tuple[str, ...] = (),
        renew_every: timedelta = RENEW_EVERY, way: Way = PLAIN_ROUTES, disk: NodeDisk | None = None,
    ) -> None:  # fmt: skip
        if not facts.pod_cidrs:
            raise ValueError(f"node {facts.name} needs a pod CIDR")
        self._facts, self._surroundings, self._client = facts, surroundings, client
        self._pods, self._nodes, self._clock, self._tls = pods, nodes, clock, tls
        self._renew_every = renew_every
        self._recorder = EventRecorder(client, "kubelet", facts.name, clock=clock)
        self._context = NodeContext(
            surroundings=surroundings, client=client, runtime=runtime, images=images, machine=this_machine(),
            settings=Settings(client, clock), services=services, capacity=node_status.amounts(facts),
            naming=naming.of_machine(facts.name, cluster_dns), host_ports=HostPorts(surroundings.netns),
            addresses=PodAddresses(facts.pod_cidrs), recorder=self._recorder, clock=clock, pressure=Pressure(CALM),
            allocations=Allocations(node_status.amounts(facts)), tenants=Tenants(node_status.amounts(facts)),
            own_node=lambda: nodes.get(NamespacedName("", facts.name)),
        )  # fmt: skip
        setup = Setup(surroundings.netns, facts.addresses[0], facts.pod_cidrs, way)
        self._network = PodNetwork(facts.name, setup, nodes, self._recorder, clock)
        folder = surroundings.log_directory.parent
        self._storage = StorageWatch(
            disk or NodeDisk(folder, folder), self._context.pressure, self._records, clock
        )
        self._workers: dict[str, PodWorker] = {}
        self._finished: set[str] = set()
        self._registered = asyncio.Event()
        self._status: JsonObject = {}
        self._stopping = False

    async def wait_until_registered(self) -> None:
        await self._registered.wait()

    async def run(self) -> None:
        self._stopping = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._recorder.run())
                group.create_task(self._keep_registered())
                group.create_task(self._keep_lease())
                group.create_task(self._network.run())
                group.create_task(self._keep_pods(group))
                group.create_task(self._storage.run())
                if self._tls is not None:
                    pods = NodePods(self._record_of, self._uid_of, self._own_pods)
                    server = NodeServer(
                        self._surroundings,
                        self._context.runtime,
                        self._facts.log_port,
                        self._tls,
                        pods,
                        self._clock,
                    )
                    group.create_task(server.run())
        finally:
            self._stopping = True

    # --- the Node object

    async def _keep_registered(self) -> None:
        await self._until_done(self._register)
        self._registered.set()
        reported = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._renew_every.total_seconds())
            status = self._new_status(self._status)
            overdue = self._clock.monotonic() - reported >= REPORT_EVERY.total_seconds()
            known = self._nodes.get(NamespacedName("", self._facts.name))
            same = not overdue and node_status.conditions_of(status) == node_status.conditions_of(
                self._status
            )
            if known is not None and same and _is_ready(known):
                continue
            try:
                await self._report(status)
                reported = self._clock.monotonic()
            except NotFound:
                await self._until_done(self._register)
            except (ApiError, TransportError) as error:
                _log.warning("status of node %s: %s", self._facts.name, error)

    async def _register(self) -> None:
        """Create the Node, or bring the one that is there up to date."""
        wanted = node_status.node_object(self._facts, self._clock.now(), self._context.images.held())
        try:
            made = await self._client.create(NODES, wanted)
        except AlreadyExists:
            made = await self._client.get(NODES, self._facts.name)
            patch: JsonObject = {"metadata": {"labels": wanted["metadata"]["labels"]}}
            if not made.get("spec", {}).get("podCIDRs"):
                patch["spec"] = wanted["spec"]
            await self._client.patch(NODES, self._facts.name, patch, content_type=STRATEGIC_MERGE_PATCH)
            status = self._new_status(made.get("status") or {})
            await self._report(status)
        else:
            self._status = wanted["status"]
        _log.info("node %s is registered", self._facts.name)

    def _new_status(self, before: JsonObject) -> JsonObject:
        return node_status.node_status(
            self._facts, before, self._clock.now(), self._context.images.held(),
            disk_pressure=self._context.pressure.holds,
        )  # fmt: skip

    async def _report(self, status: JsonObject) -> None:
        await self._client.patch(
            NODES,
            self._facts.name,
            {"status": node_status.patch_of(status)},
            content_type=STRATEGIC_MERGE_PATCH,
            subresource="status",
        )
        self._status = status

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Tries until the API has taken it; often at first, since server and nodes start together."""
        retry = Backoff(FIRST_TRY, LAST_TRY, factor=1.3)
        while True:
            try:
                await step()
                return
            except (ApiError, TransportError) as error:
                delay = retry.next()
                if delay == LAST_TRY:
                    _log.warning("node %s: %s", self._facts.name, error)
                await self._clock.sleep(delay.total_seconds())

    # --- the Lease

    async def _keep_lease(self) -> None:
        await self._registered.wait()
        while True:
            try:
                await self._renew()
            except (ApiError, TransportError) as error:
                _log.warning("lease of node %s: %s", self._facts.name, error)
                await self._clock.sleep(min(1.0, self._renew_every.total_seconds()))
                continue
            await self._clock.sleep(self._renew_every.total_seconds())

    async def _renew(self) -> None:
        name = self._facts.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": math.ceil((self._renew_every * RENEWALS_PER_LEASE).total_seconds()),
            "renewTime": rfc3339_micro(self._clock.now()),
        }
        try:
            await self._client.patch(LEASES, name, {"spec": spec}, LEASE_NAMESPACE)
        except NotFound:
            owner = self._nodes.get(NamespacedName("", name)) or await self._client.get(NODES, name)
            reference = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner["metadata"]["uid"]}
            metadata = {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [reference]}
            await self._client.create(LEASES, {"metadata": metadata, "spec": spec})

    # --- pods

    async def _keep_pods(self, group: asyncio.TaskGroup) -> None:
        await self._pods.wait_until_synced()
        await self._context.services.wait_until_synced()
        for sandbox in sandboxes.found(self._surroundings):
            if not sandbox.host_network and not self._context.addresses.adopt(
                sandbox.addresses, sandbox.pod.uid
            ):
                taken = ", ".join(map(str, sandbox.addresses))
                _log.warning("two pods have address %s; %s is ended", taken, sandbox.pod.name)
                sandboxes.remove(sandbox)
                continue
            pod = self._pods.get(NamespacedName(sandbox.pod.namespace, sandbox.pod.name))
            if pod is not None and pod["metadata"]["uid"] != sandbox.pod.uid:
                pod = None
            if pod is not None:
                wanted = hostports.wanted_by(pod, sandbox.addresses)
                self._context.host_ports.note(sandbox.pod.uid, wanted)
            self._begin(group, sandbox.pod.uid, pod, sandbox)
        self._apply_host_ports()
        self._keep_known_addresses()
        uids = {pod["metadata"]["uid"] for pod in self._pods.list()} | set(self._workers)
        sandboxes.remove_strange_logs(self._surroundings, uids)
        sandboxes.remove_strange_storage(self._surroundings)
        self._pods.subscribe(lambda change: self._pod_changed(group, change))

    def _apply_host_ports(self) -> None:
        try:
            self._context.host_ports.apply()
        except (OSError, NetlinkError) as error:
            _log.warning("host ports of node %s: %s", self._facts.name, error)

    def _keep_known_addresses(self) -> None:
        """After a reboot each pod gets back the address that slices still name: no other pod may answer there."""
        for pod in self._pods.list():
            known = (pod.get("status") or {}).get("podIPs") or ()
            mine = pod["spec"].get("nodeName") == self._facts.name and not pod["spec"].get("hostNetwork")
            if known and mine and not _is_over(pod):
                addresses = [ip_address(each["ip"]) for each in known]
                self._context.addresses.adopt(addresses, pod["metadata"]["uid"])

    def _pod_changed(self, group: asyncio.TaskGroup, change: Change) -> None:
        if change.object["spec"].get("nodeName") != self._facts.name or self._stopping:
            return
        uid = change.object["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(change.new)
        elif change.new is None:
            self._finished.discard(uid)
        elif uid not in self._finished and not _is_over(change.new):
            self._begin(group, uid, change.new, None)

    def _begin(
        self, group: asyncio.TaskGroup, uid: str, pod: JsonObject | None, sandbox: Sandbox | None
    ) -> None:
        self._workers[uid] = worker = PodWorker(self._context, uid, pod, sandbox)
        group.create_task(self._run_worker(uid, worker))

    async def _run_worker(self, uid: str, worker: PodWorker) -> None:
        """One bad pod must not end the node: its worker starts over from what is on disk."""
        while True:
            try:
                await worker.run()
            except Exception:
                _log.exception("the worker of pod %s failed", uid)
            else:
                break
            await self._clock.sleep(WORKER_RETRY.total_seconds())
            left = {box.pod.uid: box for box in sandboxes.found(self._surroundings)}
            self._workers[uid] = worker = PodWorker(self._context, uid, worker.pod, left.get(uid))
        del self._workers[uid]
        self._context.addresses.release(uid)
        if worker.pod is not None:  # deleted by us; the informer has yet to say so
            self._finished.add(uid)

    def _uid_of(self, name: NamespacedName) -> str:
        pod = self._pods.get(name)
        if pod is None or pod["spec"].get("nodeName") != self._facts.name:
            return ""
        return str(pod["metadata"]["uid"])

    def _record_of(self, name: NamespacedName) -> PodRecord | None:
        worker = self._workers.get(self._uid_of(name))
        return worker.record if worker is not None else None

    def _records(self) -> list[PodRecord]:
        return [worker.record for worker in self._workers.values()]

    def _own_pods(self) -> list[JsonObject]:
        return [pod for pod in self._pods.list() if pod["spec"].get("nodeName") == self._facts.name]


def _is_ready(node: JsonObject) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _is_over(pod: JsonObject) -> bool:
    """A finished pod without a sandbox needs nothing more, unless somebody deletes it."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")
