"""Credentials that change on disk while the client runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nodeport.api.meta import NamespacedName
from nodeport.api.resources import SERVICE_ACCOUNTS
from nodeport.api.status import Unauthorized
from nodeport.client import incluster
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient, TransportError
from nodeport.testing.apiserver import running_apiserver


async def issue_token(admin: RestClient, mount: Path) -> None:
    await admin.create(SERVICE_ACCOUNTS, {"metadata": {"name": "robot", "namespace": "default"}})
    request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
    granted = await admin.create_subresource(SERVICE_ACCOUNTS, "robot", "default", "token", request)
    (mount / "token").write_text(granted["status"]["token"])


async def test_a_token_that_was_replaced_is_used_after_the_old_one_is_refused(tmp_path: Path) -> None:
    requests: list[tuple[str, str]] = []
    async with running_apiserver() as server, RestClient(server.admin_config) as admin:
        host, _, port = server.url.removeprefix("https://").rpartition(":")
        environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        (tmp_path / "ca.crt").write_bytes(server.ca_pem)
        await issue_token(admin, tmp_path)
        async with RestClient(
            incluster.load(environment, tmp_path),
            reload=lambda: incluster.load(environment, tmp_path),
            observer=lambda method, host, code, seconds: requests.append((method, code)),
        ) as client:
            await client.raw_get("/api")
            await admin.delete(SERVICE_ACCOUNTS, "robot", "default")
            await issue_token(admin, tmp_path)
            with pytest.raises(Unauthorized):
                await client.raw_get("/api")
            await client.raw_get("/api")
    assert requests == [("GET", "200"), ("GET", "401"), ("GET", "200")]


async def test_watches_end_with_the_old_connections_and_whoever_is_cut_off_comes_back() -> None:
    async with running_apiserver() as server, RestClient(server.admin_config) as client:
        accounts = Informer(client, SERVICE_ACCOUNTS)
        following = asyncio.create_task(accounts.run())
        await accounts.wait_until_synced()
        await client.cut()
        with pytest.raises(TransportError, match="cut off"):
            await client.raw_get("/api")
        async with RestClient(server.admin_config) as other:
            await other.create(SERVICE_ACCOUNTS, {"metadata": {"name": "late", "namespace": "default"}})
        assert accounts.get(NamespacedName("default", "late")) is None
        heard = asyncio.Event()
        accounts.subscribe(lambda change: change.object["metadata"]["name"] == "late" and heard.set())
        client.join()
        async with asyncio.timeout(60):
            await heard.wait()
        following.cancel()
