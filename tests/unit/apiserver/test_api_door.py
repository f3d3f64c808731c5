"""Paths, methods, media types, documents and who may ask."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import tracemalloc
from typing import Any

import aiohttp
import pytest
from yarl import URL

from nodeport.api.resources import RESOURCES
from nodeport.apiserver.auth import User
from nodeport.testing.apiserver import running_apiserver

SERVICES = "/api/v1/namespaces/default/services"


@pytest.mark.parametrize(
    "path",
    [
        "/nonsense", "/api/v2", "/api/v1/widgets", "/apis/apps/v2", "/apis/apps/v1/pods", "/apis/none",
        "/api/v1/namespaces/default/nodes", "/api/v1/services/x", "/api/v1/namespaces/default/services/x/proxied",
        "/api/v1/namespaces/default/services/a/b/c", "/api/v1/namespaces//services", "/openapi/v3/api/v9",
    ],
)  # fmt: skip
async def test_unknown_paths_are_404(raw: Any, path: str) -> None:
    answer = await raw("GET", path)
    assert (answer.status, answer.json["kind"], answer.reason) == (404, "Status", "NotFound")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", SERVICES), ("PATCH", SERVICES), ("POST", f"{SERVICES}/x"), ("POST", "/api/v1/services"),
        ("DELETE", f"{SERVICES}/x/status"), ("GET", "/api/v1/namespaces/default/pods/x/binding"),
        ("DELETE", "/api"), ("OPTIONS", SERVICES), ("POST", "/healthz"),
    ],
)  # fmt: skip
async def test_methods_that_mean_nothing_are_405(raw: Any, method: str, path: str) -> None:
    answer = await raw(method, path)
    assert (answer.status, answer.reason) == (405, "MethodNotAllowed")
    assert answer.message == "the server does not allow this method on the requested resource"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_bodies_are_read_as_they_come_whatever_their_coding_is_called(raw: Any, coding: str) -> None:
    body = {"metadata": {"name": "plain"}, "spec": {"ports": [{"port": 80}]}}
    assert (await raw("POST", f"{SERVICES}?dryRun=All", body, Content_Encoding=coding)).status == 201
    packed = await raw("POST", SERVICES, gzip.compress(json.dumps(body).encode()), Content_Encoding=coding)
    assert (packed.status, packed.reason) == (400, "BadRequest")


async def test_unacceptable_answers_are_406(raw: Any) -> None:
    answer = await raw("GET", SERVICES, Accept="application/vnd.kubernetes.protobuf")
    assert (answer.status, answer.reason) == (406, "NotAcceptable")
    assert answer.message == "only the following media types are accepted: application/json, application/yaml"
    good = await raw("GET", SERVICES, Accept="application/vnd.kubernetes.protobuf,application/json")
    assert good.status == 200


async def test_legacy_discovery(raw: Any) -> None:
    assert (await raw.get("/api"))["versions"] == ["v1"]
    groups = {group["name"]: group for group in (await raw.get("/apis"))["groups"]}
    assert set(groups) == {row.group for row in RESOURCES if row.group}
    assert groups["apps"]["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert (await raw.get("/apis/apps"))["kind"] == "APIGroup"
    resources = {each["name"]: each for each in (await raw.get("/api/v1"))["resources"]}
    assert resources["services"]["shortNames"] == ["svc"]
    assert resources["services"]["categories"] == ["all"]
    assert "deletecollection" not in resources["namespaces"]["verbs"]
    apps = {each["name"]: each for each in (await raw.get("/apis/apps/v1"))["resources"]}
    scale = apps["deployments/scale"]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")


async def test_aggregated_discovery(raw: Any) -> None:
    accept = (
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    )
    answer = await raw("GET", "/apis", Accept=accept)
    assert (
        answer.headers["Content-Type"]
        == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    )
    found = {item["metadata"]["name"]: item for item in answer.json["items"]}
    resources = {each["resource"]: each for each in found["apps"]["versions"][0]["resources"]}
    deployments = resources["deployments"]
    assert (deployments["scope"], deployments["singularResource"]) == ("Namespaced", "deployment")
    assert [each["subresource"] for each in deployments["subresources"]] == ["status", "scale"]
    core = (await raw("GET", "/api", Accept=accept)).json
    assert "name" not in core["items"][0]["metadata"]


async def test_openapi_lets_kubectl_validate_and_explain(raw: Any) -> None:
    paths = (await raw.get("/openapi/v3"))["paths"]
    assert set(paths) >= {row.base_path.removeprefix("/") for row in RESOURCES}
    document = await raw.get(paths["apis/apps/v1"]["serverRelativeURL"])
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
    }
    assert {"fieldValidation", "dryRun"} <= {each["name"] for each in patch["parameters"]}
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    assert "io.k8s.api.core.v1.PodSpec" in document["components"]["schemas"]
    assert "io.k8s.api.core.v1.Service" not in document["components"]["schemas"]
    assert (await raw.get("/openapi/v2"))["swagger"] == "2.0"


async def test_health_version_and_metrics(raw: Any) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping"):
        assert (await raw("GET", path)).body == b"ok"
    assert (
        await raw("GET", "/livez?verbose")
    ).body == b"[+]ping ok\n[+]store ok\n[+]started ok\nlivez check passed\n"
    excluded = (await raw("GET", "/readyz?verbose&exclude=ping&exclude=etcd&exclude=started")).body
    assert excluded == (
        b"[+]ping excluded: ok\n[+]store ok\n[+]started excluded: ok\n"
        b'warn: some health checks cannot be excluded: no matches for "etcd"\nreadyz check passed\n'
    )
    for path in ("/healthz/etcd", "/readyz/ping/store"):
        assert (await raw("GET", path)).status == 404
    found = await raw.get("/version")
    assert (found["major"], found["minor"], found["gitVersion"]) == ("1", "36", "v1.36.1+nodeport")
    assert int(found["gitCommit"], 16) == 0
    assert (
        b'apiserver_request_total{verb="GET",resource="",code="200"}' in (await raw("GET", "/metrics")).body
    )


async def test_answers_are_not_to_be_cached(raw: Any) -> None:
    assert (await raw("GET", SERVICES)).headers["Cache-Control"] == "no-cache, private"


@pytest.fixture
def anonymous_tls(api: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=api.ca_pem.decode())
    assert isinstance(context, ssl.SSLContext)
    return context


async def fetch(url: str, tls: ssl.SSLContext, **headers: str) -> tuple[int, Any]:
    connector = aiohttp.TCPConnector(ssl=tls)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, headers=headers) as response,
    ):
        if response.content_type == "application/json":
            return response.status, await response.json()
        return response.status, await response.text()


async def test_nobody_sees_health_and_version_only(api: Any, anonymous_tls: ssl.SSLContext) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert (await fetch(f"{api.url}{path}", anonymous_tls))[0] == 200
    assert (await fetch(f"{api.url}/healthz", anonymous_tls, Authorization="Bearer wrong"))[0] == 401
    for path in ("/api", "/apis/apps/v1", SERVICES, "/metrics", "/openapi/v3", "/nonsense"):
        status, body = await fetch(f"{api.url}{path}", anonymous_tls)
        assert (status, body["reason"]) == (403, "Forbidden")
        assert 'User "system:anonymous" cannot ' in body["message"]
    status, body = await fetch(f"{api.url}/nonsense", anonymous_tls)
    assert body["message"] == 'forbidden: User "system:anonymous" cannot get path "/nonsense"'
    assert (await fetch(f"{api.url}/readyz/ping", anonymous_tls))[0] == 403
    assert (await fetch(f"{api.url}/version", anonymous_tls, **{"Impersonate-User": "ann"}))[0] == 403


async def test_tokens_name_users_and_groups_decide() -> None:
    tokens = {
        "master": User("root", ("system:masters",)), "proxy": User("system:kube-proxy"), "mallory": User("mallory"),
    }  # fmt: skip
    async with running_apiserver(tokens=tokens) as api:
        tls = ssl.create_default_context(cadata=api.ca_pem.decode())
        for token, wanted in (("master", 200), ("proxy", 200), ("mallory", 403), ("wrong", 401)):
            status, body = await fetch(api.url + SERVICES, tls, Authorization=f"Bearer {token}")
            assert status == wanted, body
        status, body = await fetch(api.url + SERVICES, tls, Authorization="Bearer mallory")
        assert body["message"] == (
            'services is forbidden: User "mallory" cannot list resource "services" in API group "" '
            'in the namespace "default"'
        )
        status, body = await fetch(
            f"{api.url}/apis/apps/v1/namespaces/default/deployments/d", tls, Authorization="Bearer mallory"
        )
        assert body["message"].startswith(
            'deployments.apps "d" is forbidden: User "mallory" cannot get resource "deployments" in API group "apps"'
        )
        assert (await fetch(f"{api.url}/api", tls, Authorization="Bearer mallory"))[0] == 200
        assert (await fetch(f"{api.url}/api", tls, Authorization="Basic abc"))[0] == 403


async def test_node_certificates_may_do_what_nodes_do(api: Any) -> None:
    pair = api.pki.node("node-1")
    tls = ssl.create_default_context(cadata=api.ca_pem.decode())
    tls.load_cert_chain(pair.cert, pair.key)
    assert (await fetch(f"{api.url}/api/v1/nodes", tls))[0] == 200


async def test_old_tls_is_refused(api: Any) -> None:
    tls = ssl.create_default_context(cadata=api.ca_pem.decode())
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorError):
        await fetch(f"{api.url}/healthz", tls)


async def test_half_a_request_harms_nobody(api: Any, raw: Any) -> None:
    tls = api.admin_config.ssl_context()
    host, port = api.server.addresses[0]
    for text in (
        b"GET /api HT",
        b"POST " + SERVICES.encode() + b" HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        b"\x00\x01\r\n\r\n",
    ):
        _, writer = await asyncio.open_connection(host, port, ssl=tls)
        writer.write(text)
        await writer.drain()
        writer.close()
    assert (await raw("GET", SERVICES)).status == 200


async def test_a_connection_that_says_nothing_costs_little(api: Any) -> None:
    host, port = api.server.addresses[0]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        silent = [await asyncio.open_connection(host, port) for _ in range(50)]
        await asyncio.sleep(0.2)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for _, writer in silent:
        writer.close()
    assert (after - before) / len(silent) < 100_000


async def test_a_header_that_is_too_long_is_refused(raw: Any) -> None:
    answer = await raw("GET", SERVICES, X_Long="x" * 70_000)
    assert answer.status in (400, 431)


@pytest.mark.parametrize(
    "options",
    [
        {"gracePeriodSeconds": "x"},
        {"orphanDependents": "yes"},
        {"preconditions": "x"},
        {"preconditions": {"uid": 5}},
        {"dryRun": "All"},
    ],
)
async def test_deletion_options_of_a_wrong_type_delete_nothing(raw: Any, options: dict[str, Any]) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    before = await raw.create(path, {"metadata": {"name": "kept"}})
    answer = await raw("DELETE", f"{path}/kept", options)
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert "cannot unmarshal" in answer.message
    assert await raw.get(f"{path}/kept") == before


async def test_bodies_nested_too_deep_are_bad_requests_of_every_type(raw: Any) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    await raw.create(path, {"metadata": {"name": "kept"}})
    deep = b"[" * 100_000
    for media_type in ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json"):
        answer = await raw("PATCH", f"{path}/kept", deep, Content_Type=f"application/{media_type}")
        assert answer.status == 400, media_type
    for media_type in ("json", "yaml", "vnd.kubernetes.protobuf"):
        answer = await raw("POST", path, deep, Content_Type=f"application/{media_type}")
        assert answer.status == 400, media_type


async def test_dot_segments_and_foreign_continue_tokens_are_refused(raw: Any) -> None:
    dotted = URL(f"{raw.url}/api/v1/namespaces/%2e%2e/secrets", encoded=True)
    async with raw.session.get(dotted) as response:
        assert response.status == 404
    answer = await raw("GET", "/api/v1/pods?limit=1&continue=zzz")
    assert answer.status == 400
    assert answer.message.startswith("invalid continue token: continue key is not valid: ")
