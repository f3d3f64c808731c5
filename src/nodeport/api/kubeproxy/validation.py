"""What kube-proxy refuses in a KubeProxyConfiguration: same fields, same words (its internal names for both)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from nodeport.api.duration import go_duration
from nodeport.api.ip import sloppy_ip
from nodeport.api.kubeproxy.defaults import PRIMARY
from nodeport.api.kubeproxy.types import IPVS, Conntrack, KubeProxyConfiguration
from nodeport.api.status import FieldError, invalid, not_supported

MODES: Final = ("iptables", "ipvs", "nftables")
LOCAL_MODES: Final = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
_ROOT: Final = KubeProxyConfiguration.__name__
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"
_DUAL: Final = (
    "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"
)


def validate(config: KubeProxyConfiguration, *, minor: int) -> list[FieldError]:
    """``minor``: our Kubernetes version's, for which hidden metrics may be asked of the one before."""
    return [
        *_bits(config),
        *(_ipvs(config.ipvs) if config.mode == "ipvs" else ()),
        *_linux(config),
        *_mode(config),
        *_client(config),
        *_periods(config),
        *_addresses(config),
        *_nodeport_addresses(config.nodePortAddresses or ()),
        *_hidden_metrics(config.showHiddenMetricsForVersion, minor),
        *_detect_local(config),
        *_logging(config),
    ]


def aggregate(errors: Sequence[FieldError]) -> str:
    """Several problems in one line, as Kubernetes' components print them."""
    texts = list(dict.fromkeys(map(str, errors)))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _bits(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    sections = {"KubeProxyIPTablesConfiguration": config.iptables.masqueradeBit}
    if config.mode == "nftables":
        sections["KubeProxyNFTablesConfiguration"] = config.nftables.masqueradeBit
    for name, bit in sections.items():
        if bit is not None and not 0 <= bit <= 31:
            yield invalid(f"{_ROOT}.{name}.MasqueradeBit", bit, "must be within the range [0, 31]")


def _ipvs(ipvs: IPVS) -> Iterator[FieldError]:
    where = f"{_ROOT}.KubeProxyIPVSConfiguration"
    for name, value in (
        ("TCPTimeout", ipvs.tcpTimeout), ("TCPFinTimeout", ipvs.tcpFinTimeout), ("UDPTimeout", ipvs.udpTimeout),
    ):  # fmt: skip
        yield from _not_negative(f"{where}.{name}", value)
    for at, cidr in enumerate(ipvs.excludeCIDRs or ()):
        if not _is_cidr(cidr):
            yield invalid(f"{where}.ExcludeCidrs[{at}]", cidr, "must be a valid CIDR")


def _linux(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    where = f"{_ROOT}.KubeProxyLinuxConfiguration"
    yield from _conntrack(config.conntrack, f"{where}.KubeProxyConntrackConfiguration")
    score = config.oomScoreAdj
    if score is not None and not -1000 <= score <= 1000:
        yield invalid(f"{where}.OOMScoreAdj", score, "must be within the range [-1000, 1000]")


def _conntrack(conntrack: Conntrack, where: str) -> Iterator[FieldError]:
    for name, number in (("MaxPerCore", conntrack.maxPerCore), ("Min", conntrack.min)):
        if number is not None and number < 0:
            yield invalid(f"{where}.{name}", number, _NOT_NEGATIVE)
    for name, value in (
        ("TCPEstablishedTimeout", conntrack.tcpEstablishedTimeout),
        ("TCPCloseWaitTimeout", conntrack.tcpCloseWaitTimeout),
        ("UDPTimeout", conntrack.udpTimeout),
        ("UDPStreamTimeout", conntrack.udpStreamTimeout),
    ):
        yield from _not_negative(f"{where}.{name}", value)


def _not_negative(where: str, value: timedelta | None) -> Iterator[FieldError]:
    if value is not None and value < timedelta(0):
        yield invalid(where, go_duration(value), _NOT_NEGATIVE)


def _mode(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    if config.mode and config.mode not in MODES:
        allowed = ", ".join(MODES)
        why = f"must be {allowed} or blank (blank means the best-available proxy [currently nftables])"
        yield invalid(f"{_ROOT}.Mode.ProxyMode", config.mode, why)


def _client(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    if config.clientConnection.burst < 0:
        yield invalid(f"{_ROOT}.ClientConnection.Burst", config.clientConnection.burst, _NOT_NEGATIVE)


def _periods(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    sync, least = config.section.syncPeriod, config.section.minSyncPeriod
    for name, value in (("ConfigSyncPeriod", config.configSyncPeriod), ("SyncPeriod", sync)):
        if value <= timedelta(0):
            yield invalid(f"{_ROOT}.{name}", go_duration(value), "must be greater than 0")
    yield from _not_negative(f"{_ROOT}.MinSyncPeriod", least)
    if least > sync:
        why = f"must be greater than or equal to {_ROOT}.MinSyncPeriod"
        yield invalid(f"{_ROOT}.SyncPeriod", go_duration(least), why)


def _addresses(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    if sloppy_ip(config.bindAddress) is None:
        why = "not a valid textual representation of an IP address"
        yield invalid(f"{_ROOT}.BindAddress", config.bindAddress, why)
    for name, address in (
        ("HealthzBindAddress", config.healthzBindAddress), ("MetricsBindAddress", config.metricsBindAddress)
    ):  # fmt: skip
        if address:
            yield from _host_port(address, f"{_ROOT}.{name}")


def _host_port(text: str, where: str) -> Iterator[FieldError]:
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        yield invalid(where, text, "must be IP:port")
        return
    bare = host[1:-1] if bracketed else host
    if sloppy_ip(bare) is None:
        yield invalid(where, bare, "must be a valid IP")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        yield invalid(where, port, "must be a valid port")


def _nodeport_addresses(addresses: Sequence[str]) -> Iterator[FieldError]:
    for at, text in enumerate(addresses):
        where = f"{_ROOT}.NodePortAddresses[{at}]"
        if text == PRIMARY:
            if len(addresses) != 1:
                yield invalid(where, text, "can't use both 'primary' and CIDRs")
            return
        if not _is_cidr(text):
            yield invalid(where, text, "must be a valid CIDR")


def _hidden_metrics(version: str, minor: int) -> Iterator[FieldError]:
    before = f"1.{minor - 1}"
    if version and version != before:
        why = (
            f"--show-hidden-metrics-for-version must be omitted or have the value '{before}'."
            " Only the previous minor version is allowed"
        )
        yield invalid(f"{_ROOT}.ShowHiddenMetricsForVersion", version, why)


def _detect_local(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    mode, where = config.detectLocalMode, f"{_ROOT}.DetectLocalConfiguration"
    if mode not in (*LOCAL_MODES, ""):
        yield not_supported(f"{_ROOT}.DetectLocalMode", mode, sorted((*LOCAL_MODES, "")))
    if mode == "BridgeInterface" and not config.detectLocal.bridgeInterface:
        yield invalid(f"{where}.InterfaceName", "", "must not be empty")
    if mode == "InterfaceNamePrefix" and not config.detectLocal.interfaceNamePrefix:
        yield invalid(f"{where}.InterfacePrefix", "", "must not be empty")
    if mode in ("ClusterCIDR", ""):  # unset means that
        yield from _cluster_cidrs(config.cluster_cidrs, f"{where}.ClusterCIDRs")


def _cluster_cidrs(cidrs: Sequence[str], where: str) -> Iterator[FieldError]:
    if len(cidrs) > 2:
        yield invalid(where, list(cidrs), _DUAL)
        return
    bad = [at for at, cidr in enumerate(cidrs) if not _is_cidr(cidr)]
    for at in bad:
        why = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
        yield invalid(f"{where}[{at}]", cidrs[at], why)
    if not bad and len(cidrs) == 2 and (":" in cidrs[0]) == (":" in cidrs[1]):
        yield invalid(where, list(cidrs), _DUAL)


def _logging(config: KubeProxyConfiguration) -> Iterator[FieldError]:
    if config.logging.format not in ("text", "json"):
        yield invalid("logging.format", config.logging.format, "Unsupported log format")


def _is_cidr(text: str) -> bool:
    address, slash, prefix = text.partition("/")
    found = sloppy_ip(address)
    if not slash or found is None or not (prefix.isascii() and prefix.isdecimal()):
        return False
    return int(prefix) <= (32 if isinstance(found, ipaddress.IPv4Address) else 128)
