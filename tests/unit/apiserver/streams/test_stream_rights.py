"""Which rights the connecting subresources need."""

from __future__ import annotations

import pytest

from unit.apiserver.security import RBAC, Client, asking, binding, pod, role, rule

POD = "/api/v1/namespaces/default/pods/web"


async def grant(ask: Client, verbs: str, resource: str) -> None:
    await ask.must("admin", "POST", "/api/v1/namespaces/default/pods", pod("web", "node-a"))
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("r", rule(verbs, resource)))
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("b", "ClusterRole", "r", "User:ann")
    )


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
async def test_a_websocket_needs_the_right_to_create_beside_that_to_get(subresource: str) -> None:
    async with asking() as ask:
        await grant(ask, "get", f"pods/{subresource}")
        status, body = await ask("ann", "GET", f"{POD}/{subresource}?command=true&stdout=1")
        assert (status, body["message"]) == (
            403,
            f'pods "web" is forbidden: User "ann" cannot create resource "pods/{subresource}" in API group "" in the '
            'namespace "default"',
        )
        assert (await ask("bob", "POST", f"{POD}/{subresource}?command=true&stdout=1"))[0] == 403


async def test_who_may_get_and_create_is_asked_for_an_upgrade() -> None:
    async with asking() as ask:
        await grant(ask, "get create", "pods/exec")
        status, body = await ask("ann", "GET", f"{POD}/exec?command=true&stdout=1")
        assert (status, body["message"]) == (400, "Upgrade request required")
        status, body = await ask("ann", "GET", f"{POD}/exec?command=true")
        assert (status, body["message"]) == (400, "you must specify at least 1 of stdin, stdout, stderr")


async def test_a_proxys_right_depends_on_the_method() -> None:
    async with asking() as ask:
        await grant(ask, "get update", "pods/proxy")
        for method, allowed in (
            ("GET", True),
            ("PUT", True),
            ("POST", False),
            ("DELETE", False),
            ("PATCH", False),
        ):
            status, body = await ask("ann", method, f"{POD}/proxy/x")
            assert (status == 403) is not allowed, body
        assert (await ask("ann", "OPTIONS", f"{POD}/proxy/x"))[0] == 403
