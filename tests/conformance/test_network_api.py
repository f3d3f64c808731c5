"""The rows of Kubernetes' network conformance that an API server must pass alone; each test bears its row's name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from conformance.dynamic import Api
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

Json = dict[str, Any]
STRATEGIC = "application/strategic-merge-patch+json"
NETWORKING = "/apis/networking.k8s.io/v1"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with running_apiserver() as running:
        yield running


@pytest.fixture
async def api(server: RunningApiServer) -> AsyncIterator[Api]:
    connector = aiohttp.TCPConnector(ssl=server.admin_config.ssl_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Api(session, server.url)


@pytest.fixture
async def namespace(api: Api) -> str:
    """As every upstream test has one of its own."""
    made = await api.create("/api/v1/namespaces", {"metadata": {"generateName": "conformance-"}})
    return str(made["metadata"]["name"])


def service(name: str, kind: str = "ClusterIP", **more: Any) -> Json:
    spec = {"type": kind, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **more.pop("spec", {})}
    return {"metadata": {"name": name, **more}, "spec": spec}


async def test_api_server_should_provide_secure_master_service(api: Any) -> None:
    found = await api.get("/api/v1/namespaces/default/services/kubernetes")
    assert [(port["name"], port["port"]) for port in found["spec"]["ports"]] == [("https", 443)]


async def test_services_should_find_a_service_from_listing_all_namespaces(api: Any, namespace: str) -> None:
    labels = {"test-service-static": "true"}
    await api.create(f"/api/v1/namespaces/{namespace}/services", service("found", labels=labels))
    listed = await api.get("/api/v1/services?labelSelector=test-service-static%3Dtrue")
    assert [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in listed["items"]] == [
        (namespace, "found")
    ]


async def test_services_should_complete_a_service_status_lifecycle(api: Any, namespace: str) -> None:
    path, labels = f"/api/v1/namespaces/{namespace}/services", {"test-service-static": "true"}
    revision = (await api.get(path))["metadata"]["resourceVersion"]
    async with api.watching(
        f"{path}?labelSelector=test-service-static%3Dtrue&resourceVersion={revision}"
    ) as events:
        spec = {"loadBalancerClass": "example.com/internal-vip"}
        await api.create(path, service("test", "LoadBalancer", labels=labels, spec=spec))
        await events.until("ADDED", "test")
        assert (await api.get(f"{path}/test/status"))["status"] == {"loadBalancer": {}}
        patch = {
            "metadata": {"annotations": {"patchedstatus": "true"}},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
        }
        patched = await api.patch(f"{path}/test/status", patch)
        assert patched["metadata"]["annotations"] == {"patchedstatus": "true"}
        assert patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
        seen = await events.until("MODIFIED", "test")
        assert seen["status"] == patched["status"]
        condition = {
            "type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test",
            "lastTransitionTime": None,
        }  # fmt: skip
        patched["status"]["conditions"] = [condition]
        updated = await api.update(f"{path}/test/status", patched)
        assert [each["type"] for each in updated["status"]["conditions"]] == ["StatusUpdate"]
        await events.until("MODIFIED", "test")
        labelled = await api.patch(
            f"{path}/test", {"metadata": {"labels": {"test-service": "patched"}}}, STRATEGIC
        )
        assert labelled["metadata"]["labels"] == {**labels, "test-service": "patched"}
        assert labelled["status"] == updated["status"]
        assert (await events.until("MODIFIED", "test"))["metadata"]["labels"]["test-service"] == "patched"
        await api.delete(f"{path}/test")
        await events.until("DELETED", "test")


async def test_services_should_delete_a_collection_of_services(api: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    for name, label in (("one", "yes"), ("two", "yes"), ("three", "no")):
        await api.create(path, service(name, labels={"e2e-collection": label}))
    await api.delete(f"{path}?labelSelector=e2e-collection%3Dyes")
    assert await api.names(path) == ["three"]


async def _full_set_of_verbs(api: Any, namespace: str, resource: str, obj: Json, everywhere: str) -> Json:
    """create, get, list, watch, patch and update of three objects, as the "API operations" rows have them."""
    path = f"{everywhere.rpartition('/')[0]}/namespaces/{namespace}/{resource}" if namespace else everywhere
    selector = "labelSelector=special-label%3Dyes"
    labels = {"special-label": "yes"}
    body = {**obj, "metadata": {"generateName": "e2e-", "labels": labels}}
    made = [await api.create(path, body) for _ in range(3)]
    name, names = made[0]["metadata"]["name"], sorted(each["metadata"]["name"] for each in made)
    assert len(set(names)) == 3
    assert (await api.get(f"{path}/{name}"))["metadata"]["uid"] == made[0]["metadata"]["uid"]
    assert await api.names(f"{path}?{selector}") == names
    listed = await api.get(f"{everywhere}?{selector}")
    assert sorted(each["metadata"]["name"] for each in listed["items"]) == names
    async with api.watching(
        f"{everywhere}?{selector}&resourceVersion={listed['metadata']['resourceVersion']}"
    ) as events:
        patched = await api.patch(f"{path}/{name}", {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        assert (await events.until("MODIFIED", name))["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await api.update(f"{path}/{name}", patched)
        assert int(updated["metadata"]["resourceVersion"]) > int(made[2]["metadata"]["resourceVersion"])
        assert (await events.until("MODIFIED", name))["metadata"]["annotations"]["updated"] == "true"
    return updated


async def _delete_and_delete_collection(api: Any, path: str, name: str) -> None:
    selector = "labelSelector=special-label%3Dyes"
    await api.delete(f"{path}/{name}")
    assert await api.is_missing(f"{path}/{name}")
    assert len(await api.names(f"{path}?{selector}")) == 2
    await api.delete(f"{path}?{selector}")
    assert await api.names(f"{path}?{selector}") == []


async def test_ingress_api_should_support_creating_ingress_api_operations(api: Any, namespace: str) -> None:
    known = await api.resources("networking.k8s.io", "v1")
    assert known["ingresses"]["kind"] == known["ingresses/status"]["kind"] == "Ingress"
    backend = {"service": {"name": "default-backend", "port": {"number": 80}}}
    updated = await _full_set_of_verbs(
        api, namespace, "ingresses", {"spec": {"defaultBackend": backend}}, f"{NETWORKING}/ingresses"
    )
    path, name = f"{NETWORKING}/namespaces/{namespace}/ingresses", updated["metadata"]["name"]
    patch = {
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    }
    patched = await api.patch(f"{path}/{name}/status", patch)
    assert patched["status"] == patch["status"]
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    patched["status"]["loadBalancer"]["ingress"] = [{"ip": "169.1.1.2", "hostname": "h.example.com"}]
    stored = await api.update(f"{path}/{name}/status", patched)
    assert stored["status"] == patched["status"] == (await api.get(f"{path}/{name}/status"))["status"]
    assert stored["metadata"]["generation"] == updated["metadata"]["generation"]
    await _delete_and_delete_collection(api, path, name)


async def test_ingress_class_api_should_support_creating_ingress_class_api_operations(api: Any) -> None:
    known = await api.resources("networking.k8s.io", "v1")
    assert (known["ingressclasses"]["kind"], known["ingressclasses"]["namespaced"]) == ("IngressClass", False)
    path = f"{NETWORKING}/ingressclasses"
    updated = await _full_set_of_verbs(
        api, "", "ingressclasses", {"spec": {"controller": "example.com/controller"}}, path
    )
    await _delete_and_delete_collection(api, path, updated["metadata"]["name"])


async def test_service_cidr_and_ip_address_api_should_support_service_cidr_api_operations(api: Any) -> None:
    known = await api.resources("networking.k8s.io", "v1")
    assert (known["servicecidrs"]["kind"], known["servicecidrs"]["namespaced"]) == ("ServiceCIDR", False)
    assert known["servicecidrs/status"]["kind"] == "ServiceCIDR"
    default = await api.get(f"{NETWORKING}/servicecidrs/kubernetes")
    assert (await api.get(f"{NETWORKING}/servicecidrs/kubernetes/status"))["spec"] == default["spec"]
    assert "kubernetes" in await api.names(f"{NETWORKING}/servicecidrs")
    async with api.watching(f"{NETWORKING}/servicecidrs") as events:
        assert (await events.until("ADDED", "kubernetes"))["spec"] == default["spec"]


async def test_service_cidr_and_ip_address_api_should_support_ip_address_api_operations(api: Any) -> None:
    known = await api.resources("networking.k8s.io", "v1")
    assert (known["ipaddresses"]["kind"], known["ipaddresses"]["namespaced"]) == ("IPAddress", False)
    path, selector = f"{NETWORKING}/ipaddresses", "labelSelector=ip.test%3Dtrue"
    parent = {"resource": "services", "name": "my-service", "namespace": "default"}
    revision = (await api.get(path))["metadata"]["resourceVersion"]
    async with api.watching(f"{path}?{selector}&resourceVersion={revision}") as events:
        for name in ("255.255.255.255", "203.0.113.1", "203.0.113.2"):
            labels = {"ip.test": "true", "ipaddress.kubernetes.io/managed-by": "e2e"}
            await api.create(
                path, {"metadata": {"name": name, "labels": labels}, "spec": {"parentRef": parent}}
            )
            assert (await events.until("ADDED", name))["spec"]["parentRef"] == parent
        name = "255.255.255.255"
        patched = await api.patch(f"{path}/{name}", {"metadata": {"annotations": {"patched": "true"}}})
        await events.until("MODIFIED", name)
        patched["metadata"]["labels"]["updated"] = "true"
        assert (await api.update(f"{path}/{name}", patched))["metadata"]["labels"]["updated"] == "true"
        await events.until("MODIFIED", name)
        await api.delete(f"{path}/{name}")
        await events.until("DELETED", name)
        assert await api.names(f"{path}?{selector}") == ["203.0.113.1", "203.0.113.2"]
        await api.delete(f"{path}?{selector}")
        await events.until("DELETED", "203.0.113.2")
    assert await api.names(f"{path}?{selector}") == []
