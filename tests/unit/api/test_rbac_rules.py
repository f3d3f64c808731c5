"""What rules allow and cover, as rows; the validation of roles and bindings."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.defaulting import apply_defaults
from nodeport.api.rbac import PolicyRule, aggregated_rules, allows_path, concerns, subject_key, uncovered
from nodeport.api.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from nodeport.api.validation import validate_create, validate_update


def rule(verbs: str, groups: str, resources: str, names: str = "") -> PolicyRule:
    found = tuple("" if group == "core" else group for group in groups.split())
    return PolicyRule(tuple(verbs.split()), found, tuple(resources.split()), tuple(names.split()))


def urls(verbs: str, *paths: str) -> PolicyRule:
    return PolicyRule(tuple(verbs.split()), non_resource_urls=paths)


@pytest.mark.parametrize(
    ("held", "verb", "group", "resource", "allowed"),
    [
        (rule("get", "core", "pods"), "get", "", "pods", True),
        (rule("get", "core", "pods"), "list", "", "pods", False),
        (rule("get", "core", "pods"), "get", "apps", "pods", False),
        (rule("get", "core", "pods"), "get", "", "pods/log", False),
        (rule("get", "core", "pods/log"), "get", "", "pods/log", True),
        (rule("get", "core", "pods/log"), "get", "", "pods", False),
        (rule("*", "core", "pods"), "impersonate", "", "pods", True),
        (rule("get", "*", "pods"), "get", "apps", "pods", True),
        (rule("get", "core", "*"), "get", "", "pods/exec", True),
        (rule("update", "*", "*/scale"), "update", "apps", "deployments/scale", True),
        (rule("update", "*", "*/scale"), "update", "apps", "deployments/status", False),
        (rule("update", "*", "*/scale"), "update", "apps", "deployments", False),
        (rule("get", "core", "pods/*"), "get", "", "pods/log", False),
    ],
)
def test_a_rule_concerns_what_it_names(
    held: PolicyRule, verb: str, group: str, resource: str, allowed: bool
) -> None:
    assert concerns(held, verb, group, resource) is allowed


@pytest.mark.parametrize(
    ("held", "path", "allowed"),
    [
        (urls("get", "/healthz"), "/healthz", True),
        (urls("get", "/healthz"), "/healthz/etcd", False),
        (urls("get", "/healthz/*"), "/healthz/etcd", True),
        (urls("get", "/healthz/*"), "/healthz", False),
        (urls("get", "*"), "/metrics", True),
        (urls("post", "*"), "/metrics", False),
    ],
)
def test_a_rule_allows_paths(held: PolicyRule, path: str, allowed: bool) -> None:
    assert allows_path(held, "get", path) is allowed


@pytest.mark.parametrize(
    ("held", "wanted", "missing"),
    [
        ([rule("get list", "core", "pods")], rule("get", "core", "pods"), []),
        ([rule("get", "core", "pods")], rule("get list watch", "core", "pods"),
         ['{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}']),
        ([rule("get", "core", "pods"), rule("list", "core", "pods")], rule("get list", "core", "pods"), []),
        ([rule("get", "core", "pods", "a")], rule("get", "core", "pods"),
         ['{APIGroups:[""], Resources:["pods"], Verbs:["get"]}']),
        ([rule("get", "core", "pods")], rule("get", "core", "pods", "a"), []),
        ([rule("get", "core", "pods", "a b")], rule("get", "core", "pods", "b c"),
         ['{APIGroups:[""], Resources:["pods"], ResourceNames:["c"], Verbs:["get"]}']),
        ([rule("*", "*", "*")], rule("*", "*", "*"), []),
        ([rule("*", "*", "*")], urls("get", "/metrics"), ['{NonResourceURLs:["/metrics"], Verbs:["get"]}']),
        ([urls("get", "/api/*")], urls("get", "/api/v1"), []),
        ([urls("get", "/api/*")], urls("get", "/apis"), ['{NonResourceURLs:["/apis"], Verbs:["get"]}']),
        ([rule("get", "core", "pods")], rule("get", "*", "pods"),
         ['{APIGroups:["*"], Resources:["pods"], Verbs:["get"]}']),
        ([rule("get", "core", "*/scale")], rule("get", "core", "pods/scale"), []),
    ],
)  # fmt: skip
def test_rules_cover_only_what_they_contain(
    held: list[PolicyRule], wanted: PolicyRule, missing: list[str]
) -> None:
    assert [str(each) for each in uncovered(held, [wanted])] == missing


def test_a_service_account_is_a_user_and_its_namespace_may_be_the_bindings() -> None:
    account = {"kind": "ServiceAccount", "name": "a"}
    assert subject_key(account, "n") == ("User", "system:serviceaccount:n:a")
    assert subject_key({**account, "namespace": "m"}, "n") == ("User", "system:serviceaccount:m:a")
    assert subject_key(account, "") == ("User", "")
    assert subject_key({"kind": "Group", "name": "g"}, "n") == ("Group", "g")


def test_an_aggregated_role_has_each_rule_of_those_it_selects_once_in_order_of_their_names() -> None:
    labels = {"aggregate": "true"}
    pods, nodes = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, rule("list", "core", "nodes")
    roles = [
        {"metadata": {"name": "b", "labels": labels}, "rules": [pods]},
        {"metadata": {"name": "a", "labels": labels}, "rules": [nodes.to_json(), pods]},
        {"metadata": {"name": "other"}, "rules": [urls("get", "*").to_json()]},
    ]
    whole = {
        "metadata": {"name": "whole", "labels": labels},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": labels}]},
        "rules": [urls("get", "*").to_json()],
    }
    assert aggregated_rules(whole, [*roles, whole]) == [nodes.to_json(), pods]


def errors(resource: Any, obj: dict[str, Any]) -> list[str]:
    whole = {"metadata": {"name": "x", **({"namespace": "n"} if resource.namespaced else {})}, **obj}
    apply_defaults(resource, whole)
    return [str(error) for error in validate_create(resource, whole)]


ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}


@pytest.mark.parametrize(
    ("resource", "obj", "wanted"),
    [
        (ROLES, {}, []),
        (ROLES, {"rules": [{}]}, [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]),
        (ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}, [
            'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs',
        ]),
        (CLUSTER_ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}, []),
        (CLUSTER_ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]}, [
            'rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and '
            "non-resource URLs",
        ]),
        (CLUSTER_ROLES, {"aggregationRule": {}}, [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if "
            "aggregationRule is non-nil",
        ]),
        (ROLE_BINDINGS, {"roleRef": ROLE_REF, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "default"},
        ]}, []),
        (ROLE_BINDINGS, {}, [
            'roleRef.kind: Unsupported value: "": supported values: "Role", "ClusterRole"',
            "roleRef.name: Required value",
        ]),
        (ROLE_BINDINGS, {"roleRef": {"kind": "Pod", "name": "a/b", "apiGroup": "apps"}}, [
            'roleRef.apiGroup: Unsupported value: "apps": supported values: "rbac.authorization.k8s.io"',
            'roleRef.kind: Unsupported value: "Pod": supported values: "Role", "ClusterRole"',
            "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
        ]),
        (CLUSTER_ROLE_BINDINGS, {"roleRef": {"kind": "Role", "name": ""}}, [
            'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
            "roleRef.name: Required value",
        ]),
        (CLUSTER_ROLE_BINDINGS, {"roleRef": ROLE_REF, "subjects": [
            {"kind": "ServiceAccount", "name": "A", "apiGroup": "x"}, {"kind": "Robot", "name": "r"},
            {"kind": "Group", "name": "", "apiGroup": "other"},
        ]}, [
            'subjects[0].name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case '
            "alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. "
            "'example.com', regex used for validation is "
            "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            'subjects[0].apiGroup: Unsupported value: "x": supported values: ""',
            "subjects[0].namespace: Required value",
            'subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"',
            "subjects[2].name: Required value",
            'subjects[2].apiGroup: Unsupported value: "other": supported values: "rbac.authorization.k8s.io"',
        ]),
    ],
)  # fmt: skip
def test_roles_and_bindings_are_validated(resource: Any, obj: dict[str, Any], wanted: list[str]) -> None:
    assert errors(resource, obj) == wanted


def test_a_bindings_role_cannot_be_changed() -> None:
    meta = {"name": "x", "namespace": "n", "resourceVersion": "1"}
    old = {"metadata": meta, "roleRef": ROLE_REF}
    new = {"metadata": meta, "roleRef": {**ROLE_REF, "name": "edit"}}
    found = [str(error) for error in validate_update(ROLE_BINDINGS, new, old)]
    assert found == [
        'roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"edit"}: '
        "cannot change roleRef"
    ]


def test_a_rule_that_stands_for_millions_is_not_broken_down() -> None:
    words = tuple(f"w{number}" for number in range(400))
    wanted = PolicyRule(words, words, words)
    assert uncovered([PolicyRule(("get",), ("",), ("pods",))], [wanted]) == [wanted]
    assert uncovered([PolicyRule(("*",), ("*",), ("*",))], [wanted]) == []
    assert uncovered([PolicyRule(("*",), ("*",), ("*",), ("one",))], [wanted]) == [wanted]
