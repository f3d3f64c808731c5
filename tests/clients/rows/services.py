"""Services and what lies around them."""

from __future__ import annotations

from clients.kit import Kit, row, wait_for


@row("create", "service clusterip, nodeport --node-port, loadbalancer, externalname")
def create_services(k: Kit) -> None:
    k("create", "service", "clusterip", "c", "--tcp=80:8080")
    k("create", "service", "clusterip", "h", "--tcp=80", "--clusterip=None")
    k("create", "service", "nodeport", "n", "--tcp=80:8080")
    k("create", "service", "loadbalancer", "l", "--tcp=80")
    k("create", "service", "externalname", "e", "--external-name=example.com")
    kinds = k("get", "svc", "-o", "custom-columns=T:.spec.type", "--no-headers").split()
    assert kinds == ["ClusterIP", "ExternalName", "ClusterIP", "LoadBalancer", "NodePort"]
    assert 30086 <= int(k.path("svc", "n", ".spec.ports[0].nodePort")) <= 32767


@row("create", "service nodeport: a port out of range or taken is refused in Kubernetes' words")
def create_refused_port(k: Kit) -> None:
    text = k("create", "service", "nodeport", "low", "--tcp=80", "--node-port=80", code=1)
    assert "provided port is not in the valid range. The range of valid ports is 30000-32767" in text
    k("create", "service", "nodeport", "n", "--tcp=80")
    port = k.path("svc", "n", ".spec.ports[0].nodePort")
    text = k("create", "service", "nodeport", "m", "--tcp=80", f"--node-port={port}", code=1)
    assert f"Invalid value: {port}: provided port is already allocated" in text


@row("expose", "a deployment, a pod, a service, a replicationcontroller")
def expose_everything(k: Kit) -> None:
    k("create", "deployment", "web", "--image=nodeport/echo")
    k("expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=8080")
    assert k.path("svc", "web", ".spec.selector.app") == "web"
    wait_for(lambda: k.endpoints("web"), "endpoints of web")
    k("expose", "service", "web", "--name=web2", "--port=81", "--target-port=8080")
    k("run", "solo", "--image=nodeport/echo", "--labels=app=solo", "--port=8080")
    k("expose", "pod", "solo")
    assert k.path("svc", "solo", ".spec.ports[0].port") == "8080"
    k.apply({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old"},
        "spec": {"replicas": 0, "selector": {"app": "old"}, "template": {
            "metadata": {"labels": {"app": "old"}},
            "spec": {"containers": [{"name": "main", "image": "nodeport/echo"}]},
        }},
    })  # fmt: skip
    k("expose", "rc", "old", "--port=1234", "--target-port=6379")
    assert k.path("svc", "old", ".spec.selector.app") == "old"


@row("get", "services: the columns, NodePort in PORT(S), -o wide")
def get_services(k: Kit) -> None:
    k("create", "service", "nodeport", "n", "--tcp=80:8080")
    head, line = k("get", "svc", "n", "-o", "wide").splitlines()
    assert head.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    assert line.split()[4].startswith("80:3")
    assert line.split()[6] == "app=n"


@row("describe", "a service with its endpoints")
def describe_service(k: Kit) -> None:
    k.deployment("web")
    k("expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=8080")
    address = wait_for(lambda: k.endpoints("web"), "endpoints of web")
    text = k("describe", "svc", "web")
    assert f"Endpoints:                {address}:8080" in text
    assert "Type:                     NodePort" in text
    assert "Session Affinity:         None" in text


@row("describe", "endpoints, endpointslices, an ingress", since="1.21")
def describe_endpoints(k: Kit) -> None:
    k("create", "service", "clusterip", "web", "--tcp=80:8080")
    wait_for(lambda: k("get", "endpointslices", "-o", "name"), "a slice")
    assert "AddressType:" in k("describe", "endpointslices")
    assert "Name:         web" in k("describe", "endpoints", "web")
    k.apply({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "in"},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    })  # fmt: skip
    assert "web:80" in k("describe", "ingress", "in")


@row("create", "ingress", since="1.21")
def create_ingress(k: Kit) -> None:
    k("create", "ingress", "in", "--rule=example.com/path*=web:80")
    assert k.path("ingress", "in", ".spec.rules[0].http.paths[0].pathType") == "Prefix"
    assert "example.com" in k("get", "ingress", "in")


@row("get", "servicecidrs, ipaddresses", since="1.33")
def get_addresses(k: Kit) -> None:
    assert "kubernetes" in k("get", "servicecidrs")
    k("create", "service", "clusterip", "c", "--tcp=80")
    address = k.path("svc", "c", ".spec.clusterIP")
    assert f"services/{k.namespace}/c" in k("get", "ipaddress", address)
