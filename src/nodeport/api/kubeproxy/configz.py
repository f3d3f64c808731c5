"""A configuration as ``/configz`` shows it: kube-proxy's internal form, whose fields have Go's names."""

from __future__ import annotations

from typing import Any, Final

from nodeport.api.kubeproxy.text import to_json
from nodeport.api.kubeproxy.types import KubeProxyConfiguration
from nodeport.api.meta import JsonObject

GROUP: Final = "kubeproxy.config.k8s.io"
_INITIALS: Final = {
    "iptables": "IPTables", "ipvs": "IPVS", "nftables": "NFTables", "qps": "QPS", "tcpTimeout": "TCPTimeout",
    "tcpFinTimeout": "TCPFinTimeout", "udpTimeout": "UDPTimeout", "udpStreamTimeout": "UDPStreamTimeout",
    "tcpEstablishedTimeout": "TCPEstablishedTimeout", "tcpCloseWaitTimeout": "TCPCloseWaitTimeout",
    "tcpBeLiberal": "TCPBeLiberal", "oomScoreAdj": "OOMScoreAdj",
}  # fmt: skip
_SHARED: Final = ("syncPeriod", "minSyncPeriod", "masqueradeAll")
"""Stand once in the internal form, whatever the mode."""
_SECTIONS: Final = ("iptables", "ipvs", "nftables")


def configz(config: KubeProxyConfiguration) -> JsonObject:
    """The whole body: the configuration under the name of its group."""
    given = to_json(config)
    linux = {"conntrack": given.pop("conntrack"), "oomScoreAdj": given.pop("oomScoreAdj")}
    for name in _SECTIONS:
        given[name] = {key: value for key, value in given[name].items() if key not in _SHARED}
    logging = given.pop("logging")
    for field in ("apiVersion", "kind", "portRange", "clusterCIDR"):
        del given[field]
    windows = {"runAsService": given.pop("windowsRunAsService")}
    shown = _go_names(given)
    detect = {**shown["DetectLocal"], "ClusterCIDRs": list(config.cluster_cidrs) or None}
    body = {
        **shown,
        "Linux": {**_go_names(linux), "MasqueradeAll": config.masquerade_all},
        "Windows": _go_names(windows),
        "FeatureGates": dict(config.featureGates),
        "Logging": logging,
        "DetectLocal": detect,
        "SyncPeriod": to_json(config.section)["syncPeriod"],
        "MinSyncPeriod": to_json(config.section)["minSyncPeriod"],
    }
    return {GROUP: body}


def _go_names(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {_INITIALS.get(key, key[:1].upper() + key[1:]): _go_names(item) for key, item in value.items()}
