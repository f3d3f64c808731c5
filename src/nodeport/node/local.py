"""A local cluster on this machine: its name, its files, its numbers. What it is made of is started by the commands.

::

    DATA_ROOT/NAME/   cluster.json (what the user chose), pki/, store.db, nodes/NODE/logs/, logs/PART.log
    RUN_ROOT/NAME/    PART.pid, PART.ready, prepared, nodes/NODE/pods/ (gone after a reboot, as the pods are)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from nodeport.node import network
from nodeport.node.addresses import ClusterPlan, free_fabric, free_pod_network, overlap
from nodeport.node.localoptions import (
    DEFAULT_SERVICE_CIDRS,
    LocalError,
    Network,
    networks_of,
    parse_log_size,
    parse_port_range,
    parse_service_cidrs,
    shown_cidrs,
)
from nodeport.node.sandbox import NodeSurroundings

DATA_ROOT = Path("/var/lib/nodeport")
RUN_ROOT = Path("/run/nodeport")
DEFAULT_NAME = "nodeport"
DEFAULT_NODES = 3
FIRST_PORT = 6443
PARTS = ("server", "nodes")
LOCK = "\0nodeport-local-clusters"
LOCK_POLL = 0.01


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a cluster's files are."""

    name: str
    data_root: Path = DATA_ROOT
    run_root: Path = RUN_ROOT

    @property
    def data(self) -> Path:
        return self.data_root / self.name

    @property
    def run(self) -> Path:
        return self.run_root / self.name

    @property
    def config(self) -> Path:
        return self.data / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def store(self) -> Path:
        return self.data / "store.db"

    @property
    def images(self) -> Path:
        """Where the layers of images are."""
        return self.data / "images"

    @property
    def prepared(self) -> Path:
        """Made when network and certificates are there: what the parts wait for."""
        return self.run / "prepared"

    def certificate(self, stem: str) -> Path:
        """The PEM files that the cluster's authority made, by the names it gives them."""
        return self.pki / f"{stem}.crt"

    def key(self, stem: str) -> Path:
        return self.pki / f"{stem}.key"

    @property
    def token(self) -> Path:
        """The administrator's bearer token, for clients that present no certificate."""
        return self.pki / "token"

    def log(self, part: str) -> Path:
        return self.data / "logs" / f"{part}.log"

    def pid(self, part: str) -> Path:
        return self.run / f"{part}.pid"

    def ready(self, part: str) -> Path:
        return self.run / f"{part}.ready"

    def make(self) -> None:
        """All directories, readable by root only."""
        for directory in (self.data, self.data / "logs", self.run):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What ``cluster.json`` keeps. Networks are CIDRs, one of each IP family parted by a comma: ``fabric`` and ``pods``
    of the same families, ``service_cidr`` of these or one more; ``node_ports`` is as ``parse_port_range`` takes it.
    ``audit_log``: a path, empty for none; set aside when it has ``audit_megabytes``; ``audit_backups`` 0 keeps all.
    ``images``: NAME=PATH, programs and folders of this machine. Registries are HOST[:PORT]. ``node_grace``: seconds
    that a node may be silent. ``log_size``: a quantity, of one of the ``log_files`` files of a container's log.
    ``eviction_hard``: as a kubelet's option. ``localhost_nodeports``: node ports answer on loopback, too."""

    fabric: str
    pods: str
    nodes: int
    api_port: int
    kubeconfig: str
    service_cidr: str = DEFAULT_SERVICE_CIDRS[4]
    node_ports: str = "30000-32767"
    nodeport_addresses: tuple[str, ...] = ("primary",)
    max_endpoints_per_slice: int = 100
    audit_log: str = ""
    audit_megabytes: int = 100
    audit_backups: int = 0
    images: tuple[str, ...] = ()
    default_registry: str = ""
    insecure_registries: tuple[str, ...] = ()
    node_grace: float = 50.0
    log_size: str = "10Mi"
    log_files: int = 5
    eviction_hard: str = ""
    localhost_nodeports: bool = False

    def plan(self, name: str) -> ClusterPlan:
        return ClusterPlan(name, networks_of(self.fabric), networks_of(self.pods), self.nodes)

    @property
    def node_port_range(self) -> range:
        return parse_port_range(self.node_ports)

    @property
    def service_networks(self) -> tuple[Network, ...]:
        """That of the primary family first."""
        return parse_service_cidrs(self.service_cidr)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions of nodes and pods, the primary one first."""
        return tuple(network.version for network in networks_of(self.fabric))

    @property
    def renew_every(self) -> timedelta:
        """How often a node says that it is there: four times while it may be silent, every ten seconds at least."""
        return min(timedelta(seconds=10), timedelta(seconds=self.node_grace) / 4)

    @property
    def log_limits(self) -> tuple[int, int]:
        """Bytes of one file of a container's log, and how many files there are at most."""
        return parse_log_size(self.log_size), self.log_files

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"


def load(paths: Paths) -> ClusterConfig | None:
    """The cluster's configuration, None when there is no cluster. Raises LocalError for a broken file."""
    try:
        found = json.loads(paths.config.read_text())
        found["nodeport_addresses"] = tuple(found["nodeport_addresses"])
        for field in ("images", "insecure_registries"):
            found[field] = tuple(found.get(field) or ())
        return ClusterConfig(**found)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise LocalError(
            f"{paths.config} is broken ({error}): `nodeport down` removes the cluster"
        ) from error


def save(paths: Paths, config: ClusterConfig) -> None:
    """What is there already is not written again: a full disk must not keep a cluster from being mended."""
    text = json.dumps(asdict(config), indent=2) + "\n"
    if not paths.config.exists() or paths.config.read_text() != text:
        write_private(paths.config, text)


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by root only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def ensure_token(paths: Paths) -> None:
    if not paths.token.exists():
        write_private(paths.token, f"{secrets.token_urlsafe(32)}\n")


def choose_networks(
    paths: Paths, services: Iterable[Network], versions: Iterable[int]
) -> tuple[tuple[Network, ...], tuple[Network, ...]]:
    """Fabrics and pod networks that overlap nothing of this host and no other cluster, running or not."""
    taken = [*network.taken_networks(), *services]
    for file in paths.data_root.glob("*/cluster.json"):
        if file.parent != paths.data:
            with contextlib.suppress(ValueError, KeyError, OSError):
                other = json.loads(file.read_text())
                taken += [*networks_of(other["fabric"]), *networks_of(other["pods"])]
    wanted = tuple(versions)
    return (
        tuple(free_fabric(taken, version) for version in wanted),
        tuple(free_pod_network(taken, version) for version in wanted),
    )


def with_free_fabric(paths: Paths, config: ClusterConfig) -> ClusterConfig:
    """The same cluster, moved to other subnets when the host came to use its own while it was down."""
    name = network.host_link(paths.name)
    if network.host_has_link(name):
        return config
    fabrics = networks_of(config.fabric)
    taken = [each for each in network.taken_networks() if each.prefixlen]
    if not any(overlap(fabric, each) for fabric in fabrics for each in taken):
        return config
    chosen, _ = choose_networks(paths, config.service_networks, config.versions)
    return replace(config, fabric=shown_cidrs(chosen))


def port_is_free(port: int) -> bool:
    """Whether the API server could listen on the port of 127.0.0.1."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port() -> int:
    """6443 when it is free, else any free one."""
    if port_is_free(FIRST_PORT):
        return FIRST_PORT
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One `up` or `down` at a time on this machine: whatever their roots, they share subnets, ports and names.

    The lock is an abstract socket: it leaves no file, and goes with its holder.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        while True:
            try:
                sock.bind(LOCK)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                time.sleep(LOCK_POLL)
        yield


def surroundings(paths: Paths, plan: ClusterPlan, number: int) -> NodeSurroundings:
    """Where the pods of node ``number`` live."""
    node = plan.node(number)
    return NodeSurroundings(
        cluster=plan.name,
        name=node.name,
        netns=network.node_netns(plan.name, node.name),
        addresses=node.addresses,
        run_directory=paths.run / "nodes" / node.name,
        log_directory=paths.data / "nodes" / node.name / "logs",
    )
