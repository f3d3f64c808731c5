"""Names in a local cluster, asked by pods through their C library and by nodes, among them the conformance rows."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from kernel.clusters import LocalCluster, is_running, local_cluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from nodeport.netlink.namespace import open_in
from nodeport.node import network
from nodeport.testing.outside import OutsideClient
from unit.node.dns.clusternames import lines

SERVER = "10.96.0.10"
AT = "default.svc.cluster.local"
numbers = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("dns")) as made:
        made.up("--nodes", "2")
        yield made


def said(cluster: LocalCluster, script: str, **options: Any) -> list[str]:
    """What a script prints in a pod of its own."""
    name = f"asks-{next(numbers)}"
    cluster.pod(name, command=["bash", "-c", script], spec_restartPolicy="Never", **options)
    cluster.wait_for_pod(name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), "the end")
    return cluster.log_of(name).split("\n")[:-1]


def addresses(cluster: LocalCluster, *names: str, options: str = "", **pod: Any) -> list[str]:
    """For each name the addresses that the C library finds in a pod, in one line, or ``none``."""
    script = "".join(
        f"RES_OPTIONS='{options}' getent ahostsv4 {name} | cut -d' ' -f1 | sort -u | paste -sd' ' | sed 's/^$/none/'; "
        for name in names
    )
    return said(cluster, script, **pod)


def asked(cluster: LocalCluster, name: str, kind: str = "A", node: str = "node-1") -> dns.message.Message:
    """What the cluster's name server tells the node."""
    query = dns.message.make_query(name, kind)
    with open_in(
        network.node_netns(cluster.paths.name, node), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ) as sock:
        sock.setblocking(False)
        return dns.query.udp(query, SERVER, 5, sock=sock)


def records(cluster: LocalCluster, name: str, kind: str = "A", node: str = "node-1") -> list[str]:
    return sorted(lines(asked(cluster, name, kind, node).answer))


def web(cluster: LocalCluster, name: str, **spec: Any) -> JsonObject:
    """A Service of the pods with the label ``app: NAME``."""
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    return cluster.create(
        SERVICES,
        {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports, **spec}},
    )


def labelled_pod(cluster: LocalCluster, name: str, app: str, **spec: Any) -> str:
    """A running pod behind the Service ``app``; its address."""
    with cluster.session() as session:
        session.request("POST", "/api/v1/namespaces/default/pods", body={
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "nodeport/echo"}], **spec},
        })  # fmt: skip
    found = cluster.wait_for_pod(name, is_running, "it runs")
    return str(found["status"]["podIP"])


def test_dns_should_provide_dns_for_the_cluster(cluster: LocalCluster) -> None:
    name = f"kubernetes.{AT}"
    for node in ("node-1", "node-2"):
        for options in ("", "use-vc"):
            assert addresses(cluster, name, options=options, spec_nodeName=node) == ["10.96.0.1"]
    pod = IPv4Network(cluster.get(NODES, "node-2", "")["spec"]["podCIDR"])[9]
    spelled = f"{pod}".replace(".", "-") + ".default.pod.cluster.local"
    assert records(cluster, spelled) == [f"{spelled} A {pod}"]


def test_a_pods_own_node_answers_it(cluster: LocalCluster) -> None:
    found = wait_for(
        lambda: [
            each
            for each in cluster.get(ENDPOINT_SLICES, "kube-dns", "kube-system")["endpoints"]
            if each["conditions"]["ready"]
        ],
        "name servers",
    )
    assert [each["hints"]["forNodes"] for each in found] == [[{"name": "node-1"}], [{"name": "node-2"}]]


def test_dns_should_provide_etc_hosts_entries_for_the_cluster(cluster: LocalCluster) -> None:
    script = "getent -s hosts:files hosts known.sub.default.svc.cluster.local known | awk '{print $2, $3}'"
    assert said(cluster, script, spec_hostname="known", spec_subdomain="sub") == [
        f"known.sub.{AT} known",
        f"known.sub.{AT} known",
    ]


def test_dns_should_provide_dns_for_services(cluster: LocalCluster) -> None:
    address = web(cluster, "plain")["spec"]["clusterIP"]
    web(cluster, "heads", clusterIP="None")
    pods = sorted(labelled_pod(cluster, f"heads-{number}", "heads") for number in range(2))
    wait_for(lambda: len(records(cluster, f"heads.{AT}")) == 2, "both endpoints")
    assert addresses(cluster, f"plain.{AT}", f"heads.{AT}") == [address, " ".join(pods)]
    assert records(cluster, f"_http._tcp.plain.{AT}", "SRV") == [
        f"_http._tcp.plain.{AT} SRV 0 100 80 plain.{AT}."
    ]
    assert records(cluster, f"_http._tcp.heads.{AT}", "SRV") == [
        f"_http._tcp.heads.{AT} SRV 0 100 8080 {pod.replace('.', '-')}.heads.{AT}." for pod in pods
    ]
    assert said(cluster, f"getent hosts {address}")[0].split() == [address, f"plain.{AT}"]


def test_dns_should_resolve_dns_of_partial_qualified_names_for_services(cluster: LocalCluster) -> None:
    address = web(cluster, "partial")["spec"]["clusterIP"]
    names = ("partial", "partial.default", "partial.default.svc", "kube-dns.kube-system", "not-there")
    assert addresses(cluster, *names) == [address, address, address, SERVER, "none"]


def test_dns_should_provide_dns_for_pods_for_hostname(cluster: LocalCluster) -> None:
    web(cluster, "named", clusterIP="None")
    address = labelled_pod(cluster, "named-pod", "named", hostname="one", subdomain="named")
    wait_for(lambda: records(cluster, f"one.named.{AT}"), "the host's name")
    assert addresses(cluster, "one.named") == [address]
    assert said(cluster, f"getent hosts {address}")[0].split() == [address, f"one.named.{AT}"]


def test_dns_should_provide_dns_for_pods_for_subdomain(cluster: LocalCluster) -> None:
    web(cluster, "group", clusterIP="None")
    address = labelled_pod(cluster, "member", "group", hostname="member", subdomain="group")
    wait_for(lambda: records(cluster, f"group.{AT}"), "the member")
    assert addresses(cluster, "group", f"member.group.{AT}") == [address, address]


def change(cluster: LocalCluster, name: str, **spec: Any) -> JsonObject:
    with cluster.session() as session:
        path = f"/api/v1/namespaces/default/services/{name}"
        found = session.get(path)
        found["spec"] |= spec
        return session.request("PUT", path, body=found).body


def test_dns_should_provide_dns_for_externalname_services(cluster: LocalCluster) -> None:
    spec = {"type": "ExternalName", "externalName": "foo.example.com"}
    cluster.create(SERVICES, {"metadata": {"name": "far"}, "spec": spec})
    for node in ("node-1", "node-2"):
        wait_for(
            lambda node=node: (
                records(cluster, f"far.{AT}", "CNAME", node) == [f"far.{AT} CNAME foo.example.com."]
            ),
            "the alias",
        )
    change(cluster, "far", externalName="bar.example.com")
    wait_for(
        lambda: records(cluster, f"far.{AT}", "CNAME") == [f"far.{AT} CNAME bar.example.com."],
        "the new alias",
    )
    address = change(cluster, "far", type="ClusterIP", externalName="", ports=[{"port": 80}])["spec"][
        "clusterIP"
    ]
    wait_for(lambda: records(cluster, f"far.{AT}") == [f"far.{AT} A {address}"], "its address")


def test_dns_should_support_configurable_pod_dns_nameservers(cluster: LocalCluster) -> None:
    config = {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]}
    assert said(cluster, "cat /etc/resolv.conf", spec_dnsPolicy="None", spec_dnsConfig=config) == [
        "search resolv.conf.local",
        "nameserver 1.1.1.1",
    ]


def called(cluster: LocalCluster, *places: str) -> list[str]:
    """The first line of what HTTP answers at each ``name/port``, called from a pod."""
    script = "".join(
        f"(exec 3<>/dev/tcp/{place}; printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3 | cut -d' ' -f2) 2>/dev/null; "
        for place in places
    )
    return said(cluster, script)


def test_services_are_called_by_their_names_whatever_type_they_change_to(cluster: LocalCluster) -> None:
    labelled_pod(cluster, "answers", "changes")
    spec: JsonObject = {
        "type": "ExternalName",
        "externalName": f"kubernetes.{AT}",
        "selector": {"app": "changes"},
    }
    cluster.create(SERVICES, {"metadata": {"name": "changes"}, "spec": spec})
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    for kind in ("ClusterIP", "NodePort"):
        alias = f"changes.{AT} CNAME kubernetes.{AT}."
        wait_for(lambda: alias in records(cluster, f"changes.{AT}"), "the alias")  # noqa: B023
        made = change(cluster, "changes", type=kind, externalName="", ports=ports)["spec"]
        wait_for(lambda: records(cluster, f"changes.{AT}") == [f"changes.{AT} A {made['clusterIP']}"], kind)  # noqa: B023
        places = ["changes/80"]
        if kind == "NodePort":
            places += [f"{ip}/{made['ports'][0]['nodePort']}" for ip in cluster.node_addresses().values()]
        assert wait_for(lambda: called(cluster, *places) == ["200"] * len(places), "answers")  # noqa: B023
        change(cluster, "changes", **spec, clusterIP="", clusterIPs=[], ports=[])


def test_services_should_be_able_to_create_a_functioning_nodeport_service(cluster: LocalCluster) -> None:
    made = web(cluster, "ported", type="NodePort")["spec"]
    labelled_pod(cluster, "ported-pod", "ported")
    places = ["ported/80", f"{made['clusterIP']}/80"]
    places += [f"{ip}/{made['ports'][0]['nodePort']}" for ip in cluster.node_addresses().values()]
    wait_for(lambda: called(cluster, *places) == ["200"] * 4, "answers at all of them")


def test_services_should_serve_a_basic_endpoint_from_pods(cluster: LocalCluster) -> None:
    web(cluster, "basic")

    def leads_to(*pods: str) -> bool:
        return wait_for(lambda: endpoints(cluster, "basic") == sorted(pods), f"endpoints {pods}") is True

    assert leads_to()
    assert called(cluster, "basic/80") == []
    first = labelled_pod(cluster, "basic-1", "basic")
    assert leads_to(first)
    wait_for(lambda: called(cluster, "basic/80") == ["200"], "an answer")
    second = labelled_pod(cluster, "basic-2", "basic")
    assert leads_to(first, second)
    cluster.delete(PODS, "basic-1")
    assert leads_to(second)
    wait_for(lambda: called(cluster, "basic/80") == ["200"], "an answer")
    cluster.delete(PODS, "basic-2")
    assert leads_to()


def endpoints(cluster: LocalCluster, service: str) -> list[str]:
    """The ready addresses of the Service's slices."""
    return sorted(
        found["addresses"][0]
        for item in cluster.items(ENDPOINT_SLICES)
        if item["metadata"]["labels"].get("kubernetes.io/service-name") == service
        for found in item.get("endpoints") or ()
        if found["conditions"]["ready"]
    )


def test_nobody_but_pods_and_nodes_is_answered(cluster: LocalCluster) -> None:
    query = dns.message.make_query(f"kubernetes.{AT}", "A")
    with OutsideClient.on(cluster.paths.name) as outside:
        sock = open_in(outside.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with sock:
            sock.setblocking(False)
            answer = dns.query.udp(query, cluster.node_addresses()["node-1"], 5, 10053, sock=sock)
    assert (answer.rcode(), answer.answer) == (dns.rcode.REFUSED, [])


def test_names_are_answered_again_after_the_nodes_were_killed(cluster: LocalCluster) -> None:
    cluster.kill("nodes")
    cluster.up()
    wait_for(lambda: records(cluster, f"kubernetes.{AT}") == [f"kubernetes.{AT} A 10.96.0.1"], "an answer")
