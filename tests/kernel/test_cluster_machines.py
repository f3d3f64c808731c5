"""Several machines with a ``nodeport agent`` each, on one subnet with plain routes, or with a router between and a VXLAN."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, ip_interface, ip_network
from pathlib import Path

import dns.message
import pytest

from kernel.clusters import LocalCluster, local_cluster, wait_for
from kernel.machines import Machine, Machines, machines
from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS, NODES, PODS, SERVICES
from nodeport.netlink import route
from nodeport.netlink.namespace import open_in
from nodeport.netlink.route import RouteSocket, VethEnd
from nodeport.node import local, network
from nodeport.node.namespaces import NamespaceFile, entered
from nodeport.node.podnetwork.plan import LINK
from nodeport.testing.outside import OutsideClient

PROGRAM = str(Path(sys.executable).with_name("nodeport"))
DNS = "10.96.0.10"


@dataclass
class Agents:
    """A cluster whose pods live on machines; ``processes`` by machine."""

    cluster: LocalCluster
    machines: Machines
    tag: str
    mode: str
    root: Path
    bootstrap: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def name(self, machine: Machine) -> str:
        return f"{self.tag}-{machine.name}"

    def command(self, machine: Machine) -> list[str]:
        root = self.root / machine.name
        return [
            PROGRAM, "agent", "--node-name", self.name(machine), "--data-root", str(root / "data"),
            "--run-root", str(root / "run"), "--eviction-hard", "",  # the disk is everybody's
        ]  # fmt: skip

    def pod_cidrs(self, machine: Machine) -> str:
        """The machines have IPv4 addresses only; a VXLAN carries IPv6 all the same."""
        found = machine.pod_cidrs if self.mode == "vxlan" else machine.pod_cidrs[:1]
        return ",".join(map(str, found))

    def start(self, machine: Machine) -> None:
        root = self.root / machine.name
        root.mkdir(exist_ok=True)
        options = [
            "--bootstrap-kubeconfig", str(self.bootstrap), "--kubeconfig", str(root / "kubeconfig"), "--node-ip",
            str(machine.address), "--pod-cidr", self.pod_cidrs(machine), "--pod-network", self.mode,
            "--cluster-dns", DNS,
        ]  # fmt: skip
        with entered([NamespaceFile("net", machine.netns)]), (root / "log").open("a") as output:
            output.write("---\n")
            output.flush()
            self.processes[machine.name] = subprocess.Popen(
                [*self.command(machine), *options], stdout=output, stderr=output
            )

    def end(self, machine: Machine, number: signal.Signals) -> None:
        process = self.processes.pop(machine.name, None)
        if process is not None:
            os.kill(process.pid, number)
            process.wait(60)

    def remove(self, machine: Machine) -> str:
        with entered([NamespaceFile("net", machine.netns)]):
            done = subprocess.run(
                [*self.command(machine), "--remove"], capture_output=True, text=True, check=True
            )
        return done.stdout

    def pod_of(self, machine: Machine) -> JsonObject:
        return self.cluster.get(PODS, f"on-{machine.name}")

    def address_of(self, machine: Machine) -> str:
        return str(self.pod_of(machine)["status"]["podIP"])

    def netns_of(self, machine: Machine) -> Path:
        """The pod's on that machine."""
        pod_id = network.digest(self.pod_of(machine)["metadata"]["uid"], 12)
        return network.pod_netns(f"agent-{network.digest(self.name(machine), 8)}", pod_id)

    def log_of(self, machine: Machine) -> str:
        return (self.root / machine.name / "log").read_text()

    def caller(self, netns: Path) -> OutsideClient:
        return OutsideClient(netns, IPv4Address(0))

    def logs(self) -> str:
        return "\n".join(file.read_text()[-2000:] for file in self.root.glob("*/log"))


def connect_to_fabric(cluster: LocalCluster, outside: Path) -> None:
    """Lead the machines to the API server, behind an address of the router's."""
    config = local.load(cluster.paths)
    assert config is not None
    plan = config.plan(cluster.paths.name)
    fabric = plan.host, ip_network((int(plan.host) - 1, 22))
    address = IPv4Interface(f"{fabric[1][900]}/22")
    with network.open_namespace(outside) as target, RouteSocket(network.fabric_netns(plan.name)) as bridge:
        port = VethEnd("machines", b"\x0a\x5c\0\0\0\1", index=1000, master=network.UPLINK_INDEX)
        bridge.apply([route.veth(port, VethEnd("fabric", b"\x0a\x5c\0\0\0\2", index=50, netns=target), 1500)])
    with RouteSocket(outside) as router:
        router.apply([route.link_up(50), route.address(50, address)])
    rules = 'table ip t { chain c { type nat hook postrouting priority 100; oifname "fabric" masquerade; }; }'
    subprocess.run(["ip", "netns", "exec", outside.name, "nft", rules], check=True)


@pytest.fixture(scope="module", params=["routes", "vxlan"])
def agents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """Three machines with a pod each, all behind one NodePort Service."""
    mode, root = request.param, tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(root))
        cluster.up("--nodes", "1")
        found = stack.enter_context(machines(3, routed=mode == "vxlan"))
        connect_to_fabric(cluster, found.outside)
        config = local.load(cluster.paths)
        assert config is not None
        server = config.url.replace("127.0.0.1", str(config.plan(cluster.paths.name).host))
        bootstrap = root / "bootstrap.kubeconfig"
        token = [PROGRAM, "token", "create", "--kubeconfig", str(cluster.kubeconfig)]
        subprocess.run(
            [*token, "--write-kubeconfig", str(bootstrap), "--server", server],
            capture_output=True,
            check=True,
        )
        made = Agents(cluster, found, cluster.paths.name, mode, root, bootstrap)
        stack.callback(end_all, made)
        for machine in found.members:
            made.start(machine)
        for machine in found.members:
            container = {"name": "main", "image": "nodeport/echo", "ports": [{"containerPort": 8080}]}
            spec = {"nodeName": made.name(machine), "containers": [container]}
            cluster.create(
                PODS, {"metadata": {"name": f"on-{machine.name}", "labels": {"app": "web"}}, "spec": spec}
            )
        ports = [{"port": 80, "targetPort": 8080}]
        web = {"type": "NodePort", "selector": {"app": "web"}, "ports": ports}
        cluster.create(SERVICES, {"metadata": {"name": "web"}, "spec": web})
        cluster.wait_for_pods(3)
        yield made


def end_all(agents: Agents) -> None:
    for machine in agents.machines.members:
        agents.end(machine, signal.SIGTERM)
        agents.remove(machine)


def call(netns: Path, address: str, port: int = 8080) -> JsonObject:
    found: JsonObject = json.loads(OutsideClient(netns, IPv4Address(0)).get(address, port, "/?format=json"))
    return found


def routes_of(machine: Machine) -> dict[str, str]:
    """Pod network -> gateway of the routes to other nodes."""
    with RouteSocket(machine.netns) as inside:
        return {
            str(each.destination): str(each.gateway)
            for each in inside.routes()
            if each.protocol == route.RTPROT_PEERS
        }


def test_pods_reach_pods_of_other_machines_with_their_own_addresses(agents: Agents) -> None:
    for one in agents.machines.members:
        for other in agents.machines.members:
            said = wait_for(
                lambda one=one, other=other: call(agents.netns_of(one), agents.address_of(other)),
                f"{other.name} to answer {one.name}: {agents.logs()}",
            )
            assert said["pod"] == f"on-{other.name}"
            assert said["client"].rpartition(":")[0] == agents.address_of(one)


def test_pods_reach_each_other_by_every_address_they_have(agents: Agents) -> None:
    one, other = agents.machines.members[:2]
    addresses = [each["ip"] for each in agents.pod_of(other)["status"]["podIPs"]]
    assert len(addresses) == (2 if agents.mode == "vxlan" else 1)
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with open_in(agents.netns_of(one), lambda family=family: socket.socket(family)) as sock:
            sock.settimeout(20)
            sock.connect((address, 8080))


def test_every_machine_answers_at_the_node_port_with_pods_of_all(agents: Agents) -> None:
    port = agents.cluster.get(SERVICES, "web")["spec"]["ports"][0]["nodePort"]
    everywhere = {f"on-{machine.name}" for machine in agents.machines.members}
    for machine in agents.machines.members:
        seen: set[str] = set()

        def asked(machine: Machine = machine, seen: set[str] = seen) -> bool:
            seen.add(call(agents.machines.outside, str(machine.address), port)["pod"])
            return seen == everywhere

        wait_for(asked, f"all pods to answer through {machine.name}")


def test_a_pod_cannot_send_from_addresses_that_are_not_its_own(agents: Agents) -> None:
    """Not even with the rights to give its link more addresses: that of a node would open the VXLAN to it."""
    one, other = agents.machines.members[:2]
    with RouteSocket(agents.netns_of(one)) as inside:
        for stolen in (one.address, one.pod_cidrs[0][200]):
            inside.apply([route.address(network.UPLINK_INDEX, ip_interface(stolen))])
    target = agents.address_of(other)

    def udp(netns: Path, address: str) -> socket.socket:
        made = open_in(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.settimeout(0.5)
        made.bind((address, 0))
        return made

    with udp(agents.netns_of(other), target) as receiver:

        def arrives(source: str) -> bool:
            with udp(agents.netns_of(one), source) as sender:
                sender.sendto(b"x", receiver.getsockname())
                return receiver.recvfrom(10)[1][0] == source

        own = agents.address_of(one)
        wait_for(lambda: arrives(own), "what comes from the pod's own address")
        for stolen in (one.address, one.pod_cidrs[0][200]):
            with pytest.raises(TimeoutError):
                arrives(str(stolen))
        with RouteSocket(agents.netns_of(one)) as inside:
            for stolen in (one.address, one.pod_cidrs[0][200]):
                inside.apply([route.address_delete(network.UPLINK_INDEX, ip_interface(stolen))])


def test_pods_get_the_mtu_that_the_way_leaves(agents: Agents) -> None:
    with RouteSocket(agents.netns_of(agents.machines.members[0])) as pod:
        link = pod.link("eth0")
    assert link is not None
    assert link.mtu == (1500 if agents.mode == "routes" else 1450)


def test_a_pod_is_answered_about_names(agents: Agents) -> None:
    machine = agents.machines.members[1]
    question = dns.message.make_query("web.default.svc.cluster.local", "A")

    def answer() -> list[str]:
        with open_in(
            agents.netns_of(machine), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ) as sock:
            sock.settimeout(1)
            sock.sendto(question.to_wire(), (DNS, 53))
            found = dns.message.from_wire(sock.recv(4096))
        return [str(each) for answers in found.answer for each in answers]

    assert wait_for(answer, "an answer") == [agents.cluster.get(SERVICES, "web")["spec"]["clusterIP"]]


def test_a_node_that_plain_routes_do_not_lead_to_is_told_as_an_event(agents: Agents) -> None:
    """The cluster's own node is behind the router."""
    machine = agents.machines.members[0]

    def told() -> list[str]:
        return [
            each["message"]
            for each in agents.cluster.items(EVENTS)
            if each["reason"] == "FailedToCreateRoute"
            and each["involvedObject"]["name"] == agents.name(machine)
        ]

    if agents.mode == "vxlan":
        assert told() == []
        return
    message = next(each for each in wait_for(told, "the event") if "of node node-1" in each)
    assert "--pod-network=vxlan" in message


def test_traffic_goes_on_while_an_agent_is_killed_and_comes_back(agents: Agents) -> None:
    machine, other = agents.machines.members[:2]
    netns, address = agents.netns_of(machine), agents.address_of(other)
    uid = agents.pod_of(machine)["metadata"]["uid"]
    before = routes_of(machine)
    with agents.caller(netns).connect(address, 8080) as connection:

        def goes_on() -> None:
            connection.sendall(b"GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n")
            assert f"on-{other.name}".encode() in connection.recv(4096)

        goes_on()
        agents.end(machine, signal.SIGKILL)
        goes_on()
        assert call(netns, address)["pod"] == f"on-{other.name}"
        agents.start(machine)
        wait_for(
            lambda: "is registered" in agents.log_of(machine).rpartition("---")[2], "the agent to be back"
        )
        goes_on()
    assert routes_of(machine) == before
    assert agents.pod_of(machine)["metadata"]["uid"] == uid
    assert agents.pod_of(machine)["status"]["containerStatuses"][0]["restartCount"] == 0


def test_what_a_person_removes_is_back_soon(agents: Agents) -> None:
    machine = agents.machines.members[0]
    before = routes_of(machine)
    with RouteSocket(machine.netns) as inside:
        inside.apply([route.route_delete(ip_network(each), protocol=route.RTPROT_PEERS) for each in before])
        if link := inside.link(LINK):
            inside.apply([route.link_delete(link.index)])
    wait_for(lambda: routes_of(machine) == before, "the routes to be back")
    assert call(agents.netns_of(machine), agents.address_of(agents.machines.members[1]))


def test_a_node_that_is_deleted_is_forgotten_and_its_machine_left_clean(agents: Agents) -> None:
    machine, gone = agents.machines.members[0], agents.machines.members[2]
    network_ = str(gone.pod_cidrs[0])
    assert network_ in routes_of(machine)
    agents.end(gone, signal.SIGTERM)
    agents.cluster.delete(PODS, f"on-{gone.name}", gracePeriodSeconds=0)
    agents.cluster.delete(NODES, agents.name(gone))
    wait_for(lambda: network_ not in routes_of(machine), "the route to go")
    assert "is removed" in agents.remove(gone)
    with RouteSocket(gone.netns) as inside:
        assert set(inside.links()) <= {"lo", "eth0"}
        assert {each.protocol for version in (4, 6) for each in inside.all_routes(version)}.isdisjoint(
            {route.RTPROT_PEERS}
        )
    rules = ["ip", "netns", "exec", gone.netns.name, "nft", "list", "ruleset"]
    assert subprocess.run(rules, capture_output=True, text=True, check=True).stdout == ""
