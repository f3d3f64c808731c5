"""The fields of KubeProxyConfiguration v1alpha1 as Kubernetes 1.36 has them, under their wire names.

``None`` stands where Go has a nil pointer. Defaults here are Go's zero values; ``defaults.py`` fills in the rest.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"


class Duration(timedelta):
    """A ``timedelta`` that configurations spell Go's way (``1m30s``)."""


class FlushFrequency(Duration):
    """May be a number of nanoseconds in a file, as kubeadm writes it."""


ZERO = Duration(0)


class IPTables(Struct, frozen=True, kw_only=True):
    masqueradeBit: int | None = None
    masqueradeAll: bool = False
    localhostNodePorts: bool | None = None
    syncPeriod: Duration = ZERO
    minSyncPeriod: Duration = ZERO


class IPVS(Struct, frozen=True, kw_only=True):
    syncPeriod: Duration = ZERO
    minSyncPeriod: Duration = ZERO
    scheduler: str = ""
    excludeCIDRs: tuple[str, ...] | None = None
    strictARP: bool = False
    tcpTimeout: Duration = ZERO
    tcpFinTimeout: Duration = ZERO
    udpTimeout: Duration = ZERO


class NFTables(Struct, frozen=True, kw_only=True):
    masqueradeBit: int | None = None
    masqueradeAll: bool = False
    syncPeriod: Duration = ZERO
    minSyncPeriod: Duration = ZERO


class Conntrack(Struct, frozen=True, kw_only=True):
    maxPerCore: int | None = None
    min: int | None = None
    tcpEstablishedTimeout: Duration | None = None
    tcpCloseWaitTimeout: Duration | None = None
    tcpBeLiberal: bool = False
    udpTimeout: Duration = ZERO
    udpStreamTimeout: Duration = ZERO


class Winkernel(Struct, frozen=True, kw_only=True):
    networkName: str = ""
    sourceVip: str = ""
    enableDSR: bool = False
    rootHnsEndpointName: str = ""
    forwardHealthCheckVip: bool = False


class DetectLocal(Struct, frozen=True, kw_only=True):
    bridgeInterface: str = ""
    interfaceNamePrefix: str = ""


class ClientConnection(Struct, frozen=True, kw_only=True):
    kubeconfig: str = ""
    acceptContentTypes: str = ""
    contentType: str = ""
    qps: float = 0.0
    burst: int = 0


class VModule(Struct, frozen=True, kw_only=True):
    filePattern: str = ""
    verbosity: int = 0


class LogStream(Struct, frozen=True, kw_only=True):
    splitStream: bool = False
    infoBufferSize: str | int = "0"


class LogOptions(Struct, frozen=True, kw_only=True):
    text: LogStream = LogStream()
    json: LogStream = LogStream()


class Logging(Struct, frozen=True, kw_only=True):
    format: str = ""
    flushFrequency: FlushFrequency = FlushFrequency(0)
    verbosity: int = 0
    vmodule: tuple[VModule, ...] = ()
    options: LogOptions = LogOptions()


class KubeProxyConfiguration(Struct, frozen=True, kw_only=True):
    apiVersion: str = API_VERSION
    kind: str = KIND
    featureGates: dict[str, bool] = {}  # msgspec gives each object its own
    clientConnection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostnameOverride: str = ""
    bindAddress: str = ""
    healthzBindAddress: str = ""
    metricsBindAddress: str = ""
    bindAddressHardFail: bool = False
    enableProfiling: bool = False
    showHiddenMetricsForVersion: str = ""
    mode: str = ""
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    nftables: NFTables = NFTables()
    winkernel: Winkernel = Winkernel()
    detectLocalMode: str = ""
    detectLocal: DetectLocal = DetectLocal()
    clusterCIDR: str = ""
    nodePortAddresses: tuple[str, ...] | None = None
    oomScoreAdj: int | None = None
    conntrack: Conntrack = Conntrack()
    configSyncPeriod: Duration = ZERO
    portRange: str = ""
    windowsRunAsService: bool = False

    @property
    def section(self) -> IPTables | IPVS | NFTables:
        """Where the mode in use has its sync periods; without a mode they stand under ``iptables``."""
        if self.mode == "ipvs":
            return self.ipvs
        return self.nftables if self.mode == "nftables" else self.iptables

    @property
    def masquerade_all(self) -> bool:
        return (self.nftables if self.mode == "nftables" else self.iptables).masqueradeAll

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        return tuple(self.clusterCIDR.split(",")) if self.clusterCIDR else ()
