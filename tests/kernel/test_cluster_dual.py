"""Both IP families in a real local cluster, and IPv6 alone: nodes, pods, Services, names, host ports, and their end."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.reversename
import pytest

from kernel.clusters import LocalCluster, call, local_cluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import NODES, PODS, SERVICES
from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket
from nodeport.node import local, localoptions, namespaces, network
from nodeport.node.namespaces import NamespaceFile

BOTH = {"ipFamilyPolicy": "RequireDualStack"}
FETCH = "import urllib.request as r; print(r.urlopen('http://{}/?format=json').read().decode().replace(',', chr(10)))"
askers: list[str] = []
"""The pods that said something, in order."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two nodes of both families, with the pods of ``web`` on the second."""
    with local_cluster(tmp_path_factory.mktemp("dual")) as made:
        made.up("--nodes", "2")
        pod(made, "web", "node-2", labels={"app": "web"})
        yield made


def pod(
    made: LocalCluster, name: str, node: str, labels: JsonObject | None = None, **container: Any
) -> JsonObject:
    """A pod of one node, when it is ready or over."""
    spec = {
        key.removeprefix("spec_"): container.pop(key) for key in list(container) if key.startswith("spec_")
    }
    ports = container.pop("ports", [{"containerPort": 8080}])
    main = {"name": "main", "image": "nodeport/echo", "ports": ports, **container}
    metadata = {"name": name, "labels": labels or {}}
    made.create(PODS, {"metadata": metadata, "spec": {"nodeName": node, "containers": [main], **spec}})
    return made.wait_for_pod(name, is_settled, "ready or over")


def is_settled(found: JsonObject) -> bool:
    status = found.get("status") or {}
    ready = any(
        each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()
    )
    ends = found["spec"]["restartPolicy"] == "Never"
    return status.get("phase") in ("Succeeded", "Failed") or (ready and not ends)


def said(made: LocalCluster, script: str, **options: Any) -> list[str]:
    """The lines that a script prints in a pod on the first node."""
    name = f"asks-{len(askers)}"
    askers.append(name)
    found = pod(made, name, "node-1", command=["bash", "-c", script], spec_restartPolicy="Never", **options)
    assert found["status"]["phase"] == "Succeeded", found["status"]
    return made.log_of(name).split("\n")[:-1]


def service(made: LocalCluster, name: str, kind: str = "NodePort", **spec: Any) -> JsonObject:
    ports = [{"port": 80, "targetPort": 8080}]
    wanted = {"type": kind, "selector": {"app": "web"}, "ports": ports, **spec}
    return made.create(SERVICES, {"metadata": {"name": name}, "spec": wanted})


def port_of(made: JsonObject) -> int:
    return int(made["spec"]["ports"][0]["nodePort"])


def addresses(made: LocalCluster) -> dict[str, list[str]]:
    """The internal addresses of each node."""
    return {
        node["metadata"]["name"]: [
            each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"
        ]
        for node in made.items(NODES)
    }


def versions(texts: Sequence[str]) -> list[int]:
    return [ip_address(text.partition("/")[0]).version for text in texts]


def answered(made: LocalCluster, name: str, kind: str) -> list[str]:
    """What the first node's name server says, asked over the first family's Service address."""
    config = local.load(made.paths)
    assert config is not None
    server = str(config.service_networks[0][10])
    kinds = socket.AF_INET6 if ":" in server else socket.AF_INET
    netns = network.node_netns(made.paths.name, "node-1")
    with open_in(netns, lambda: socket.socket(kinds, socket.SOCK_DGRAM)) as sock:
        sock.setblocking(False)
        found = dns.query.udp(dns.message.make_query(name, kind), server, 5, sock=sock)
    return sorted(str(record) for group in found.answer for record in group)


def test_nodes_and_pods_have_addresses_of_both_families(cluster: LocalCluster) -> None:
    for node in cluster.items(NODES):
        spec = node["spec"]
        assert versions(spec["podCIDRs"]) == [4, 6]
        assert spec["podCIDR"] == spec["podCIDRs"][0]
    assert all(versions(each) == [4, 6] for each in addresses(cluster).values())
    env = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"status.{name}"}}}
        for name in ("podIPs", "hostIPs")
    ]
    script = "echo $podIPs; echo $hostIPs; grep asks- /etc/hosts | cut -f1; grep nameserver /etc/resolv.conf"
    *lines, name_server = said(cluster, script, env=env)
    status = cluster.get(PODS, askers[-1])["status"]
    pod_ips, host_ips = ([each["ip"] for each in status[field]] for field in ("podIPs", "hostIPs"))
    assert lines == [",".join(pod_ips), ",".join(host_ips), *pod_ips]
    assert name_server == "nameserver 10.96.0.10"
    assert (status["podIP"], status["hostIP"]) == (pod_ips[0], host_ips[0])
    assert versions(pod_ips) == versions(host_ips) == [4, 6]
    assert host_ips == addresses(cluster)["node-1"]


def test_a_node_port_answers_on_both_addresses_of_every_node(cluster: LocalCluster) -> None:
    port = port_of(service(cluster, "doors", **BOTH))
    for node in addresses(cluster).values():
        for address in node:
            heard = wait_for(lambda address=address: call(address, port), f"an answer on {address}")
            assert heard["pod"] == "web"
    assert versions([url.split("//")[1].rpartition(":")[0] for url in urls(cluster, "doors")]) == [4, 4]
    only = port_of(service(cluster, "only-six", ipFamilies=["IPv6"]))
    assert urls(cluster, "only-six") == [f"http://[{six}]:{only}" for _, six in addresses(cluster).values()]


def urls(made: LocalCluster, name: str) -> list[str]:
    command = [str(Path(sys.executable).with_name("nodeport")), "service", name, "--url"]
    environment = {**os.environ, "KUBECONFIG": str(made.kubeconfig)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.split()


def test_pods_reach_pods_of_other_nodes_with_their_own_address(cluster: LocalCluster) -> None:
    for address in pod_ips(cluster, "web"):
        lines = said(cluster, python(fetch(address, 8080)))
        own = pod_ips(cluster, askers[-1])
        client = next(line for line in lines if '"client"' in line)
        assert any(f'"{bracketed(mine)}:' in client for mine in own), (client, own)


def test_local_traffic_keeps_the_clients_address_and_tells_load_balancers(cluster: LocalCluster) -> None:
    made = service(cluster, "kept", "LoadBalancer", externalTrafficPolicy="Local", **BOTH)
    health = made["spec"]["healthCheckNodePort"]
    config = local.load(cluster.paths)
    assert config is not None
    hosts = {host.version: str(host) for host in config.plan(cluster.paths.name).hosts}
    for address in addresses(cluster)["node-2"]:
        heard = wait_for(lambda address=address: call(address, port_of(made)), f"an answer on {address}")
        assert heard["client"].startswith(f"{bracketed(hosts[ip_address(address).version])}:")
        assert wait_for(lambda address=address: call(address, health, "/"), "health")["localEndpoints"] == 1


def test_services_answer_on_both_addresses_and_names_have_records_of_both(cluster: LocalCluster) -> None:
    made = service(cluster, "named", "ClusterIP", **BOTH)
    four, six = made["spec"]["clusterIPs"]
    wait_for(lambda: answered(cluster, "named.default.svc.cluster.local", "AAAA") == [six], "a record")
    assert answered(cluster, "named.default.svc.cluster.local", "A") == [four]
    for address in (four, six):
        reverse = dns.reversename.from_address(address).to_text()
        assert answered(cluster, reverse, "PTR") == ["named.default.svc.cluster.local."]
    script = "; ".join(python(fetch(address, 80)) for address in (four, six))
    lines = said(cluster, f"{script}; getent ahostsv6 named | cut -d' ' -f1 | sort -u")
    assert [line for line in lines if '"pod"' in line] == ['{"pod":"web"'] * 2
    assert lines[-1] == six
    dns_service = cluster.get(SERVICES, "kube-dns", "kube-system")["spec"]
    assert dns_service["clusterIPs"] == ["10.96.0.10", "fd00:10:96::a"]


def test_host_ports_and_pods_on_the_nodes_network_have_both(cluster: LocalCluster) -> None:
    pod(cluster, "ported", "node-1", ports=[{"containerPort": 8080, "hostPort": 18085}])
    pod(cluster, "on-node", "node-1", spec_hostNetwork=True, env=[{"name": "PORT", "value": "18086"}])
    mine = addresses(cluster)["node-1"]
    assert pod_ips(cluster, "on-node") == mine
    for address in mine:
        assert call(address, 18085)["pod"] == "ported"
        assert call(address, 18086)["pod"] == "on-node"


def test_both_families_stay_when_the_nodes_start_anew(cluster: LocalCluster) -> None:
    before, of_web = addresses(cluster), cluster.get(PODS, "web")["status"]
    cluster.kill("nodes")
    assert "--ip-family ipv4: the nodes of" in cluster.nodeport("up", "--ip-family", "ipv4", code=1)
    cluster.up("--ip-family", "dual")
    pod(cluster, "later", "node-2")
    assert addresses(cluster) == before
    after = cluster.get(PODS, "web")["status"]
    assert (after["podIPs"], after["containerStatuses"]) == (of_web["podIPs"], of_web["containerStatuses"])
    assert not set(pod_ips(cluster, "later")) & set(pod_ips(cluster, "web"))


def test_a_second_cluster_lives_beside_it_and_leaves_nothing(
    cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with local_cluster(tmp_path_factory.mktemp("beside")) as other:
        other.up("--nodes", "1")
        pod(other, "web", "node-1", labels={"app": "web"})
        port = port_of(service(other, "doors", **BOTH))
        mine = addresses(other)["node-1"]
        assert not set(mine) & {each for node in addresses(cluster).values() for each in node}
        for address in mine:
            heard = wait_for(lambda address=address: call(address, port), f"an answer on {address}")
            assert heard["server"].rpartition(":")[0].strip("[]") in pod_ips(other, "web")
        config = local.load(other.paths)
        assert config is not None
        ranges = [*localoptions.networks_of(config.fabric), *localoptions.networks_of(config.pods)]
    assert not any(each in ranges for each in network.taken_networks())


def test_a_cluster_of_ipv6_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    with local_cluster(tmp_path_factory.mktemp("six")) as made:
        made.up("--nodes", "2", "--ip-family", "ipv6")
        probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
        pod(made, "web", "node-2", labels={"app": "web"}, readinessProbe=probe)
        door = service(made, "doors")
        assert versions(door["spec"]["clusterIPs"]) == versions(pod_ips(made, "web")) == [6]
        for node in made.items(NODES):
            assert versions(node["spec"]["podCIDRs"]) == [6]
        every = addresses(made)
        assert urls(made, "doors") == [f"http://[{six}]:{port_of(door)}" for (six,) in every.values()]
        for (six,) in every.values():
            assert wait_for(lambda six=six: call(six, port_of(door)), f"an answer on {six}")["pod"] == "web"
        kubernetes = made.get(SERVICES, "kubernetes")["spec"]["clusterIP"]
        script = (
            "import ssl, urllib.request as r; t = ssl._create_unverified_context();"
            f"print(r.urlopen('https://[{kubernetes}]/version', context=t).status,"
            " r.urlopen('http://doors/healthz').status)"
        )
        assert said(made, python(script)) == ["200 200"]
        reverse = dns.reversename.from_address(door["spec"]["clusterIP"]).to_text()
        assert answered(made, reverse, "PTR") == ["doors.default.svc.cluster.local."]
        assert "healthy" in made.nodeport("status")
        assert "Traceback" not in made.logs()


def test_a_machine_without_ipv6_gets_a_cluster_of_ipv4_and_is_told(tmp_path: Path) -> None:
    """The machine is a network namespace where IPv6 is switched off."""
    machine = namespaces.NETNS_ROOT / f"tm{secrets.token_hex(4)}"
    switch = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    namespaces.prepare_netns_root()
    namespaces.create([NamespaceFile("net", machine)], lambda: _switch_off(switch))
    try:
        with RouteSocket(machine) as inside:
            inside.apply([route.link_up(1)])
        with local_cluster(tmp_path, around=("nsenter", f"--net={machine}")) as made:
            for option in ("dual", "ipv6"):
                refusal = made.nodeport("up", "--ip-family", option, code=1)
                assert f"--ip-family {option}: this machine has no IPv6" in refusal
            assert "IPv4 addresses only: this machine has no IPv6" in made.up("--nodes", "1")
            status = made.nodeport("status")
            assert "healthy" in status
            assert "fd00" not in status
    finally:
        namespaces.remove(machine)


def _switch_off(switch: Path) -> None:
    switch.write_text("1")


def pod_ips(made: LocalCluster, name: str) -> list[str]:
    return [each["ip"] for each in made.get(PODS, name)["status"]["podIPs"]]


def bracketed(address: str) -> str:
    return f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address


def fetch(address: str, port: int) -> str:
    return FETCH.format(f"{bracketed(address)}:{port}")


def python(script: str) -> str:
    return f'python3 -c "{script}"'
