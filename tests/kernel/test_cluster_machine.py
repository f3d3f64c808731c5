"""``nodeport agent``: a node that is a machine of its own, here a namespace on the nodes' network, let in by a token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, call, wait_for
from kernel.kubectls import StreamingKubectl, kubectl_program
from nodeport.api.podcidrs import share
from nodeport.api.resources import NODES
from nodeport.netlink import route
from nodeport.netlink.route import RouteSocket, VethEnd
from nodeport.node import local, localoptions, namespaces, network
from nodeport.node.namespaces import NamespaceFile


@pytest.fixture
def machine(cluster: LocalCluster) -> Iterator[tuple[Path, IPv4Address]]:
    """Another machine on the network of a cluster of one node, and its address."""
    cluster.up("--nodes", "1")
    config = local.load(cluster.paths)
    assert config is not None
    plan = config.plan(cluster.paths.name)
    path = network.NETNS_ROOT / f"tm{cluster.paths.name}"
    address = IPv4Network(plan.fabrics[0])[99]
    namespaces.create([NamespaceFile("net", path)], lambda: None)
    with network.open_namespace(path) as target, RouteSocket(network.fabric_netns(plan.name)) as fabric:
        port = VethEnd("machine", b"\x0a\x5a\0\0\0\1", index=1000, master=network.UPLINK_INDEX)
        fabric.apply([route.veth(port, VethEnd("eth0", b"\x0a\x5a\0\0\0\2", index=2, netns=target), 1500)])
    with RouteSocket(path) as inside:
        inside.apply([
            route.link_up(1), route.link_up(2), route.address(2, IPv4Interface((address, plan.fabrics[0].prefixlen))),
            route.route(IPv4Network("0.0.0.0/0"), gateway=plan.host),
        ])  # fmt: skip
    yield path, address
    namespaces.remove(path)


def test_a_machine_joins_runs_pods_answers_and_leaves(
    cluster: LocalCluster, machine: tuple[Path, IPv4Address], tmp_path: Path
) -> None:
    path, address = machine
    config = local.load(cluster.paths)
    assert config is not None
    kubeconfig, bootstrap = tmp_path / "machine.kubeconfig", tmp_path / "bootstrap.kubeconfig"
    server = config.url.replace("127.0.0.1", str(config.plan(cluster.paths.name).host))
    made = subprocess.run(
        [
            str(Path(sys.executable).with_name("nodeport")), "token", "create", "--kubeconfig", str(cluster.kubeconfig),
            "--write-kubeconfig", str(bootstrap), "--server", server,
        ], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout.strip() in bootstrap.read_text()
    command = [
        str(Path(sys.executable).with_name("nodeport")), "agent", "--node-name", "machine",
        "--data-root", str(tmp_path / "agent-data"), "--run-root", str(tmp_path / "agent-run"), "--eviction-hard", "",
    ]  # fmt: skip
    options = [
        "--bootstrap-kubeconfig",
        str(bootstrap),
        "--kubeconfig",
        str(kubeconfig),
        "--node-ip",
        str(address),
    ]
    log = tmp_path / "agent.log"
    with namespaces.entered([NamespaceFile("net", path)]), log.open("w") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output)
    try:
        wait_for(lambda: cluster.get(NODES, "machine"), "the machine to register")
        cluster.pod("there", spec_nodeName="machine")
        pod = cluster.wait_for_pods(1)[0]
        given = cluster.get(NODES, "machine")["spec"]["podCIDRs"]
        assert given == [str(share(pods, 255)) for pods in localoptions.networks_of(config.pods)]
        assert IPv4Address(pod["status"]["podIP"]) in IPv4Network(given[0])
        with namespaces.entered([NamespaceFile("net", network.node_netns(cluster.paths.name, "node-1"))]):
            said = wait_for(lambda: call(pod["status"]["podIP"], 8080), "an answer from the other node's pod")
        assert (said["pod"], said["node"]) == ("there", "machine")
        wait_for(lambda: served(cluster), "the machine's server to have its certificate")
        assert heard(path, 10249, "/proxyMode") == "nftables"
        assert '"nodeEligible":true' in heard(path, 10256, "/healthz")
        assert cluster.log_of("there").startswith("listening on 8080")
    finally:
        os.kill(process.pid, signal.SIGTERM)
        code = process.wait(60)
        with namespaces.entered([NamespaceFile("net", path)]):
            removed = subprocess.run([*command, "--remove"], capture_output=True, text=True, check=True)
    assert code == 0, log.read_text()
    assert "1 containers" in removed.stdout
    nft = ["ip", "netns", "exec", path.name, "nft", "list", "ruleset"]
    assert subprocess.run(nft, capture_output=True, text=True, check=True).stdout == ""
    assert not (tmp_path / "agent-run").exists()
    assert not (tmp_path / "agent-data").exists()


def heard(netns: Path, port: int, path: str) -> str:
    """What the machine's proxy tells it."""
    url = f"http://127.0.0.1:{port}{path}"
    with (
        namespaces.entered([NamespaceFile("net", netns)]),
        urllib.request.urlopen(url, timeout=3) as answer,
    ):
        return str(answer.read().decode())


def served(cluster: LocalCluster) -> bool:
    """Whether the API server can run a command on the machine, through TLS that it verifies."""
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    return kubectl.run("exec", "there", "--", "hostname").out == b"there\n"
