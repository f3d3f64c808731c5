"""The conformance rows about hand-written slices, with real packets: proxies unite all slices of a Service."""

from __future__ import annotations

from kernel.clusters import LocalCluster, call, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, SERVICES


def by_hand(name: str, ip: str, **ports: int) -> JsonObject:
    """A slice of the Service ``web`` that nobody manages."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip]}],
        "ports": [{"name": key, "port": number, "protocol": "TCP"} for key, number in ports.items()],
    }


def node_ports(cluster: LocalCluster, *names: str) -> list[int]:
    """The node ports of a Service ``web`` without a selector, one for each name."""
    ports = [{"name": name, "port": 80 + number} for number, name in enumerate(names)]
    made = cluster.create(
        SERVICES, {"metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": ports}}
    )
    return [int(port["nodePort"]) for port in made["spec"]["ports"]]


def test_endpointslice_should_support_a_service_with_multiple_ports_specified_in_multiple_endpointslices(
    cluster: LocalCluster,
) -> None:
    cluster.up("--nodes", "2")
    cluster.pod("pod1", env=[{"name": "PORT", "value": "8090,9090"}])
    [pod] = cluster.wait_for_pods(1)
    first, second = node_ports(cluster, "first", "second")
    cluster.create(ENDPOINT_SLICES, by_hand("one", pod["status"]["podIP"], first=8090))
    cluster.create(ENDPOINT_SLICES, by_hand("other", pod["status"]["podIP"], second=9090))
    for address in cluster.node_addresses().values():
        for port in (first, second):
            assert wait_for(lambda a=address, p=port: call(a, p), f"{address}:{port}")["pod"] == "pod1"


def test_endpointslice_should_support_a_service_with_multiple_endpoint_ips_specified_in_multiple_endpointslices(
    cluster: LocalCluster,
) -> None:
    cluster.up("--nodes", "2")
    for name in ("pod1", "pod2"):
        cluster.pod(name)
    [port] = node_ports(cluster, "http")
    for number, pod in enumerate(cluster.wait_for_pods(2)):
        cluster.create(ENDPOINT_SLICES, by_hand(f"slice-{number}", pod["status"]["podIP"], http=8080))
    for address in cluster.node_addresses().values():
        heard: set[str] = set()

        def both(address: str = address, heard: set[str] = heard) -> bool:
            heard.add(call(address, port)["pod"])
            return heard == {"pod1", "pod2"}

        wait_for(both, f"both pods to answer at {address}")
