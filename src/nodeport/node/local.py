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
import re
import secrets
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from nodeport.api.duration import parse_duration
from nodeport.node import network
from nodeport.node.addresses import (
    ClusterPlan,
    IPNetwork,
    free_fabric,
    free_pod_network,
    most_nodes,
    overlap,
)
from nodeport.node.sandbox import NodeSurroundings

DATA_ROOT = Path("/var/lib/nodeport")
RUN_ROOT = Path("/run/nodeport")
NO_IPV6 = "its kernel does not know it, or net.ipv6.conf.all.disable_ipv6 is 1"
DEFAULT_NAME = "nodeport"
DEFAULT_NODES = 3
MOST_ENDPOINTS_PER_SLICE = 1000
LEAST_LOG, MOST_LOG = 1 << 10, 1 << 40
LEAST_GRACE, MOST_GRACE = 1, 3600
FIRST_PORT = 6443
NAME_LENGTH = 40
PARTS = ("server", "nodes")
LOCK = "\0nodeport-local-clusters"
LOCK_POLL = 0.01
Network = IPNetwork
IP_FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}
"""IP versions by the words of --ip-family, the primary one first."""
DEFAULT_SERVICE_CIDRS = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class LocalError(Exception):
    """What the user asked for cannot be; one sentence with the value and what is allowed."""


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


def check_name(name: str) -> str:
    """A cluster's name: a DNS label, since it becomes part of namespace, link and context names."""
    if len(name) > NAME_LENGTH or not _NAME.fullmatch(name):
        raise LocalError(
            f"cluster name {name!r}: must be lower-case letters, digits and '-', "
            f"begin and end with a letter or digit, and have at most {NAME_LENGTH} characters"
        )
    return name


def check_nodes(count: int) -> int:
    if not 1 <= count <= most_nodes():
        raise LocalError(f"--nodes {count}: must be from 1 to {most_nodes()}")
    return count


def check_endpoints_per_slice(count: int) -> int:
    if not 1 <= count <= MOST_ENDPOINTS_PER_SLICE:
        raise LocalError(f"--max-endpoints-per-slice {count}: must be from 1 to {MOST_ENDPOINTS_PER_SLICE}")
    return count


def parse_node_grace(text: str) -> float:
    """Seconds out of a duration in Go's words, as ``1s`` or ``1m30s``. Raises LocalError."""
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as error:
        raise LocalError(
            f"--node-monitor-grace-period {text!r}: must be a duration such as 5s or 1m30s"
        ) from error
    if not LEAST_GRACE <= seconds <= MOST_GRACE:
        raise LocalError(
            f"--node-monitor-grace-period {text!r}: must be from {LEAST_GRACE} s to {MOST_GRACE} s"
        )
    return seconds


def parse_log_size(text: str) -> int:
    """Bytes of a container's log file. Raises LocalError."""
    from nodeport.api.quantity import is_quantity, parse_quantity  # `up` pays for every import

    if not is_quantity(text) or not LEAST_LOG <= parse_quantity(text) <= MOST_LOG:
        raise LocalError(
            f"--container-log-max-size {text!r}: must be a quantity from 1Ki to 1Ti, such as 10Mi"
        )
    return int(parse_quantity(text))


def parse_port_range(text: str) -> range:
    """``30000-32767``, ``30000+2767`` (so many more) or ``30000`` alone, as a range. Raises LocalError."""
    first, separator, last = text.strip().partition("-")
    if not separator:
        first, separator, last = text.strip().partition("+")
    if first.isdecimal() and (last.isdecimal() if separator else True) and text.isascii():
        start = int(first)
        end = start if not separator else int(last) if separator == "-" else start + int(last)
        if 1 <= start <= end <= 65535:
            return range(start, end + 1)
    raise LocalError(
        f"--service-node-port-range {text!r}: must be FIRST-LAST, FIRST+MORE or PORT, all from 1 to 65535"
    )


def parse_service_cidrs(text: str) -> tuple[Network, ...]:
    """One CIDR, or one of each family parted by a comma, the primary family first. Raises LocalError."""
    found = tuple(_service_cidr(text, part.strip()) for part in text.split(","))
    if len(found) > 2 or len({network.version for network in found}) != len(found):
        raise LocalError(
            f"--service-cluster-ip-range {text!r}: must be one CIDR, or one IPv4 and one IPv6 CIDR parted by a comma"
        )
    return found


def _service_cidr(text: str, part: str) -> Network:
    try:
        found = ip_network(part)
    except ValueError as error:
        raise LocalError(
            f"--service-cluster-ip-range {text!r}: must be a CIDR such as 10.96.0.0/16 or fd00:10:96::/112, or one of"
            " each parted by a comma"
        ) from error
    shortest, longest = (12, 28) if found.version == 4 else (64, 124)
    if not shortest <= found.prefixlen <= longest:
        raise LocalError(
            f"--service-cluster-ip-range {text!r}: the prefix of an IPv{found.version} range must be from /{shortest}"
            f" to /{longest}"
        )
    return found


def shown_cidrs(networks: Iterable[Network]) -> str:
    """As the option takes them."""
    return ",".join(map(str, networks))


def networks_of(text: str) -> tuple[Network, ...]:
    """CIDRs parted by commas, of our own making. Raises ValueError."""
    return tuple(map(ip_network, text.split(",")))


def choose_versions(ip_family: str | None, services: Sequence[Network], *, has_ipv6: bool) -> tuple[int, ...]:
    """The IP versions of a new cluster, the primary one first: as told, else as its Services', else both when the
    machine has both. ``services``: the ranges that were asked for, if any. Raises LocalError."""
    asked = tuple(network.version for network in services)
    versions = asked or (IP_FAMILIES[ip_family] if ip_family else (4, 6) if has_ipv6 else (4,))
    if ip_family and set(versions) != set(IP_FAMILIES[ip_family]):
        raise LocalError(
            f"--ip-family {ip_family}: --service-cluster-ip-range {shown_cidrs(services)} is not of the same families"
        )
    if 6 in versions and not has_ipv6:
        option = (
            f"--ip-family {ip_family}" if ip_family else f"--service-cluster-ip-range {shown_cidrs(services)}"
        )
        raise LocalError(f"{option}: this machine has no IPv6: {NO_IPV6}")
    return versions


def ip_family_of(versions: Collection[int]) -> str:
    """The word of --ip-family."""
    return next(word for word, known in IP_FAMILIES.items() if set(known) == set(versions))


def check_same_ip_family(name: str, wanted: str, config: ClusterConfig) -> None:
    """A cluster keeps its families. Raises LocalError."""
    if (known := ip_family_of(config.versions)) != wanted:
        raise LocalError(
            f"--ip-family {wanted}: the nodes of cluster {name!r} are {known}, which cannot be changed"
        )


def check_same_service_cidrs(name: str, wanted: tuple[Network, ...], before: tuple[Network, ...]) -> None:
    """A cluster keeps its ranges; a second family may join the first. Raises LocalError."""
    if wanted[: len(before)] != before:
        raise LocalError(
            f"--service-cluster-ip-range {shown_cidrs(wanted)}: cluster {name!r} uses {shown_cidrs(before)}, which"
            " cannot be changed, only be joined by a range of the other family"
        )


def parse_nodeport_addresses(text: str) -> tuple[str, ...]:
    """``primary``, or CIDRs parted by commas; empty means all local addresses but loopback."""
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in found:
        if word == "primary" and len(found) == 1:
            continue
        try:
            ip_network(word)
        except ValueError as error:
            raise LocalError(
                f"--nodeport-addresses {word!r}: must be 'primary' or CIDRs parted by commas"
            ) from error
    return found


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
