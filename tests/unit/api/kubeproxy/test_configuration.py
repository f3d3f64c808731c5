"""KubeProxyConfiguration as text: what is read, what is complained about, what kube-proxy would add."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml
from msgspec.structs import replace

from nodeport.api.kubeproxy.configz import configz
from nodeport.api.kubeproxy.defaults import for_this_proxy, with_defaults
from nodeport.api.kubeproxy.text import ConfigurationError, read, write
from nodeport.api.kubeproxy.types import Duration, KubeProxyConfiguration, NFTables
from nodeport.api.kubeproxy.validation import aggregate, validate

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
AS_KUBEADM_WRITES_IT = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null,
   udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: true, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 45s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s,
       tcpTimeout: 0s, udpTimeout: 0s}
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
"""


def parsed(body: str) -> KubeProxyConfiguration:
    found = read((HEAD + body).encode())
    assert found.complaints == []
    return with_defaults(found.config)


def problems(body: str) -> str:
    return aggregate(validate(parsed(body), minor=36))


def test_the_file_that_kubeadm_writes_is_read_without_complaint() -> None:
    found = read(AS_KUBEADM_WRITES_IT.encode())
    assert found.complaints == []
    config = with_defaults(found.config)
    assert validate(config, minor=36) == []
    assert config.clientConnection.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf"
    assert config.cluster_cidrs == ("10.244.0.0/16", "fd00:10:244::/56")
    assert config.healthzBindAddress == "0.0.0.0:10256"
    assert config.metricsBindAddress == "127.0.0.1:10249"
    assert config.conntrack.maxPerCore == 32768
    assert config.conntrack.tcpEstablishedTimeout == timedelta(hours=24)
    assert config.logging.flushFrequency == timedelta(seconds=5)
    assert config.oomScoreAdj == -999


def test_without_a_mode_the_iptables_section_speaks_as_for_kube_proxy_and_the_mode_is_ours() -> None:
    config = for_this_proxy(with_defaults(read(AS_KUBEADM_WRITES_IT.encode()).config))
    assert (config.mode, config.nodePortAddresses) == ("nftables", ("primary",))
    assert (config.section.syncPeriod, config.masquerade_all) == (timedelta(seconds=45), True)


def test_the_other_modes_leave_node_ports_on_all_addresses() -> None:
    config = for_this_proxy(parsed("mode: iptables\n"))
    assert config.nodePortAddresses == ()
    assert config.section.minSyncPeriod == timedelta(seconds=1)
    assert for_this_proxy(parsed("mode: ipvs\n")).section.minSyncPeriod == timedelta(0)


def test_an_ipv6_bind_address_moves_the_servers_to_ipv6() -> None:
    config = parsed("bindAddress: 'fd00::1'\n")
    assert config.healthzBindAddress == "[::]:10256"
    assert config.metricsBindAddress == "[::1]:10249"
    assert parsed("healthzBindAddress: 10.0.0.1\n").healthzBindAddress == "10.0.0.1:10256"


def test_unknown_and_repeated_fields_are_complained_about_but_the_file_is_used() -> None:
    found = read((HEAD + "mode: ipvs\nmodus: x\nconntrack: {maxPerCores: 1}\nmode: nftables\n").encode())
    assert found.config.mode == "nftables"
    assert found.complaints == [
        'yaml: unmarshal errors:\n  line 6: key "mode" already set in map',
        'unknown field "conntrack.maxPerCores"',
        'unknown field "modus"',
    ]


def test_json_is_read_as_well() -> None:
    text = b'{"kind":"KubeProxyConfiguration","apiVersion":"kubeproxy.config.k8s.io/v1alpha1","mode":"ipvs","x":1}'
    found = read(text)
    assert (found.config.mode, found.complaints) == ("ipvs", ['unknown field "x"'])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + "conntrack: {maxPerCore: many}\n", "conntrack.maxPerCore: expected `int | null`, got `str`"),
        (HEAD + "conntrack: {maxPerCore: 4294967296}\n", "conntrack.maxPerCore: 4294967296 does not fit into 32 bits"),
        (HEAD + "iptables: {syncPeriod: 30}\n", "iptables.syncPeriod: a duration is a text such as 30s, not 30"),
        (HEAD + "iptables: {syncPeriod: soon}\n", 'iptables.syncPeriod: time: invalid duration "soon"'),
        (HEAD + "nodePortAddresses: primary\n", "nodePortAddresses: expected `array | null`, got `str`"),
        (HEAD + "featureGates: {A: 'yes'}\n", "featureGates[...]: expected `bool`, got `str`"),
        ("mode: nftables\n", "Object 'Kind' is missing"),
        ("apiVersion: v1\nkind: Pod\n", 'no kind "Pod" is registered for version "v1"'),
        ("- a\n", "cannot unmarshal array"),
        ("a: [\n", "yaml: line"),
    ],
)  # fmt: skip
def test_a_file_of_the_wrong_shape_is_refused_with_the_field(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(text.encode())
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("failed to decode: ")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("mode: userspace\n", 'KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "userspace": must be iptables, ipvs, nftables or blank'),
        ("healthzBindAddress: nowhere:1\n", 'KubeProxyConfiguration.HealthzBindAddress: Invalid value: "nowhere": must be a valid IP'),
        ("healthzBindAddress: 1.2.3.4:70000\n", 'HealthzBindAddress: Invalid value: "70000": must be a valid port'),
        ("metricsBindAddress: '::1:99'\n", ""),
        ("oomScoreAdj: 1001\n", "KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]"),
        ("conntrack: {min: -1}\n", "KubeProxyConntrackConfiguration.Min: Invalid value: -1: must be greater than or equal to 0"),
        ("iptables: {masqueradeBit: 32}\n", "MasqueradeBit: Invalid value: 32: must be within the range [0, 31]"),
        ("iptables: {syncPeriod: 1s, minSyncPeriod: 2s}\n", 'KubeProxyConfiguration.SyncPeriod: Invalid value: "2s": must be greater than or equal to'),
        ("configSyncPeriod: -1s\n", 'ConfigSyncPeriod: Invalid value: "-1s": must be greater than 0'),
        ("bindAddress: me\n", 'BindAddress: Invalid value: "me": not a valid textual representation of an IP address'),
        ("nodePortAddresses: [primary, 10.0.0.0/8]\n", "NodePortAddresses[0]: Invalid value: \"primary\": can't use both 'primary' and CIDRs"),
        ("nodePortAddresses: [10.0.0.0/33]\n", 'NodePortAddresses[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR'),
        ("showHiddenMetricsForVersion: '1.20'\n", "must be omitted or have the value '1.35'"),
        ("detectLocalMode: Guess\n", 'DetectLocalMode: Unsupported value: "Guess": supported values: "", "BridgeInterface", "ClusterCIDR"'),
        ("detectLocalMode: BridgeInterface\n", 'DetectLocalConfiguration.InterfaceName: Invalid value: "": must not be empty'),
        ("detectLocalMode: ClusterCIDR\nclusterCIDR: 10.0.0.0/8,11.0.0.0/8\n", "must be a either a single CIDR or dual-stack pair"),
        ("detectLocalMode: ClusterCIDR\nclusterCIDR: ten\n", 'ClusterCIDRs[0]: Invalid value: "ten": must be a valid CIDR block'),
        ("clusterCIDR: 10.0.0.0/33\n", 'ClusterCIDRs[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR block'),
        ("mode: ipvs\nipvs: {excludeCIDRs: [x]}\n", 'ExcludeCidrs[0]: Invalid value: "x": must be a valid CIDR'),
        ("logging: {format: xml}\n", 'logging.format: Invalid value: "xml": Unsupported log format'),
        ("clientConnection: {burst: -1}\n", "ClientConnection.Burst: Invalid value: -1: must be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_values_are_refused_in_kube_proxys_words(body: str, sentence: str) -> None:
    found = problems(body) if sentence or validate(parsed(body), minor=36) else ""
    assert sentence in found


def test_several_problems_come_in_one_line() -> None:
    assert problems("mode: x\nbindAddress: z\n").startswith("[KubeProxyConfiguration.Mode.ProxyMode: ")


def test_what_is_written_is_read_back_the_same() -> None:
    config = replace(
        with_defaults(KubeProxyConfiguration()),
        mode="nftables",
        featureGates={"A": True},
        nodePortAddresses=("10.0.0.0/8",),
        nftables=NFTables(syncPeriod=Duration(minutes=90), minSyncPeriod=Duration(milliseconds=1500)),
    )
    text = write(config)
    assert "  syncPeriod: 1h30m0s\n" in text
    assert "  minSyncPeriod: 1.5s\n" in text
    assert list(yaml.safe_load(text)) == sorted(yaml.safe_load(text))
    assert read(text.encode()).config == config


def test_configz_shows_kube_proxys_internal_names() -> None:
    shown = configz(for_this_proxy(parsed("clusterCIDR: 10.244.0.0/16\n")))["kubeproxy.config.k8s.io"]
    assert shown["Mode"] == "nftables"
    assert shown["SyncPeriod"] == "30s"
    assert shown["DetectLocal"]["ClusterCIDRs"] == ["10.244.0.0/16"]
    assert shown["Linux"]["Conntrack"]["TCPEstablishedTimeout"] == "24h0m0s"
    assert shown["Linux"]["OOMScoreAdj"] == -999
    assert shown["ClientConnection"]["QPS"] == 5.0
    assert shown["IPTables"] == {"MasqueradeBit": 14, "LocalhostNodePorts": True}
    assert shown["IPVS"]["ExcludeCIDRs"] is None
    assert "ClusterCIDR" not in shown
