"""What kube-proxy fills into a KubeProxyConfiguration, and what it adds for the mode in use.

As in Kubernetes a zero value counts as not given.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv6Address
from typing import Final

from msgspec.structs import replace

from nodeport.api.ip import sloppy_ip
from nodeport.api.kubeproxy.types import (
    ClientConnection,
    Conntrack,
    Duration,
    FlushFrequency,
    IPTables,
    KubeProxyConfiguration,
    Logging,
)

HEALTHZ_PORT: Final = 10256
METRICS_PORT: Final = 10249
DEFAULT_MODE: Final = "nftables"
"""Ours; kube-proxy's is iptables."""
PRIMARY: Final = "primary"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_SYNC, _MIN_SYNC = Duration(seconds=30), Duration(seconds=1)


def with_defaults(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """Every field as kube-proxy would see it before flags; the mode stays what it is."""
    bind = config.bindAddress or "0.0.0.0"
    is_ipv6 = isinstance(sloppy_ip(bind), IPv6Address)
    everywhere, loopback = ("[::]", "[::1]") if is_ipv6 else ("0.0.0.0", "127.0.0.1")
    return replace(
        config,
        bindAddress=bind,
        healthzBindAddress=with_port(config.healthzBindAddress or everywhere, HEALTHZ_PORT),
        metricsBindAddress=with_port(config.metricsBindAddress or loopback, METRICS_PORT),
        oomScoreAdj=-999 if config.oomScoreAdj is None else config.oomScoreAdj,
        configSyncPeriod=config.configSyncPeriod or Duration(minutes=15),
        clientConnection=_client(config.clientConnection),
        logging=_logging(config.logging),
        conntrack=_conntrack(config.conntrack),
        iptables=_iptables(config.iptables),
        ipvs=replace(config.ipvs, syncPeriod=config.ipvs.syncPeriod or _SYNC),
        nftables=replace(
            config.nftables,
            syncPeriod=config.nftables.syncPeriod or _SYNC,
            minSyncPeriod=config.nftables.minSyncPeriod or _MIN_SYNC,
            masqueradeBit=14 if config.nftables.masqueradeBit is None else config.nftables.masqueradeBit,
        ),
    )


def for_this_proxy(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """After flags: the mode in use, where NodePorts answer in it, and how pods are told.

    With no mode named, sync periods and masquerading stay those under ``iptables``, where kube-proxy reads them then.
    """
    if not config.mode:
        section = config.section
        config = replace(
            config,
            mode=DEFAULT_MODE,
            nftables=replace(
                config.nftables, syncPeriod=section.syncPeriod, minSyncPeriod=section.minSyncPeriod,
                masqueradeAll=config.masquerade_all,
            ),
        )  # fmt: skip
    addresses = config.nodePortAddresses or ()
    if config.mode == "nftables" and not addresses:
        addresses = (PRIMARY,)
    return replace(
        config, nodePortAddresses=addresses, detectLocalMode=config.detectLocalMode or "ClusterCIDR"
    )


def with_port(address: str, port: int) -> str:
    """``address`` if it names a port, else with ``port``; an IPv6 address gets its brackets."""
    bare = sloppy_ip(address.removeprefix("[").removesuffix("]"))
    if bare is None:
        return address
    return f"[{bare}]:{port}" if isinstance(bare, IPv6Address) else f"{bare}:{port}"


def _client(given: ClientConnection) -> ClientConnection:
    return replace(
        given, contentType=given.contentType or PROTOBUF, qps=given.qps or 5.0, burst=given.burst or 10
    )


def _logging(given: Logging) -> Logging:
    return replace(
        given, format=given.format or "text", flushFrequency=given.flushFrequency or FlushFrequency(seconds=5)
    )


def _iptables(given: IPTables) -> IPTables:
    return replace(
        given,
        syncPeriod=given.syncPeriod or _SYNC,
        minSyncPeriod=given.minSyncPeriod or _MIN_SYNC,
        masqueradeBit=14 if given.masqueradeBit is None else given.masqueradeBit,
        localhostNodePorts=True if given.localhostNodePorts is None else given.localhostNodePorts,
    )


def _conntrack(given: Conntrack) -> Conntrack:
    return replace(
        given,
        maxPerCore=32 * 1024 if given.maxPerCore is None else given.maxPerCore,
        min=128 * 1024 if given.min is None else given.min,
        tcpEstablishedTimeout=_or(given.tcpEstablishedTimeout, timedelta(hours=24)),
        tcpCloseWaitTimeout=_or(given.tcpCloseWaitTimeout, timedelta(hours=1)),
    )


def _or(given: Duration | None, default: timedelta) -> Duration:
    """Unlike a zero value, a pointer to zero says something: leave the kernel's own."""
    return Duration(seconds=default.total_seconds()) if given is None else given
