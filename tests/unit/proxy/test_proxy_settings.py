"""From the configuration to options, from the Node to what is believed of it, and to conntrack's settings."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nodeport.api.kubeproxy.defaults import for_this_proxy, with_defaults
from nodeport.api.kubeproxy.types import Conntrack, Duration, IPTables, KubeProxyConfiguration
from nodeport.client.incluster import NotInCluster
from nodeport.proxy.conntrack_settings import Setting, settings_to_write
from nodeport.proxy.nodeview import as_told, service_networks
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.settings import ProxySettings, connection_loader, host_port, proxy_options

NODE: dict[str, Any] = {
    "metadata": {"name": "n1"},
    "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "taints": []},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}]
    },
}


def options(**fields: Any) -> ProxyOptions:
    config = for_this_proxy(with_defaults(KubeProxyConfiguration(**fields)))
    return proxy_options(ProxySettings(config, "n1"))


def test_pods_are_told_by_what_the_mode_of_detection_says() -> None:
    by_cidr = options(clusterCIDR="10.244.0.0/16,fd00::/56")
    assert by_cidr.pod_networks == (ip_network("10.244.0.0/16"), ip_network("fd00::/56"))
    assert not by_cidr.pods_from_node
    assert (
        not options().pods_from_node
    )  # ClusterCIDR without a CIDR: nobody is told apart, as with kube-proxy
    assert options(detectLocalMode="NodeCIDR", clusterCIDR="10.244.0.0/16").pod_networks == ()
    assert options(detectLocalMode="NodeCIDR").pods_from_node
    from nodeport.api.kubeproxy.types import DetectLocal

    local = DetectLocal(bridgeInterface="cbr0", interfaceNamePrefix="cali")
    assert options(detectLocalMode="BridgeInterface", detectLocal=local).pod_interfaces == ("cbr0",)
    assert options(detectLocalMode="InterfaceNamePrefix", detectLocal=local).pod_interfaces == ("cali*",)


def test_networks_of_pods_may_be_written_as_kube_proxy_takes_them() -> None:
    sloppy = options(clusterCIDR="010.244.1.1/16")
    assert sloppy.pod_networks == (ip_network("10.244.0.0/16"),)


def test_minimum_periods_count_in_the_modes_that_pay_for_commits() -> None:
    slow = IPTables(
        syncPeriod=Duration(minutes=1), minSyncPeriod=Duration(seconds=7), localhostNodePorts=True
    )
    assert options(iptables=slow).min_sync_period == timedelta(0)
    found = options(mode="iptables", iptables=slow)
    assert (found.mode, found.min_sync_period, found.sync_period) == (
        Mode.IPTABLES, timedelta(seconds=7), timedelta(minutes=1)
    )  # fmt: skip
    assert found.localhost_nodeports
    assert not options(mode="ipvs", iptables=slow).localhost_nodeports


@pytest.mark.parametrize("mode", list(Mode))
def test_nodeports_on_loopback_can_be_had_in_every_mode(mode: Mode) -> None:
    off = IPTables(localhostNodePorts=False)
    config = for_this_proxy(with_defaults(KubeProxyConfiguration(mode=mode.value, iptables=off)))
    assert proxy_options(ProxySettings(config, "n1", localhost_nodeports=True)).localhost_nodeports
    assert not proxy_options(ProxySettings(config, "n1")).localhost_nodeports


def test_addresses_of_servers_and_of_the_node() -> None:
    assert host_port("0.0.0.0:10256") == ("0.0.0.0", 10256)
    assert host_port("[fd00::1]:7") == ("fd00::1", 7)
    assert host_port("") is None
    assert options(bindAddress="0.0.0.0").node_address is None
    assert options(bindAddress="10.0.0.7").node_address == ip_address("10.0.0.7")


def test_what_the_proxy_was_told_goes_before_what_the_node_says() -> None:
    told = as_told(NODE, ProxyOptions(node_address=ip_address("10.0.0.7"), pods_from_node=False))
    assert told is not None
    assert [item["address"] for item in told["status"]["addresses"]] == ["10.0.0.7", "10.0.0.1", "n1"]
    assert told["spec"] == {"taints": []}
    assert as_told(NODE, ProxyOptions()) is NODE
    assert NODE["spec"]["podCIDR"] == "10.1.0.0/24"
    absent = as_told(None, ProxyOptions(node_address=ip_address("10.0.0.7")))
    assert absent is not None
    assert absent["status"]["addresses"][0]["address"] == "10.0.0.7"


def test_service_networks_are_those_of_all_servicecidrs() -> None:
    class Listed:
        def list(self) -> list[dict[str, Any]]:
            return [
                {"spec": {"cidrs": ["10.97.0.0/16"]}},
                {"spec": {"cidrs": ["10.96.0.0/16", "fd00::/108", "nonsense"]}},
            ]

    found = service_networks(Listed(), ProxyOptions())  # type: ignore[arg-type]
    assert [str(network) for network in found] == ["10.96.0.0/16", "10.97.0.0/16", "fd00::/108"]
    assert service_networks(None, ProxyOptions()) == ProxyOptions().service_networks


@pytest.mark.parametrize(
    ("fields", "limit"),
    [({}, 131072), ({"maxPerCore": 100_000}, 400_000), ({"maxPerCore": 0, "min": 5}, None), ({"maxPerCore": 1, "min": 0}, 4)],
)  # fmt: skip
def test_the_limit_of_connections_grows_with_the_cores(fields: dict[str, int], limit: int | None) -> None:
    wanted = with_defaults(KubeProxyConfiguration(conntrack=Conntrack(**fields))).conntrack
    found = {setting.name: setting.value for setting in settings_to_write(wanted, 4, {})}
    assert found.get("nf_conntrack_max") == limit
    assert found["nf_conntrack_tcp_timeout_established"] == 86400
    assert "nf_conntrack_udp_timeout" not in found


def test_zero_timeouts_leave_the_kernels_own() -> None:
    zero = Duration(0)
    wanted = Conntrack(maxPerCore=0, tcpEstablishedTimeout=zero, tcpCloseWaitTimeout=zero, tcpBeLiberal=True)
    assert list(settings_to_write(wanted, 4, {})) == [Setting("nf_conntrack_tcp_be_liberal", 1)]


def test_the_api_is_found_by_file_by_address_or_as_pods_find_it(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "{clusters: [{name: c, cluster: {server: 'https://a:1'}}], contexts: [{name: c, context: {cluster: c}}],"
        " current-context: c}"
    )
    config = with_defaults(KubeProxyConfiguration())
    connected = replace(config, clientConnection=replace(config.clientConnection, kubeconfig=str(path)))
    assert connection_loader(ProxySettings(connected, "n1"), {})().server == "https://a:1"
    assert (
        connection_loader(ProxySettings(connected, "n1", master="https://b:2/"), {})().server == "https://b:2"
    )
    assert connection_loader(ProxySettings(config, "n1", master="http://c:3"), {})().server == "http://c:3"
    assert connection_loader(ProxySettings(config, "n1", master="c:3"), {})().server == "http://c:3"
    with pytest.raises(
        NotInCluster, match="KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    ):
        connection_loader(ProxySettings(config, "n1"), {})()
