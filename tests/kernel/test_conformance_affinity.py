"""The conformance rows about session affinity, each named after its upstream test: asked from a pod, sixteen times."""

from __future__ import annotations

import json
import socket

import pytest

from kernel.clusters import LocalCluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import SERVICES
from nodeport.netlink.namespace import open_in
from nodeport.node import network

ASKS = 16
Place = tuple[str, int]


@pytest.fixture(scope="module")
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    """Two nodes, and three pods behind the Service ``web``."""
    module_cluster.up("--nodes", "2")
    module_cluster.deploy(3)
    return module_cluster


@pytest.fixture
def service(cluster: LocalCluster) -> JsonObject:
    """``web`` without affinity."""
    switch(cluster, "None")
    return cluster.get(SERVICES, "web")


def switch(cluster: LocalCluster, affinity: str) -> None:
    item = cluster.get(SERVICES, "web")
    item["spec"]["sessionAffinity"] = affinity
    with cluster.session() as session:
        session.request("PUT", SERVICES.path("default", "web"), body=item)


def answers(cluster: LocalCluster, place: Place) -> set[str]:
    """The pods that answer the first pod's requests; one that is lost does not count as an answer."""
    uid = cluster.ready_pods()[0]["metadata"]["uid"]
    netns = network.pod_netns(cluster.paths.name, network.digest(uid, 12))
    found: set[str] = set()
    for _ in range(ASKS):
        with open_in(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as asking:
            asking.settimeout(5)
            asking.connect(place)
            asking.sendall(b"GET /?format=json HTTP/1.0\r\nHost: web\r\n\r\n")
            answer = b""
            while part := asking.recv(65536):
                answer += part
        found.add(json.loads(answer.split(b"\r\n\r\n", 1)[1])["pod"])
    return found


def wait_until_it_holds(cluster: LocalCluster, place: Place) -> None:
    wait_for(lambda: len(answers(cluster, place)) == 1, "one pod to answer everything")


def wait_until_it_does_not(cluster: LocalCluster, place: Place) -> None:
    wait_for(lambda: len(answers(cluster, place)) > 1, "several pods to answer")


def cluster_ip(service: JsonObject) -> Place:
    return service["spec"]["clusterIP"], 80


def node_port(cluster: LocalCluster, service: JsonObject) -> Place:
    return min(cluster.node_addresses().values()), service["spec"]["ports"][0]["nodePort"]


def test_services_should_have_session_affinity_work_for_service_with_type_clusterip(
    cluster: LocalCluster, service: JsonObject
) -> None:
    switch(cluster, "ClientIP")
    wait_until_it_holds(cluster, cluster_ip(service))


def test_services_should_have_session_affinity_work_for_nodeport_service(
    cluster: LocalCluster, service: JsonObject
) -> None:
    switch(cluster, "ClientIP")
    wait_until_it_holds(cluster, node_port(cluster, service))


def test_services_should_be_able_to_switch_session_affinity_for_service_with_type_clusterip(
    cluster: LocalCluster, service: JsonObject
) -> None:
    wait_until_it_does_not(cluster, cluster_ip(service))
    switch(cluster, "ClientIP")
    wait_until_it_holds(cluster, cluster_ip(service))


def test_services_should_be_able_to_switch_session_affinity_for_nodeport_service(
    cluster: LocalCluster, service: JsonObject
) -> None:
    wait_until_it_does_not(cluster, node_port(cluster, service))
    switch(cluster, "ClientIP")
    wait_until_it_holds(cluster, node_port(cluster, service))
