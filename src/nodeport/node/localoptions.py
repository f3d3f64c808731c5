"""What the words of a local cluster's options mean, and which of them cannot be."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_network

from nodeport.api.duration import parse_duration
from nodeport.node.addresses import IPNetwork, most_nodes

NO_IPV6 = "its kernel does not know it, or net.ipv6.conf.all.disable_ipv6 is 1"
MOST_ENDPOINTS_PER_SLICE = 1000
LEAST_LOG, MOST_LOG = 1 << 10, 1 << 40
LEAST_GRACE, MOST_GRACE = 1, 3600
NAME_LENGTH = 40
Network = IPNetwork
IP_FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}
"""IP versions by the words of --ip-family, the primary one first."""
DEFAULT_SERVICE_CIDRS = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class LocalError(Exception):
    """What the user asked for cannot be; one sentence with the value and what is allowed."""


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


def check_same_ip_family(name: str, wanted: str, before: Collection[int]) -> None:
    """A cluster keeps its families, IP versions ``before``. Raises LocalError."""
    if (known := ip_family_of(before)) != wanted:
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
