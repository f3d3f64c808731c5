"""A server with users of several kinds, and one client that speaks for each of them."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from nodeport.apiserver.auth import MASTERS, NODES_GROUP, User
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

RBAC = "/apis/rbac.authorization.k8s.io/v1"
TOKENS = {
    "admin": User("root", (MASTERS,)),
    "ann": User("ann"),
    "bob": User("bob", ("team",)),
    "node-a": User("system:node:node-a", (NODES_GROUP,)),
    "controllers": User("system:kube-controller-manager"),
}
Json = dict[str, Any]


class Client:
    """``await ask(TOKEN, METHOD, PATH, body)``: (status, body)."""

    def __init__(self, session: aiohttp.ClientSession, server: RunningApiServer) -> None:
        self._session, self.server = session, server

    async def __call__(
        self, token: str, method: str, path: str, body: Json | None = None, **headers: str
    ) -> tuple[int, Json]:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if method == "PATCH":
            sent.setdefault("Content-Type", "application/merge-patch+json")
        url = self.server.url + path
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        sent.setdefault("Content-Type", "application/json")
        async with self._session.request(method, url, data=data, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    async def must(self, token: str, method: str, path: str, body: Json | None = None) -> Json:
        status, found = await self(token, method, path, body)
        assert status < 300, found
        return found


@asynccontextmanager
async def asking(*args: Any, **options: Any) -> AsyncIterator[Client]:
    """A server whose ``TOKENS`` are users, for as long as the block lasts."""
    async with running_apiserver(*args, **{"tokens": TOKENS, "seed": 1, **options}) as server:
        connector = aiohttp.TCPConnector(ssl=server.admin_config.ssl_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Client(session, server)


def role(name: str, *rules: Json, **more: Any) -> Json:
    return {"metadata": {"name": name}, "rules": list(rules), **more}


def rule(verbs: str, resources: str, groups: str = "", names: str = "") -> Json:
    found: Json = {
        "verbs": verbs.split(),
        "resources": resources.split(),
        "apiGroups": groups.split() or [""],
    }
    return {**found, "resourceNames": names.split()} if names else found


def binding(name: str, kind: str, bound: str, *subjects: str) -> Json:
    """``subjects``: ``User:ann`` or ``ServiceAccount:NAME:NAMESPACE``."""
    made = [dict(zip(("kind", "name", "namespace"), each.split(":"), strict=False)) for each in subjects]
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": bound},
        "subjects": made,
    }


def pod(name: str, node: str, **spec: Any) -> Json:
    container = {"name": "c", "image": "nodeport/echo"}
    return {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [container], **spec}}
