"""Who may do what: RBAC over HTTP, nodes, and nobody handing out more than he has."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import pytest

from nodeport.api.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, PODS, ROLE_BINDINGS, ROLES
from nodeport.apiserver.auth import AUTHENTICATED, MASTERS, Attributes, User, about
from nodeport.apiserver.authorization.policy import defaults, mended
from nodeport.apiserver.authorization.rbac import RbacIndex
from nodeport.store.memory import MemoryStore
from nodeport.testing.controlplane import eventually
from unit.apiserver.security import RBAC, Client, asking, binding, pod, role, rule

PODS_OF = "/api/v1/namespaces/{}/pods"


@pytest.fixture
async def ask() -> AsyncIterator[Client]:
    async with asking() as client:
        yield client


async def test_nobody_may_anything_until_he_is_bound(ask: Client) -> None:
    path = PODS_OF.format("default")
    status, body = await ask("ann", "GET", path)
    assert (status, body["message"]) == (
        403,
        'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "default"',
    )
    assert body["details"] == {"kind": "pods"}
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("b", "ClusterRole", "view", "User:ann"))  # fmt: skip
    assert (await ask("ann", "GET", path))[0] == 200
    assert (await ask("ann", "GET", PODS_OF.format("kube-system")))[0] == 403
    assert (await ask("ann", "GET", "/api/v1/pods"))[1]["message"] == (
        'pods is forbidden: User "ann" cannot list resource "pods" in API group "" at the cluster scope'
    )
    assert (await ask("ann", "GET", "/api/v1/namespaces/default/secrets"))[0] == 403
    assert (await ask("ann", "GET", "/api/v1/namespaces/default"))[0] == 200
    await ask.must("admin", "DELETE", f"{RBAC}/namespaces/default/rolebindings/b")
    assert (await ask("ann", "GET", path))[0] == 403


async def test_a_role_for_one_name_is_for_that_name(ask: Client) -> None:
    maps = "/api/v1/namespaces/default/configmaps"
    for name in ("mine", "other"):
        await ask.must("admin", "POST", maps, {"metadata": {"name": name}})
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/roles",
                   role("r", rule("get list watch", "configmaps", names="mine")))  # fmt: skip
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("b", "Role", "r", "Group:team"))  # fmt: skip
    assert (await ask("bob", "GET", f"{maps}/mine"))[0] == 200
    assert (await ask("bob", "GET", f"{maps}/other"))[0] == 403
    assert (await ask("bob", "GET", maps))[0] == 403
    assert (await ask("bob", "GET", f"{maps}?fieldSelector=metadata.name=mine"))[0] == 200
    assert (await ask("bob", "GET", f"{maps}?fieldSelector=metadata.name=other"))[0] == 403
    assert (await ask("ann", "GET", f"{maps}/mine"))[0] == 403


async def test_a_put_that_would_create_needs_the_right_to_create(ask: Client) -> None:
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("u", rule("update", "endpoints")))
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("u", "ClusterRole", "u", "User:ann")
    )
    path = "/api/v1/namespaces/default/endpoints/e"
    status, body = await ask("ann", "PUT", path, {"metadata": {"name": "e"}})
    assert (status, body["message"]) == (
        403,
        'endpoints "e" is forbidden: User "ann" cannot create resource "endpoints" in API group "" in the namespace '
        '"default"',
    )
    assert (await ask("admin", "GET", path))[0] == 404


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
async def test_reading_opens_no_way_into_pods(ask: Client, subresource: str) -> None:
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("r", rule("get", f"pods/{subresource}")))
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("r", "ClusterRole", "r", "User:ann")
    )
    status, body = await ask("ann", "GET", f"{PODS_OF.format('default')}/p/{subresource}")
    assert (status, body["message"]) == (
        403,
        f'pods "p" is forbidden: User "ann" cannot create resource "pods/{subresource}" in API group "" in the '
        'namespace "default"',
    )


async def test_nobody_grants_what_he_has_not(ask: Client) -> None:
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("admins", "ClusterRole", "admin", "User:bob"))  # fmt: skip
    roles, bindings = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
    assert (await ask("bob", "POST", roles, role("mine", rule("get", "pods secrets"))))[0] == 201
    status, body = await ask("bob", "POST", roles, role("more", rule("get impersonate", "pods nodes")))
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "bob" (groups=["team" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "impersonate"]}\n'
        '{APIGroups:[""], Resources:["pods"], Verbs:["impersonate"]}'
    )
    changed = {"rules": [rule("*", "*", "*")]}
    assert (await ask("bob", "PATCH", f"{roles}/mine", changed))[0] == 403
    assert (await ask("bob", "PATCH", f"{roles}/mine", {"metadata": {"labels": {"a": "b"}}}))[0] == 200
    status, body = await ask(
        "bob", "POST", bindings, binding("b", "ClusterRole", "cluster-admin", "User:bob")
    )
    assert status == 403
    assert 'rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "bob"' in body["message"]
    assert (await ask("bob", "POST", bindings, binding("b", "ClusterRole", "view", "User:ann")))[0] == 201
    status, body = await ask("bob", "POST", bindings, binding("c", "Role", "none", "User:ann"))
    assert (status, body["message"]) == (404, 'roles.rbac.authorization.k8s.io "none" not found')


async def test_escalate_and_bind_lift_the_check_for_what_they_name(ask: Client) -> None:
    own = [
        rule("create update get", "roles rolebindings", "rbac.authorization.k8s.io"),
        rule("escalate", "roles", "rbac.authorization.k8s.io", "strong"),
        rule("bind", "clusterroles", "rbac.authorization.k8s.io", "cluster-admin"),
    ]
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", role("grantor", *own))
    await ask.must("admin", "POST", f"{RBAC}/clusterrolebindings",
                   binding("g", "ClusterRole", "grantor", "User:ann"))  # fmt: skip
    roles, bindings = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
    assert (await ask("ann", "POST", roles, role("weak", rule("*", "*", "*"))))[0] == 403
    assert (await ask("ann", "POST", roles, role("strong", rule("*", "*", "*"))))[0] == 201
    assert (await ask("ann", "POST", bindings, binding("b", "ClusterRole", "edit", "User:x")))[0] == 403
    assert (await ask("ann", "POST", bindings, binding("b", "ClusterRole", "cluster-admin", "User:x")))[
        0
    ] == 201


async def test_only_those_who_may_everything_gather_roles(ask: Client) -> None:
    await ask.must("admin", "POST", f"{RBAC}/clusterroles",
                   role("r", rule("create", "clusterroles", "rbac.authorization.k8s.io")))  # fmt: skip
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("r", "ClusterRole", "r", "User:ann")
    )
    gather = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    status, body = await ask("ann", "POST", f"{RBAC}/clusterroles", role("whole", **gather))
    assert (status, body["message"]) == (
        403,
        'clusterroles.rbac.authorization.k8s.io "whole" is forbidden: must have cluster-admin privileges to use an '
        "aggregationRule",
    )


async def test_aggregated_roles_follow_their_parts(ask: Client) -> None:
    view = await ask.must("admin", "GET", f"{RBAC}/clusterroles/view")
    edit = await ask.must("admin", "GET", f"{RBAC}/clusterroles/edit")
    assert view["rules"]
    assert all(each in edit["rules"] for each in view["rules"])
    part = role("widgets", rule("get list watch", "widgets", "example.com"))
    part["metadata"]["labels"] = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", part)

    async def has(name: str, *, wanted: bool) -> bool:
        found = await ask.must("admin", "GET", f"{RBAC}/clusterroles/{name}")
        return any(each.get("apiGroups") == ["example.com"] for each in found["rules"]) is wanted

    for name in ("view", "edit", "admin"):
        await eventually(lambda name=name: has(name, wanted=True))
    await ask.must("admin", "DELETE", f"{RBAC}/clusterroles/widgets")
    await eventually(lambda: has("admin", wanted=False))


async def test_default_roles_come_back_unless_their_owner_forbids_it() -> None:
    store = MemoryStore()
    path = f"{RBAC}/clusterroles"
    async with asking(store) as ask:
        await ask.must("admin", "DELETE", f"{path}/system:discovery")
        await ask.must("admin", "PATCH", f"{path}/system:basic-user", {"rules": [rule("get", "pods")]})
        forbidding = {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}
        await ask.must("admin", "PATCH", f"{path}/cluster-admin", {"rules": [], "metadata": forbidding})
    async with asking(store) as ask:
        assert (await ask.must("admin", "GET", f"{path}/system:discovery"))["rules"]
        mended_rules = (await ask.must("admin", "GET", f"{path}/system:basic-user"))["rules"]
        assert rule("get", "pods") in mended_rules
        assert len(mended_rules) == 3
        assert not (await ask.must("admin", "GET", f"{path}/cluster-admin")).get("rules")


async def test_roles_that_are_defaults_no_more_are_taken_away_unless_somebody_made_them_his() -> None:
    store = MemoryStore()
    name = "system:nodeport:local-nodes"
    made = {
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    }
    bound = binding(name, "ClusterRole", name, "User:ann")
    async with asking(store) as ask:
        old = role(name, rule("get", "secrets"))
        await ask.must("admin", "POST", f"{RBAC}/clusterroles", {**old, "metadata": {"name": name, **made}})
        await ask.must("admin", "POST", f"{RBAC}/clusterrolebindings", bound)
    async with asking(store) as ask:
        assert (await ask("admin", "GET", f"{RBAC}/clusterroles/{name}"))[0] == 404
        assert (await ask("admin", "GET", f"{RBAC}/clusterrolebindings/{name}"))[0] == 200
        assert (await ask("ann", "GET", "/api/v1/namespaces/default/secrets/x"))[0] == 403


async def test_nodes_touch_only_what_is_theirs(ask: Client) -> None:
    nodes = "/api/v1/nodes"
    status, body = await ask("node-a", "POST", nodes, {"metadata": {"name": "node-b"}})
    assert (status, body["message"]) == (
        403, 'nodes "node-b" is forbidden: node "node-a" is not allowed to modify node "node-b"',
    )  # fmt: skip
    label = "node-restriction.kubernetes.io/tier"
    status, body = await ask(
        "node-a", "POST", nodes, {"metadata": {"name": "node-a", "labels": {label: "gold"}}}
    )
    assert body["message"] == (
        f'nodes "node-a" is forbidden: node "node-a" is not allowed to set the following labels: {label}'
    )
    own = {"metadata": {"name": "node-a", "labels": {"kubernetes.io/hostname": "node-a", "mine": "x"}}}
    await ask.must("node-a", "POST", nodes, own)
    await ask.must("admin", "POST", nodes, {"metadata": {"name": "node-b"}})
    await ask.must("node-a", "PATCH", f"{nodes}/node-a/status", {"status": {"capacity": {"cpu": "1"}}})
    assert (await ask("node-a", "PATCH", f"{nodes}/node-b/status", {"status": {}}))[0] == 403
    assert (await ask("node-a", "PATCH", f"{nodes}/node-a", {"metadata": {"labels": {label: "gold"}}}))[
        0
    ] == 403
    taints = [{"key": "k", "effect": "NoSchedule"}]
    assert (await ask("node-a", "PATCH", f"{nodes}/node-a", {"spec": {"taints": taints}}))[1]["message"] == (
        'nodes "node-a" is forbidden: node "node-a" is not allowed to modify taints'
    )
    assert (await ask("node-a", "DELETE", f"{nodes}/node-a"))[0] == 403
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    assert (
        await ask(
            "node-a", "POST", leases, {"metadata": {"name": "node-a"}, "spec": {"holderIdentity": "node-a"}}
        )
    )[0] == 201
    assert (
        await ask(
            "node-a", "POST", leases, {"metadata": {"name": "node-b"}, "spec": {"holderIdentity": "node-b"}}
        )
    )[0] == 403
    assert (await ask("node-a", "PATCH", f"{leases}/node-b", {"spec": {}}))[0] == 403


async def test_nodes_see_the_secrets_and_pods_that_concern_them(ask: Client) -> None:
    secrets, pods = "/api/v1/namespaces/default/secrets", PODS_OF.format("default")
    for name in ("used", "unused"):
        await ask.must("admin", "POST", secrets, {"metadata": {"name": name}})
    volume = {"name": "v", "secret": {"secretName": "used"}}
    await ask.must("admin", "POST", pods, pod("here", "node-a", volumes=[volume]))
    await ask.must(
        "admin",
        "POST",
        pods,
        pod("there", "node-b", volumes=[{"name": "v", "secret": {"secretName": "unused"}}]),
    )
    assert (await ask("node-a", "GET", f"{secrets}/used"))[0] == 200
    status, body = await ask("node-a", "GET", f"{secrets}/unused")
    assert (status, body["message"]) == (
        403,
        'secrets "unused" is forbidden: User "system:node:node-a" cannot get resource "secrets" in API group "" in the '
        "namespace \"default\": no relationship found between node 'node-a' and this object",
    )
    assert (await ask("node-a", "GET", secrets))[0] == 403
    assert (await ask("node-a", "GET", f"{secrets}?fieldSelector=metadata.name=used"))[0] == 200
    assert (await ask("node-a", "GET", pods))[0] == 403
    assert (await ask("node-a", "GET", f"{pods}?fieldSelector=spec.nodeName=node-b"))[0] == 403
    assert (await ask("node-a", "GET", "/api/v1/pods?fieldSelector=spec.nodeName=node-a"))[0] == 200
    assert (await ask("node-a", "GET", f"{pods}/here"))[0] == 200
    assert (await ask("node-a", "GET", f"{pods}/there"))[0] == 403
    status_change = {"status": {"phase": "Running"}}
    assert (await ask("node-a", "PATCH", f"{pods}/here/status", status_change))[0] == 200
    assert (await ask("node-a", "PATCH", f"{pods}/there/status", status_change))[1]["message"] == (
        'pods "there" is forbidden: node "node-a" can only update pod status for pods with spec.nodeName set to itself'
    )
    assert (await ask("node-a", "POST", pods, pod("new", "node-a")))[1]["message"] == (
        'pods "new" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "node-a" can only '
        "create mirror pods"
    )
    mirror = pod("new", "node-a")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert (await ask("node-a", "POST", pods, mirror))[0] == 403
    assert (await ask("node-a", "DELETE", f"{pods}/there"))[0] == 403
    assert (await ask("node-a", "DELETE", f"{pods}/here?gracePeriodSeconds=0"))[0] == 200


async def test_the_controllers_may_not_raise_anyone(ask: Client) -> None:
    assert (await ask("controllers", "GET", "/api/v1/secrets"))[0] == 200
    strong = binding("b", "ClusterRole", "cluster-admin", "User:ann")
    assert (await ask("controllers", "POST", f"{RBAC}/clusterrolebindings", strong))[0] == 403
    view = {"rules": [rule("*", "*", "*")]}
    assert (await ask("controllers", "PATCH", f"{RBAC}/clusterroles/system:aggregate-to-view", view))[
        0
    ] == 403
    assert (await ask("controllers", "GET", "/api/v1/pods", Impersonate_User="root"))[0] == 403


async def test_impersonation_needs_the_right_to_impersonate_and_gives_no_more(ask: Client) -> None:
    path = PODS_OF.format("default")
    status, body = await ask("ann", "GET", path, Impersonate_User="bob")
    assert (status, body["message"]) == (
        403,
        'users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group "" at the cluster scope',
    )
    assert 'User "bob" cannot list' in (await ask("admin", "GET", path, Impersonate_User="bob"))[1]["message"]
    allowed = role(
        "i", rule("impersonate", "users", names="bob"), rule("impersonate", "groups", names="team")
    )
    await ask.must("admin", "POST", f"{RBAC}/clusterroles", allowed)
    await ask.must(
        "admin", "POST", f"{RBAC}/clusterrolebindings", binding("i", "ClusterRole", "i", "User:ann")
    )
    await ask.must("admin", "POST", f"{RBAC}/namespaces/default/rolebindings",
                   binding("b", "ClusterRole", "view", "Group:team"))  # fmt: skip
    assert (await ask("ann", "GET", path, Impersonate_User="bob"))[0] == 403
    assert (await ask("ann", "GET", path, Impersonate_User="bob", Impersonate_Group="team"))[0] == 200
    assert (await ask("ann", "GET", path, Impersonate_User="bob", Impersonate_Group=MASTERS))[0] == 403
    assert (await ask("ann", "GET", path, Impersonate_User="bob", Impersonate_Uid="7"))[0] == 403
    assert (await ask("ann", "GET", path, Impersonate_User="bob", Impersonate_Extra_Scopes="x"))[0] == 403
    assert (await ask("ann", "GET", path, Impersonate_Group="team"))[0] == 400
    account = "system:serviceaccount:default:robot"
    assert (
        f'User "{account}" cannot list'
        in (await ask("admin", "GET", path, Impersonate_User=account))[1]["message"]
    )


def index_of_defaults() -> RbacIndex:
    index = RbacIndex()
    for resource, obj in defaults():
        index.put(resource, obj)
    return index


def test_default_roles_serve_the_parts_of_a_cluster() -> None:
    index = index_of_defaults()
    proxy = User("system:kube-proxy", (AUTHENTICATED,))
    assert index.allows(about(proxy, "watch", PODS)) is False
    assert index.allows(Attributes(proxy, "watch", "discovery.k8s.io", "endpointslices"))
    assert index.allows(Attributes(proxy, "get", path="/api"))
    assert not index.allows(Attributes(proxy, "get", path="/metrics"))
    assert not index.allows(Attributes(User("x"), "get", path="/api"))


def test_a_default_object_that_is_good_is_left_alone() -> None:
    for _resource, obj in defaults():
        assert mended(obj, obj) is None


def per_question(ask_once: Callable[[int], object], rounds: int = 20_000) -> float:
    """Microseconds of this process's own time, the best of five."""
    best = 1e9
    for _ in range(5):
        began = time.process_time()
        for number in range(rounds):
            ask_once(number)
        best = min(best, (time.process_time() - began) / rounds * 1e6)
    return best


def test_a_question_takes_microseconds_among_a_thousand_bindings() -> None:
    index = index_of_defaults()
    for number in range(1000):
        index.put(
            ROLES, {"metadata": {"name": f"r{number}", "namespace": "n"}, "rules": [rule("get", "pods")]}
        )
        bound = binding(f"b{number}", "Role", f"r{number}", f"User:user-{number}")
        index.put(ROLE_BINDINGS, {**bound, "metadata": {"name": f"b{number}", "namespace": "n"}})
    user = User("user-7", (AUTHENTICATED,))
    assert index.allows(about(user, "get", PODS, "n", "p"))
    assert not index.allows(about(User("user-1000", (AUTHENTICATED,)), "get", PODS, "n", "p"))
    assert per_question(lambda number: index.allows(about(user, "get", PODS, "n", f"p{number}"))) < 20


def test_what_was_remembered_is_forgotten_when_a_role_changes() -> None:
    index = RbacIndex()
    user, asked = User("u"), about(User("u"), "get", PODS, "n", "p")
    index.put(CLUSTER_ROLES, role("r", rule("get", "pods")))
    assert not index.allows(asked)
    index.put(CLUSTER_ROLE_BINDINGS, binding("b", "ClusterRole", "r", "User:u"))
    assert index.allows(asked)
    assert (
        index.why_allowed(asked) == 'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "u"'
    )
    index.put(CLUSTER_ROLES, role("r", rule("list", "pods")))
    assert not index.allows(asked)
    assert [str(each) for each in index.rules_for(user, "n")] == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}'
    ]
    index.remove(CLUSTER_ROLE_BINDINGS, ("", "b"))
    assert index.rules_for(user, "n") == []
