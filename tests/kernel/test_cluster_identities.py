"""Who the nodes of a local cluster are to its API: each one itself, kept to what is its own."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from cryptography import x509

from kernel.clusters import LocalCluster, is_running
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    CLUSTER_ROLES,
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from nodeport.api.status import ApiError
from nodeport.cli.session import Session
from nodeport.client.config import ClientConfig
from nodeport.node import local

Ask = Callable[..., JsonObject]


def asking(cluster: LocalCluster, stem: str) -> Ask:
    """Sends requests as whoever the certificate of that name says; raises ApiError."""
    config = local.load(cluster.paths)
    assert config is not None
    identity = cluster.paths.certificate(stem), cluster.paths.key(stem)
    who = ClientConfig(config.url, cluster.paths.certificate("ca").read_bytes(), *identity)

    def ask(
        method: str, path: str, body: JsonObject | None = None, content_type: str = "application/json"
    ) -> JsonObject:
        with Session(who) as session:
            return session.request(method, path, body=body, content_type=content_type).body

    return ask


def refusal(
    ask: Ask, method: str, path: str, body: JsonObject | None = None, content_type: str = "application/json"
) -> str:
    with pytest.raises(ApiError) as caught:
        ask(method, path, body, content_type)
    assert caught.value.code == 403
    return caught.value.message


@pytest.fixture(scope="module")
def up(module_cluster: LocalCluster) -> LocalCluster:
    """Two nodes, a pod on each; that of the first one reads the Secret ``used``."""
    module_cluster.up("--nodes", "2")
    for name in ("used", "unused"):
        module_cluster.create(SECRETS, {"metadata": {"name": name}, "stringData": {"key": name}})
    secret = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "used", "key": "key"}}}]
    module_cluster.pod("first", spec_nodeName="node-1", env=secret)
    module_cluster.pod("second", spec_nodeName="node-2")
    for name in ("first", "second"):
        module_cluster.wait_for_pod(name, is_running, "to run with what it refers to")
    return module_cluster


def test_each_node_has_a_certificate_of_its_own_that_only_root_reads(up: LocalCluster) -> None:
    for number in (1, 2):
        certificate = up.paths.certificate(f"node-node-{number}")
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject.rfc4514_string()
        assert subject == f"CN=system:node:node-{number},O=system:nodes"
        assert up.paths.key(f"node-node-{number}").stat().st_mode & 0o777 == 0o600
    keys = {up.paths.key(f"node-node-{number}").read_bytes() for number in (1, 2)}
    assert len(keys) == 2


def test_a_nodes_server_shows_that_nodes_certificate(up: LocalCluster) -> None:
    for name, address in up.node_addresses().items():
        shown = ssl.get_server_certificate((address, 10250))
        assert x509.load_pem_x509_certificate(shown.encode()) == x509.load_pem_x509_certificate(
            up.paths.certificate(f"node-{name}").read_bytes()
        )


def test_a_node_reads_the_secrets_of_its_pods_and_no_others(up: LocalCluster) -> None:
    node = asking(up, "node-node-1")
    assert node("GET", SECRETS.path("default", "used"))["metadata"]["name"] == "used"
    for path in (
        SECRETS.path("default", "unused"),
        SECRETS.path("default"),
        SECRETS.path(),
        CONFIG_MAPS.path("kube-system"),
    ):
        refusal(node, "GET", path)
    assert "no relationship found" in refusal(
        asking(up, "node-node-2"), "GET", SECRETS.path("default", "used")
    )


def test_a_node_gets_tokens_for_its_own_pods_only(up: LocalCluster) -> None:
    node = asking(up, "node-node-1")
    path = SERVICE_ACCOUNTS.path("default", "default", "token")

    def request(pod: str, **more: str) -> JsonObject:
        uid = up.get(PODS, pod)["metadata"]["uid"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid, **more}
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound},
        }

    unbound = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    assert "not bound to a pod" in refusal(node, "POST", path, unbound)
    assert "scheduled on a different node" in refusal(node, "POST", path, request("second"))
    assert node("POST", path, request("first"))["status"]["token"]
    strange = SERVICE_ACCOUNTS.path("kube-system", "default", "token")
    assert "no relationship found" in refusal(node, "POST", strange, unbound)


def test_a_node_writes_its_own_objects_only(up: LocalCluster) -> None:
    node, merge = asking(up, "node-node-1"), "application/merge-patch+json"
    label = {"metadata": {"labels": {"app": "stolen"}}}
    assert "cannot update labels" in refusal(
        node, "PATCH", PODS.path("default", "first", "status"), label, merge
    )
    refusal(node, "PATCH", PODS.path("default", "second", "status"), {"status": {"phase": "Failed"}}, merge)
    refusal(node, "PATCH", NODES.path("", "node-2", "status"), {"status": {}}, merge)
    refusal(node, "DELETE", PODS.path("default", "second"))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "new"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "nodeport/echo"}]},
    }
    assert "can only create mirror pods" in refusal(node, "POST", PODS.path("default"), pod)


def test_what_all_nodes_share_reads_services_and_nothing_that_is_secret(up: LocalCluster) -> None:
    shared = asking(up, "proxy")
    for row in (SERVICES, ENDPOINT_SLICES, NODES):
        shared("GET", row.path())
    for path in (SECRETS.path(), CONFIG_MAPS.path(), PODS.path()):
        refusal(shared, "GET", path)
    refusal(
        shared, "PATCH", NODES.path("", "node-1", "status"), {"status": {}}, "application/merge-patch+json"
    )


def test_the_user_that_was_all_nodes_is_gone(up: LocalCluster) -> None:
    assert not [path.name for path in up.paths.pki.glob("node-local*")]
    names = {role["metadata"]["name"] for role in up.get(CLUSTER_ROLES)["items"]}
    assert not [name for name in names if "local-nodes" in name]
