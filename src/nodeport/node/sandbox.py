"""A pod's surroundings: its namespaces, its address, and the files that all of its containers see.

A sandbox is a directory below the node's run directory, named by the pod's uid, so that an agent that comes back finds
it: ``sandbox.json`` (who, which address), ``ns/`` (UTS and IPC namespaces), ``hosts``, ``hostname``, ``resolv.conf``,
``volumes/``, ``containers/NAME/ATTEMPT/``.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from nodeport.node import namespaces, network, sharedpids
from nodeport.node.addresses import IPAddress

REMOVAL_TRIES = 5
_log = logging.getLogger(__name__)
PRIVATE_PIDS, SHARED_PIDS, HOST_PIDS = "container", "pod", "host"
MOUNTS = ("ns/*", "volumes/*", "subpaths/*/*")
"""What may be mounted below a sandbox's directory."""
RUNTIME_KINDS = {"net": "network", "uts": "uts", "ipc": "ipc"}


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """``hostname``: what the pod calls itself; the pod's name unless its spec says otherwise."""

    uid: str
    namespace: str
    name: str
    hostname: str

    @property
    def pod_id(self) -> str:
        """Twelve hexadecimal digits that name the pod's namespaces and link."""
        return network.digest(self.uid, 12)


@dataclass(frozen=True, slots=True)
class NodeSurroundings:
    """Where a node's pods live. ``netns`` None: the node is this machine itself. ``addresses``: the node's, one of each
    IP family that its pods have, the primary one first. ``mtu``: of its pods' links."""

    cluster: str
    name: str
    netns: Path | None
    addresses: tuple[IPAddress, ...]
    run_directory: Path
    log_directory: Path
    mtu: int = network.MTU

    @property
    def address(self) -> IPAddress:
        return self.addresses[0]

    @property
    def storage_directory(self) -> Path:
        return self.log_directory.parent / "pods"

    @property
    def pods_directory(self) -> Path:
        return self.run_directory / "pods"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's surroundings as they are. ``addresses``: the primary one first; on the host's network the node's.
    ``pids``: what processes its containers see."""

    node: NodeSurroundings
    pod: PodIdentity
    addresses: tuple[IPAddress, ...]
    host_network: bool = False
    host_ipc: bool = False
    pids: str = PRIVATE_PIDS

    @property
    def address(self) -> IPAddress:
        return self.addresses[0]

    @property
    def directory(self) -> Path:
        return self.node.pods_directory / self.pod.uid

    @property
    def log_directory(self) -> Path:
        return log_directory(self.node, self.pod.namespace, self.pod.name, self.pod.uid)

    @property
    def netns(self) -> Path:
        return network.pod_netns(self.node.cluster, self.pod.pod_id)

    @property
    def namespace_files(self) -> dict[str, Path]:
        kinds = ("uts",) if self.host_ipc else ("uts", "ipc")
        own = {kind: self.directory / "ns" / kind for kind in kinds}
        return own if self.host_network else {"net": self.netns, **own}

    @property
    def storage_directory(self) -> Path:
        """What the pod's containers write: their own layers and the volumes that are no memory."""
        return self.node.storage_directory / self.pod.uid

    def runtime_namespaces(self) -> dict[str, str]:
        """What a container is started in, in the runtime's words; a pod on the host's network uses the node's."""
        pids = {PRIVATE_PIDS: {"pid": ""}, HOST_PIDS: {}}
        shared = {"pid": str(sharedpids.namespace_file(self.directory))}
        found = pids.get(self.pids, shared) | {
            RUNTIME_KINDS[kind]: str(path) for kind, path in self.namespace_files.items()
        }
        if self.host_network and self.node.netns:
            found["network"] = str(self.node.netns)
        return found


def ensure(sandbox: Sandbox, files: Mapping[str, str]) -> None:
    """Make or mend the pod's surroundings. ``files``: texts by their names under /etc. Raises OSError."""
    directory = sandbox.directory
    (directory / "ns").mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "containers").mkdir(mode=0o700, exist_ok=True)
    sandbox.log_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    missing = {kind: path for kind, path in sandbox.namespace_files.items() if not namespaces.exists(path)}
    if missing:
        hostname = sandbox.pod.hostname if "uts" in missing else None
        versions = [address.version for address in sandbox.addresses]
        network.create_pod_namespaces(missing, hostname, versions)
    if not sandbox.host_network:
        node = sandbox.node
        pod_id = sandbox.pod.pod_id
        network.ensure_pod(node.netns, sandbox.netns, pod_id, sandbox.addresses, node.addresses, mtu=node.mtu)
    if sandbox.pids == SHARED_PIDS:
        sharedpids.ensure(directory, sandbox.node.cluster)
    for name, text in files.items():
        _write_file(directory / name, text)
    _write_record(sandbox)


def is_whole(sandbox: Sandbox) -> bool:
    """Whether all namespaces are where they were made."""
    shared = sandbox.pids != SHARED_PIDS or sharedpids.is_there(sandbox.directory)
    return shared and all(namespaces.exists(path) for path in sandbox.namespace_files.values())


def _write_file(path: Path, text: str) -> None:
    """In place: running containers have this very file mounted."""
    path.touch(mode=0o644)
    path.write_text(text)
    path.chmod(0o644)


def _write_record(sandbox: Sandbox) -> None:
    pod = sandbox.pod
    record = {
        "uid": pod.uid, "namespace": pod.namespace, "name": pod.name, "hostname": pod.hostname,
        "addresses": list(map(str, sandbox.addresses)), "hostNetwork": sandbox.host_network,
        "hostIPC": sandbox.host_ipc, "pids": sandbox.pids,
    }  # fmt: skip
    path = sandbox.directory / "sandbox.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record))
    fresh.chmod(0o600)
    fresh.rename(path)


def found(node: NodeSurroundings) -> list[Sandbox]:
    """The sandboxes that an earlier agent left. Half-made ones are removed."""
    result = []
    for directory in sorted(node.pods_directory.glob("*")):
        try:
            record = json.loads((directory / "sandbox.json").read_text())
            pod = PodIdentity(record["uid"], record["namespace"], record["name"], record["hostname"])
            addresses = tuple(map(ip_address, record.get("addresses") or [record["address"]]))
        except (OSError, ValueError, KeyError):
            identity = PodIdentity(directory.name, "", "", "")
            remove(Sandbox(node, identity, node.addresses))
            continue
        host_network, host_ipc = bool(record.get("hostNetwork")), bool(record.get("hostIPC"))
        pids = record.get("pids") or PRIVATE_PIDS
        result.append(Sandbox(node, pod, addresses, host_network, host_ipc, pids))
    return result


def remove(sandbox: Sandbox) -> None:
    """Ends namespaces and network, and deletes the files; the logs stay until `remove_logs`."""
    addresses = () if sandbox.host_network or not sandbox.pod.name else sandbox.addresses
    network.remove_pod(sandbox.node.netns, sandbox.netns, addresses)
    sharedpids.remove(sandbox.directory)
    for pattern in MOUNTS:
        for path in sandbox.directory.glob(pattern):
            namespaces.unmount(path)
    for directory in (sandbox.directory, sandbox.storage_directory):
        _remove_tree(directory)


def _remove_tree(directory: Path) -> None:
    """All of it. The kernel may still be tidying up in the storage of a container that has just ended: what makes
    trouble more than a few times is left to `found` and `remove_strange_storage`."""
    for _ in range(REMOVAL_TRIES):
        if not directory.exists():
            return
        shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        _log.warning("%s could not be removed whole", directory)


def remove_strange_storage(node: NodeSurroundings) -> None:
    """What containers wrote whose pods have no sandbox any more, as after a reboot."""
    for directory in node.storage_directory.glob("*"):
        if not (node.pods_directory / directory.name).exists():
            shutil.rmtree(directory, ignore_errors=True)


def log_directory(node: NodeSurroundings, namespace: str, name: str, uid: str) -> Path:
    """Where the logs of a pod are: they outlive its sandbox, until its object is gone."""
    return node.log_directory / f"{namespace}_{name}_{uid}"


def remove_logs(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def remove_strange_logs(node: NodeSurroundings, uids: Container[str]) -> None:
    """Logs of pods that went while no agent looked."""
    for directory in node.log_directory.glob("*_*_*"):
        if directory.name.rpartition("_")[2] not in uids:
            remove_logs(directory)
