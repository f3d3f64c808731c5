"""The ranges that Services get their numbers from, chosen on the command line of a real cluster."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, call, wait_for
from nodeport.api.resources import IP_ADDRESSES, NODES, SERVICE_CIDRS, SERVICES
from nodeport.api.status import ApiError
from nodeport.netlink.namespace import open_in
from nodeport.node import network

BOTH = "10.97.0.0/24,fd00:10:97::/112"


def test_a_dual_stack_cluster_gives_addresses_of_both_ranges(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1", "--service-cluster-ip-range", BOTH, "--service-node-port-range", "31000+9")
    assert cluster.get(SERVICE_CIDRS, "kubernetes")["spec"]["cidrs"] == BOTH.split(",")
    assert cluster.get(SERVICES, "kubernetes")["spec"]["clusterIPs"] == ["10.97.0.1"]
    wait_for(
        lambda: cluster.get(SERVICE_CIDRS, "kubernetes")["metadata"].get("finalizers"),
        "the range's finalizer",
    )
    port = cluster.deploy(1)
    assert 31000 <= port <= 31009
    made = cluster.create(SERVICES, {
        "metadata": {"name": "both"},
        "spec": {"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "selector": {"app": "web"},
                 "ports": [{"port": 80, "targetPort": 8080}]},
    })  # fmt: skip
    first, second = made["spec"]["clusterIPs"]
    assert (first.startswith("10.97.0."), second.startswith("fd00:10:97::")) == (True, True)
    assert cluster.get(IP_ADDRESSES, second)["spec"]["parentRef"]["name"] == "both"
    cluster.create(SERVICES, {
        "metadata": {"name": "six"},
        "spec": {"ipFamilies": ["IPv6"], "selector": {"app": "web"}, "ports": [{"port": 80}]},
    })  # fmt: skip
    address = cluster.get(NODES, "node-1")["status"]["addresses"][0]["address"]
    for number in (port, made["spec"]["ports"][0]["nodePort"]):
        wait_for(lambda number=number: call(address, number), f"an answer on {number}")
    assert "Traceback" not in cluster.logs()


def test_a_cluster_of_ipv6_services_alone_comes_up_and_goes(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1", "--service-cluster-ip-range", "fd00:10:97::/112")
    assert cluster.get(SERVICES, "kubernetes")["spec"]["clusterIPs"] == ["fd00:10:97::1"]
    made = cluster.create(
        SERVICES, {"metadata": {"name": "six"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    )
    assert made["spec"]["ipFamilies"] == ["IPv6"]
    assert "healthy" in cluster.nodeport("status")
    assert "Traceback" not in cluster.logs()


def test_node_ports_answer_on_a_nodes_loopback_when_asked_to(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1", "--localhost-nodeports")
    port = cluster.deploy(1)
    netns = network.node_netns(cluster.paths.name, "node-1")

    def answers() -> bool:
        with open_in(netns, lambda: socket.create_connection(("127.0.0.1", port), timeout=20)) as asking:
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return asking.recv(100).startswith(b"HTTP/1.")

    def refuses() -> bool:
        try:
            return not answers()
        except ConnectionRefusedError:
            return True

    wait_for(answers, "an answer on loopback")
    cluster.up()
    assert answers()
    cluster.up("--no-localhost-nodeports")
    wait_for(refuses, "nobody to listen any more")


def test_a_second_family_may_join_and_nothing_else(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1", "--ip-family", "ipv4")
    assert "--ip-family dual: the nodes of" in cluster.nodeport("up", "--ip-family", "dual", code=1)
    said = cluster.nodeport("up", "--service-cluster-ip-range", BOTH, code=1)
    assert "10.97.0.0/24,fd00:10:97::/112: cluster" in said
    assert "cannot be changed" in said
    cluster.up(
        "--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112", "--service-node-port-range", "31500"
    )
    wait_for(lambda: len(cluster.get(SERVICE_CIDRS, "kubernetes")["spec"]["cidrs"]) == 2, "the second range")
    spec = {"type": "NodePort", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}
    made = cluster.create(SERVICES, {"metadata": {"name": "both"}, "spec": spec})
    assert len(made["spec"]["clusterIPs"]) == 2
    assert made["spec"]["ports"][0]["nodePort"] == 31500
    with pytest.raises(ApiError, match="range is full"):
        cluster.create(SERVICES, {"metadata": {"name": "more"}, "spec": spec})


def test_the_server_takes_the_ranges_too(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "1", "--ip-family", "ipv4")
    cluster.kill("server")
    cluster.paths.ready("server").unlink(missing_ok=True)
    command = [
        str(Path(sys.executable).with_name("nodeport")), "server", "--service-node-port-range", "31600-31600",
        "--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112",
        "--name", cluster.paths.name, "--data-root", str(cluster.paths.data_root),
        "--run-root", str(cluster.paths.run_root),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(
                lambda: len(cluster.get(SERVICE_CIDRS, "kubernetes")["spec"]["cidrs"]) == 2,
                "the second range",
            )
            spec = {"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]}
            made = cluster.create(SERVICES, {"metadata": {"name": "both"}, "spec": spec})
            assert made["spec"]["ports"][0]["nodePort"] == 31600
            assert len(made["spec"]["clusterIPs"]) == 2
        finally:
            server.terminate()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--service-node-port-range", "40000-30000"), "'40000-30000': must be FIRST-LAST"),
        (
            ("--service-cluster-ip-range", "10.96.0.0/16,10.97.0.0/16"),
            "must be one CIDR, or one IPv4 and one IPv6",
        ),
        (("--service-cluster-ip-range", "fd00::/48"), "must be from /64 to /124"),
    ],
)
@pytest.mark.parametrize("command", ["up", "server"])
def test_bad_ranges_are_named_by_both_commands(
    cluster: LocalCluster, command: str, words: tuple[str, ...], named: str
) -> None:
    assert named in cluster.nodeport(command, *words, code=1)
