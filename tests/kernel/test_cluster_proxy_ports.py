"""What the proxy of each local node tells at kube-proxy's ports, 10249 on loopback and 10256 everywhere."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from ipaddress import ip_address

import pytest

from kernel.clusters import LocalCluster, wait_for
from nodeport.api.resources import NODES
from nodeport.node import local, namespaces, network
from nodeport.node.namespaces import NamespaceFile

TAINT = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule", "value": "1"}


@pytest.fixture(scope="module")
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    module_cluster.up("--nodes", "2", "--localhost-nodeports")
    return module_cluster


def ask(address: str, port: int, path: str) -> tuple[int, str]:
    """Status and body. OSError when nobody answers."""
    host = f"[{address}]" if ":" in address else address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=3) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_on(cluster: LocalCluster, node: str, port: int, path: str) -> tuple[int, str]:
    """On loopback, from the node's own network."""
    with namespaces.entered([NamespaceFile("net", network.node_netns(cluster.paths.name, node))]):
        return ask("127.0.0.1", port, path)


def addresses(cluster: LocalCluster, node: str) -> list[str]:
    found = cluster.get(NODES, node)["status"]["addresses"]
    return [each["address"] for each in found if each["type"] == "InternalIP"]


def test_a_pod_on_its_nodes_network_is_told_the_proxys_mode(cluster: LocalCluster) -> None:
    script = (
        "import urllib.request as r; print(r.urlopen('http://localhost:10249/proxyMode').read().decode())"
    )
    cluster.pod(
        "asks", command=["python3", "-c", script], spec_hostNetwork=True, spec_restartPolicy="Never",
        spec_nodeName="node-2",
    )  # fmt: skip
    cluster.wait_for_pod("asks", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    assert cluster.log_of("asks").strip() == "nftables"


def test_each_node_shows_its_own_configuration_and_counts(cluster: LocalCluster) -> None:
    for node in ("node-1", "node-2"):
        status, body = ask_on(cluster, node, 10249, "/configz")
        shown = json.loads(body)["kubeproxy.config.k8s.io"]
        assert (status, shown["HostnameOverride"], shown["Mode"]) == (200, node, "nftables")
        assert (shown["NodePortAddresses"], shown["IPTables"]["LocalhostNodePorts"]) == (["primary"], True)
        assert ask_on(cluster, node, 10249, "/healthz") == (200, "ok")
        assert ask_on(cluster, node, 10249, "/nothing")[0] == 404
        metrics = ask_on(cluster, node, 10249, "/metrics")[1].splitlines()
        synced = next(line for line in metrics if line.startswith(
            'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}'
        ))  # fmt: skip
        assert float(synced.split()[1]) > 0
        assert 'nodeport_proxy_service_ports{ip_family="IPv4"} ' in "\n".join(metrics)


def test_metrics_are_for_the_node_alone_and_health_for_everybody(cluster: LocalCluster) -> None:
    config = local.load(cluster.paths)
    assert config is not None
    for node in ("node-1", "node-2"):
        found = addresses(cluster, node)
        assert {ip_address(address).version for address in found} == set(config.versions)
        for address in found:
            assert ask(address, 10256, "/healthz")[0] == HTTPStatus.OK
            with pytest.raises(OSError, match="refused"):
                ask(address, 10249, "/metrics")


def test_a_node_that_is_leaving_takes_no_load_and_the_others_do(cluster: LocalCluster) -> None:
    def health(node: str) -> tuple[int, str]:
        return ask(addresses(cluster, node)[0], 10256, "/healthz")

    def taint(taints: list[dict[str, str]] | None) -> None:
        with cluster.session() as session:
            session.request(
                "PATCH", NODES.path("", "node-2"), body={"spec": {"taints": taints}},
                content_type="application/merge-patch+json",
            )  # fmt: skip

    taint([TAINT])
    wait_for(lambda: health("node-2")[0] == 503, "load balancers to be sent away")
    told = json.loads(health("node-2")[1])
    assert (told["nodeEligible"], told["healthy"]) == (False, True)
    assert ask(addresses(cluster, "node-2")[0], 10256, "/livez")[0] == 200
    assert health("node-1")[0] == 200
    taint(None)
    wait_for(lambda: health("node-2")[0] == 200, "the node to stay")


def test_a_node_without_power_says_nothing_and_speaks_again_with_it(cluster: LocalCluster) -> None:
    cluster.nodeport("node", "stop", "node-2")
    with pytest.raises(OSError, match="refused"):
        ask_on(cluster, "node-2", 10249, "/healthz")
    with pytest.raises(OSError, match="refused"):
        ask_on(cluster, "node-2", 10256, "/healthz")
    cluster.nodeport("node", "start", "node-2")
    wait_for(lambda: ask_on(cluster, "node-2", 10249, "/proxyMode") == (200, "nftables"), "the mode again")
    wait_for(lambda: ask_on(cluster, "node-2", 10256, "/healthz")[0] == 200, "health again")
