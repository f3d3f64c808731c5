"""From a KubeProxyConfiguration to what the parts of the proxy are told, and how the API is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport.api.ip import sloppy_ip, sloppy_network
from nodeport.api.kubeproxy.types import IPVS, KubeProxyConfiguration
from nodeport.client import incluster, kubeconfig
from nodeport.client.config import ClientConfig, with_scheme
from nodeport.forwarding.table import Family, IPAddress
from nodeport.netlink.ipvs.messages import Timeouts
from nodeport.proxy.options import IpvsOptions, Mode, ProxyOptions

_IF_INET6: Final = Path("/proc/net/if_inet6")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """``netns``: the namespace that is programmed and served in; ``None``: the current one.

    ``localhost_nodeports``: in every mode, and not only where the configuration of mode iptables says so.
    """

    config: KubeProxyConfiguration
    node_name: str
    master: str = ""
    netns: Path | None = None
    keep_client_address: bool = True
    service_counters: bool = False
    localhost_nodeports: bool = False


def proxy_options(settings: ProxySettings) -> ProxyOptions:
    """``settings.config`` is valid, with defaults, and names its mode."""
    config = settings.config
    mode = Mode(config.mode)
    by_iptables = mode is Mode.IPTABLES and config.iptables.localhostNodePorts is not False
    by_cidr = config.detectLocalMode == "ClusterCIDR"
    pods = config.cluster_cidrs if by_cidr else ()
    interfaces = {
        "BridgeInterface": (config.detectLocal.bridgeInterface,),
        "InterfaceNamePrefix": (f"{config.detectLocal.interfaceNamePrefix}*",),
    }.get(config.detectLocalMode, ())
    return ProxyOptions(
        mode=mode,
        nodeport_addresses=config.nodePortAddresses or (),
        service_networks=(),
        families=supported_families(),
        pod_networks=tuple(network for cidr in pods if (network := sloppy_network(cidr)) is not None),
        pod_interfaces=interfaces,
        pods_from_node=config.detectLocalMode == "NodeCIDR",
        localhost_nodeports=by_iptables or settings.localhost_nodeports,
        keep_client_address=settings.keep_client_address,
        masquerade_all=config.masquerade_all,
        health=host_port(config.healthzBindAddress),
        node_address=_told_address(config.bindAddress),
        sync_period=config.section.syncPeriod,
        min_sync_period=timedelta(0) if mode is Mode.NFTABLES else config.section.minSyncPeriod,
        hard_fail=config.bindAddressHardFail,
        service_counters=settings.service_counters,
        ipvs=_ipvs_options(config.ipvs),
    )


def supported_families() -> tuple[Family, ...]:
    """Both, unless the kernel was booted without IPv6."""
    return (Family.IPV4, Family.IPV6) if _IF_INET6.exists() else (Family.IPV4,)


def _ipvs_options(wanted: IPVS) -> IpvsOptions:
    """Timeouts that are not given stay what they are by default. Raises ValueError for an unknown scheduler."""
    standard = IpvsOptions()
    second = timedelta(seconds=1)
    timeouts = Timeouts(
        tcp=wanted.tcpTimeout // second or standard.timeouts.tcp,
        tcp_fin=wanted.tcpFinTimeout // second or standard.timeouts.tcp_fin,
        udp=wanted.udpTimeout // second or standard.timeouts.udp,
    )
    return IpvsOptions(scheduler=wanted.scheduler or standard.scheduler, timeouts=timeouts)


def host_port(address: str) -> tuple[str, int] | None:
    """``None`` for an address that is switched off."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    return (host.removeprefix("[").removesuffix("]"), int(port))


def _told_address(text: str) -> IPAddress | None:
    address = sloppy_ip(text)
    return None if address is None or address.is_unspecified else address


def connection_loader(settings: ProxySettings, environment: Mapping[str, str]) -> Callable[[], ClientConfig]:
    """What reads, as often as it is called, how to reach the API. It may raise KubeconfigError or NotInCluster."""
    path = settings.config.clientConnection.kubeconfig
    if not path and not settings.master:
        return lambda: incluster.load(environment)

    def load() -> ClientConfig:
        found = kubeconfig.load(Path(path)) if path else ClientConfig(server="")
        if not settings.master:
            return found
        secured = bool(found.ca or found.client_cert) or not found.verify
        return replace(found, server=with_scheme(settings.master, secured=secured).rstrip("/"))

    return load
