"""Makes, mends and removes the surroundings of one pod: sandbox, address, host ports."""

from __future__ import annotations

import logging

from nodeport.api.meta import JsonObject
from nodeport.netlink.codec import NetlinkError
from nodeport.node import hostports, network, podfiles
from nodeport.node import sandbox as sandboxes
from nodeport.node.addresses import AddressesExhausted
from nodeport.node.hostports import HostPortTaken
from nodeport.node.pod_record import PodRecord
from nodeport.node.podfiles import HostnameTooLong
from nodeport.node.sandbox import HOST_PIDS, PRIVATE_PIDS, SHARED_PIDS, PodIdentity, Sandbox

_log = logging.getLogger(__name__)


class SandboxKeeper:
    """``record.sandbox`` is what there is."""

    def __init__(self, record: PodRecord) -> None:
        self._record = record

    def ensure(self) -> bool:
        """Whether containers can start: a missing sandbox is made, a damaged one mended."""
        record = self._record
        running = any(keeper.is_running for keeper in record.all_keepers())
        if record.sandbox is not None and (running or sandboxes.is_whole(record.sandbox)):
            return True
        try:
            if record.sandbox is None:
                record.sandbox = self._new(record.last_pod)
            else:
                sandboxes.ensure(record.sandbox, self._files(record.last_pod, record.sandbox))
                self._hold_host_ports(record.last_pod, record.sandbox)
        except (OSError, AddressesExhausted, NetlinkError, HostnameTooLong, HostPortTaken) as error:
            metadata = record.last_pod["metadata"]
            _log.warning("pod %s/%s: no sandbox: %s", metadata["namespace"], metadata["name"], error)
            record.warn("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return False
        return True

    def remove(self) -> None:
        record, node = self._record, self._record.node
        sandbox, record.sandbox = record.sandbox, None
        try:
            node.host_ports.release(record.uid)
        except (OSError, NetlinkError) as error:
            _log.warning("host ports of pod %s: %s", record.uid, error)
        if sandbox is not None:
            sandboxes.remove(sandbox)
            if not sandbox.host_network:
                node.addresses.release(record.uid)

    def _new(self, pod: JsonObject) -> Sandbox:
        metadata, spec, node, uid = pod["metadata"], pod["spec"], self._record.node, self._record.uid
        host_network = bool(spec.get("hostNetwork"))
        hostname = podfiles.hostname(pod, node.naming.name)
        identity = PodIdentity(uid, metadata["namespace"], metadata["name"], hostname)
        addresses = node.surroundings.addresses if host_network else node.addresses.take(uid)
        made = Sandbox(
            node.surroundings, identity, addresses, host_network, bool(spec.get("hostIPC")), _pids(spec)
        )
        try:
            sandboxes.ensure(made, self._files(pod, made))
            self._hold_host_ports(pod, made)
        except BaseException:
            sandboxes.remove(made)
            if not host_network:
                node.addresses.release(uid)
            raise
        return made

    def _hold_host_ports(self, pod: JsonObject, sandbox: Sandbox) -> None:
        node, wanted = self._record.node, hostports.wanted_by(pod, sandbox.addresses)
        node.host_ports.hold(self._record.uid, wanted)
        if wanted:
            network.let_loopback_in(node.surroundings.netns, sandbox.pod.pod_id)

    def _files(self, pod: JsonObject, sandbox: Sandbox) -> dict[str, str]:
        return podfiles.files(pod, list(map(str, sandbox.addresses)), self._record.node.naming)


def _pids(spec: JsonObject) -> str:
    if spec.get("hostPID"):
        return HOST_PIDS
    return SHARED_PIDS if spec.get("shareProcessNamespace") else PRIVATE_PIDS
