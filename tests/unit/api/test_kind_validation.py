"""Defaults and validation of the kinds beside Service."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api import resources as kinds
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import Resource
from nodeport.api.schema import check, definitions, prune
from nodeport.api.status import FieldError
from nodeport.api.validation import validate_create, validate_status_update, validate_update, warnings

REF = "#/components/schemas/"


def made(resource: Resource, **fields: Any) -> JsonObject:
    meta: JsonObject = {"name": "a"} | ({"namespace": "default"} if resource.namespaced else {})
    obj = {"metadata": meta | fields.pop("metadata", {}), **fields}
    prune(resource.schema, obj)
    apply_defaults(resource, obj)
    assert check(resource.schema, obj) == check(resource.schema, {}), "defaults fit the schema"
    again = deep_copy(obj)
    apply_defaults(resource, again)
    assert again == obj, "defaulting is idempotent"
    return obj


def errors(resource: Resource, **fields: Any) -> list[str]:
    return [str(error) for error in validate_create(resource, made(resource, **fields))]


def update_errors(resource: Resource, new: JsonObject, old: JsonObject) -> list[str]:
    return [str(error) for error in validate_update(resource, made(resource, **new), made(resource, **old))]


def pod_spec(**container: Any) -> JsonObject:
    return {"containers": [{"name": "web", "image": "nodeport/echo", **container}]}


def pod_errors(**container: Any) -> list[str]:
    prefix = "spec.containers[0]."
    return [error.removeprefix(prefix) for error in errors(kinds.PODS, spec=pod_spec(**container))]


def test_a_pods_condition_has_times_though_nobody_set_them() -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    pod = made(kinds.PODS, spec=pod_spec(), status=status)
    assert pod["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}
    ]


def test_a_pod_gets_kubernetes_defaults() -> None:
    probe = {"httpGet": {"port": 80}}
    pod = made(kinds.PODS, spec={**pod_spec(
        ports=[{"containerPort": 80}], readinessProbe=probe, resources={"limits": {"cpu": "1"}},
        env=[{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    ), "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}], "hostNetwork": True})  # fmt: skip
    container = pod["spec"].pop("containers")[0]
    assert pod["spec"] == {
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
        "hostNetwork": True, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
        "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": True,
    }  # fmt: skip
    assert container == {
        "name": "web", "image": "nodeport/echo", "imagePullPolicy": "Always",
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}],
        "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
        "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}],
        "readinessProbe": {
            "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), ("reg:5000/a", "Always"),
        ("reg:5000/a:1", "IfNotPresent"), ("a@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)  # fmt: skip
def test_only_moving_tags_are_always_pulled(image: str, policy: str) -> None:
    assert made(kinds.PODS, spec=pod_spec(image=image))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_an_ordinary_pod_is_fine_and_an_empty_one_is_not() -> None:
    assert errors(kinds.PODS, spec=pod_spec()) == []
    assert errors(kinds.PODS) == ["spec.containers: Required value"]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"image": ""}, ["image: Required value"]),
        ({"image": " a"}, ['image: Invalid value: " a": must not have leading or trailing whitespace']),
        ({"ports": [{"containerPort": 0}, {"containerPort": 70000, "protocol": "X"}]},
         ["ports[0].containerPort: Required value",
          "ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
          'ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"']),
        ({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
         ['ports[1].name: Duplicate value: "a"']),
        ({"env": [{"name": ""}, {"name": "A=B"}]},
         ["env[0].name: Required value",
          'env[1].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII'
          " characters other than '='"]),
        ({"volumeMounts": [{"name": "v", "mountPath": "/x"}]}, ['volumeMounts[0].name: Not found: "v"']),
        ({"imagePullPolicy": "Maybe"},
         ['imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"']),
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}},
         ['resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1500m']),
        ({"resources": {"limits": {"memory": "-1"}, "requests": {"memory": "-1"}}},
         ['resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0',
          'resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0']),
        ({"livenessProbe": {"httpGet": {"port": 0}, "successThreshold": 2}},
         ["livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
          "livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
        ({"readinessProbe": {}}, ["readinessProbe: Required value: must specify a handler type"]),
        ({"readinessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": "http"}}},
         ["readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        ({"lifecycle": {"preStop": {"exec": {}}}}, ["lifecycle.preStop.exec.command: Required value"]),
    ],
)  # fmt: skip
def test_containers_are_told_what_is_wrong_with_them(container: JsonObject, expected: list[str]) -> None:
    assert pod_errors(**container) == expected


def test_names_of_containers_and_volumes_are_distinct() -> None:
    spec = pod_spec()
    spec["containers"].append({"name": "web", "image": "b"})
    spec["volumes"] = [{"name": "v", "emptyDir": {}}, {"name": "v", "hostPath": {"path": ""}, "secret": {}}]
    assert errors(kinds.PODS, spec=spec) == [
        "spec.volumes[1].hostPath.path: Required value",
        "spec.volumes[1].secret: Forbidden: may not specify more than 1 volume type",
        'spec.volumes[1].name: Duplicate value: "v"', 'spec.containers[1].name: Duplicate value: "web"',
    ]  # fmt: skip


def test_the_rest_of_a_pod_spec() -> None:
    spec = pod_spec() | {
        "restartPolicy": "Sometimes", "dnsPolicy": "Any", "nodeName": "N", "terminationGracePeriodSeconds": -1,
        "tolerations": [{"operator": "Exists", "value": "x"}, {"operator": "Equal"}, {"key": "a", "effect": "Never"}],
    }  # fmt: skip
    found = errors(kinds.PODS, spec=spec)
    assert [error.split(":")[0] for error in found] == [
        "spec.restartPolicy", "spec.dnsPolicy", "spec.nodeName",
        "spec.tolerations[0].operator", "spec.tolerations[1].operator", "spec.tolerations[2].effect",
    ]  # fmt: skip


def test_a_pods_spec_is_fixed_but_for_images_deadlines_and_tolerations() -> None:
    old: JsonObject = {"spec": pod_spec() | {"tolerations": [{"key": "a", "operator": "Exists"}]}}
    new = deep_copy(old)
    new["spec"]["containers"][0]["image"] = "other:1"
    new["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    new["spec"]["tolerations"].append({"key": "b", "operator": "Exists"})
    new["spec"]["activeDeadlineSeconds"] = 5
    assert update_errors(kinds.PODS, new, old) == []
    moved = deep_copy(old)
    moved["spec"]["nodeName"] = "n1"
    assert update_errors(kinds.PODS, moved, old)[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    )
    fewer = deep_copy(old)
    fewer["spec"]["tolerations"] = []
    assert len(update_errors(kinds.PODS, fewer, old)) == 1
    more = deep_copy(old)
    more["spec"]["containers"].append({"name": "b", "image": "b"})
    assert update_errors(kinds.PODS, more, old) == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]


def deployment(**spec: Any) -> JsonObject:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    return {"spec": {"selector": {"matchLabels": labels}, "template": template, **spec}}


def test_deployments_get_their_defaults_and_are_fine() -> None:
    spec = made(kinds.DEPLOYMENTS, **deployment())["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    assert spec["template"]["spec"]["restartPolicy"] == "Always"
    assert "enableServiceLinks" not in spec["template"]["spec"]
    assert errors(kinds.DEPLOYMENTS, **deployment()) == []
    assert made(kinds.DEPLOYMENTS, **deployment(replicas=0))["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"selector": None},
         ["spec.selector: Required value",
          'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`']),
        ({"selector": {}}, ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        ({"selector": {"matchLabels": {"app": "x"}}},
         ['spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`']),
        ({"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ({"strategy": {"type": "Recreate", "rollingUpdate": {}}},
         ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
        ({"strategy": {"type": "Magic"}},
         ['spec.strategy.type: Unsupported value: "Magic": supported values: "Recreate", "RollingUpdate"']),
        ({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}},
         ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
        ({"progressDeadlineSeconds": 5, "minReadySeconds": 5},
         ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]),
    ],
)  # fmt: skip
def test_deployments_are_told_what_is_wrong_with_them(spec: JsonObject, expected: list[str]) -> None:
    assert errors(kinds.DEPLOYMENTS, **deployment(**spec)) == expected


@pytest.mark.parametrize("resource", [kinds.DEPLOYMENTS, kinds.REPLICA_SETS, kinds.STATEFUL_SETS])
def test_a_missing_template_has_its_defaults_and_matches_no_selector(resource: Resource) -> None:
    assert errors(resource, metadata={"name": "a"}, spec={}) == [
        "spec.selector: Required value",
        "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        "spec.template.spec.containers: Required value",
    ]


def test_a_daemon_set_without_a_selector_only_selects_nothing() -> None:
    spec = {"template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()}}
    assert errors(kinds.DAEMON_SETS, metadata={"name": "a"}, spec=spec) == [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]


def test_templates_restart_always_and_have_containers() -> None:
    wrong = deployment()
    wrong["spec"]["template"]["spec"] = {"restartPolicy": "Never"}
    assert errors(kinds.REPLICA_SETS, **wrong) == [
        "spec.template.spec.containers: Required value",
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ]


def test_selectors_of_deployments_and_replica_sets_are_immutable() -> None:
    new = deployment(selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]})
    for resource in (kinds.DEPLOYMENTS, kinds.REPLICA_SETS):
        found = update_errors(resource, new, deployment())
        assert found == [
            'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Exists"}]}: field is immutable'
        ]


def test_endpoint_slices() -> None:
    port = made(kinds.ENDPOINT_SLICES, addressType="IPv4", endpoints=[], ports=[{"port": 80}])["ports"][0]
    assert port == {"port": 80, "name": "", "protocol": "TCP"}
    found = errors(
        kinds.ENDPOINT_SLICES, addressType="IPv4",
        endpoints=[{"addresses": []}, {"addresses": ["fd00::1"]}, {"addresses": ["127.0.0.1"]}, {"addresses": ["10.1.1.1"]}],
        ports=[{"port": 1}, {"port": 2}],
    )  # fmt: skip
    assert found == [
        "endpoints[0].addresses: Required value: must contain at least 1 address",
        'endpoints[1].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address',
        'endpoints[2].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
        'ports[1].name: Duplicate value: ""',
    ]
    assert errors(kinds.ENDPOINT_SLICES, endpoints=[]) == ["addressType: Required value"]
    assert update_errors(kinds.ENDPOINT_SLICES, {"addressType": "IPv6"}, {"addressType": "IPv4"}) == [
        'addressType: Invalid value: "IPv6": field is immutable'
    ]
    assert warnings(kinds.ENDPOINT_SLICES, {"addressType": "FQDN"}, None)
    many = [{"addresses": ["10.1.1.1"]}] * 1001
    assert errors(kinds.ENDPOINT_SLICES, addressType="IPv4", endpoints=many)[0].startswith(
        "endpoints: Too many: 1001"
    )


def test_endpoints() -> None:
    found = errors(
        kinds.ENDPOINTS, subsets=[{}, {"addresses": [{"ip": "0.0.0.0"}], "ports": [{"port": 1}, {"port": 0}]}]
    )
    assert found == [
        "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
        'subsets[1].addresses[0].ip: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)',
        "subsets[1].ports[0].name: Required value", "subsets[1].ports[1].name: Required value",
        "subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ]  # fmt: skip
    assert "deprecated in v1.33+" in kinds.ENDPOINTS.deprecation


def test_small_kinds() -> None:
    namespace = made(kinds.NAMESPACES)
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "a"}
    assert namespace["status"] == {"phase": "Active"}
    assert errors(kinds.NAMESPACES, metadata={"name": "A.b"})[0].startswith(
        'metadata.name: Invalid value: "A.b"'
    )
    assert made(kinds.SECRETS)["type"] == "Opaque"
    assert errors(kinds.SECRETS, type="kubernetes.io/tls", data={"tls.crt": ""}) == [
        "data[tls.key]: Required value"
    ]
    assert errors(kinds.CONFIG_MAPS, data={"a/b": "x"})[0].startswith(
        'data[a/b]: Invalid value: "a/b": a valid config key'
    )
    frozen = {"immutable": True, "data": {"a": "1"}}
    assert update_errors(kinds.CONFIG_MAPS, {"immutable": True, "data": {"a": "2"}}, frozen) == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    assert update_errors(kinds.SECRETS, {"type": "a/b"}, {}) == [
        'type: Invalid value: "a/b": field is immutable'
    ]
    assert errors(kinds.LEASES, spec={"leaseDurationSeconds": 0, "leaseTransitions": -1}) == [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
    ]
    assert errors(kinds.EVENTS, involvedObject={"namespace": "other"}) == [
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
    ]
    node = made(kinds.NODES, status={"capacity": {"cpu": "2"}}, spec={"podCIDR": "10.244.1.0/24"})
    assert node["status"]["allocatable"] == {"cpu": "2"}
    assert errors(kinds.NODES, spec={"taints": [{"key": "a"}]}) == ["spec.taints[0].effect: Required value"]
    assert errors(kinds.SERVICE_ACCOUNTS) == []


def test_namespaces_of_objects_and_names() -> None:
    assert errors(kinds.NODES, metadata={"namespace": "x"}) == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]
    assert (
        errors(kinds.CONFIG_MAPS, metadata={"namespace": "", "name": "A"})[1]
        == "metadata.namespace: Required value"
    )


def test_owners_and_finalizers() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
    found = errors(kinds.CONFIG_MAPS, metadata={
        "ownerReferences": [owner, {**owner, "name": "s"}, {"apiVersion": "v1", "kind": "Pod", "name": "p"}],
        "finalizers": ["plain", "a/b"],
    })  # fmt: skip
    assert found[0].startswith("metadata.ownerReferences: Invalid value: [") is True
    assert 'Found "true" in references for ReplicaSet/r and ReplicaSet/s' in found[0]
    assert found[-1] == (
        'metadata.finalizers[0]: Invalid value: "plain": name is neither a standard finalizer name nor is it fully qualified'
    )


def test_which_owner_is_wrong_is_not_told() -> None:
    found = errors(kinds.CONFIG_MAPS, metadata={"ownerReferences": [{"apiVersion": "apps/"}]})
    assert found == [
        'metadata.ownerReferences.apiVersion: Invalid value: "apps/": version must not be empty',
        *(
            f'metadata.ownerReferences.{field}: Invalid value: "": must not be empty'
            for field in ("kind", "name", "uid")
        ),
    ]


LABEL, UID, FINALIZER = "metadata.labels", "metadata.uid", "metadata.finalizers[0]"


@pytest.mark.parametrize(
    ("resource", "labels", "uid", "finalizers"),
    [
        (kinds.SERVICES, 3, 2, 1),
        (kinds.CONFIG_MAPS, 4, 2, 2),
        (kinds.DEPLOYMENTS, 3, 2, 1),
        (kinds.ENDPOINT_SLICES, 3, 1, 1),
        (kinds.ROLES, 5, 2, 3),
        (kinds.LEASES, 3, 2, 0),
        (kinds.POD_DISRUPTION_BUDGETS, 2, 1, 0),
    ],
)
def test_an_update_has_a_cause_for_each_time_that_its_metadata_is_judged(
    resource: Resource, labels: int, uid: int, finalizers: int
) -> None:
    """As often as a real server judges it, whose causes were counted."""
    old: JsonObject = {"metadata": {"name": "a", "namespace": "default", "uid": "1"}}
    faulty = {"uid": "2", "labels": {"a b": ""}, "finalizers": ["x"]}
    found = validate_update(resource, {"metadata": old["metadata"] | faulty}, old)
    fields = [error.field for error in found]
    assert (fields.count(LABEL), fields.count(UID), fields.count(FINALIZER)) == (labels, uid, finalizers)


@pytest.mark.parametrize(("resource", "is_judged"), [(kinds.CONFIG_MAPS, True), (kinds.DEPLOYMENTS, False)])
def test_a_prefix_for_names_is_judged_again_where_the_whole_object_is(
    resource: Resource, is_judged: bool
) -> None:
    old: JsonObject = {"metadata": {"name": "a", "namespace": "default"}}
    found = validate_update(resource, {"metadata": old["metadata"] | {"generateName": "A_"}}, old)
    assert ("metadata.generateName" in [error.field for error in found]) is is_judged


def test_a_config_map_that_is_too_large_is_blamed_as_a_whole() -> None:
    assert errors(kinds.CONFIG_MAPS, data={"a": "x" * 2**20}) == []
    assert errors(kinds.CONFIG_MAPS, data={"a": "x" * 2**20}, binaryData={"b": "YQ=="}) == [
        "[]: Too long: may not be more than 1048576 bytes"
    ]


def drawn(schema: JsonObject, rng: random.Random, depth: int = 0) -> Any:
    """Any value that fits ``schema``, often an odd one."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        return drawn({**definitions()[name], "$name": name}, rng, depth + 1)
    match schema.get("type"), schema.get("format"):
        case _, "int-or-string":
            return rng.choice([0, 80, -1, "", "http", "50%"])
        case _, "quantity":
            return rng.choice(["1", "500m", "-1Gi", "1e3", 5])
        case _, "date-time":
            fraction = ".000000" if schema.get("$name", "").endswith(".MicroTime") else ""
            return rng.choice([None, f"2026-01-01T00:00:00{fraction}Z"])
        case _, "byte":
            return rng.choice(["", "YQ==", None])
        case "integer", _:
            return rng.choice([0, 1, -1, 80, 70000, None])
        case "number", _:
            return rng.choice([0, 1.5, -1, None])
        case "boolean", _:
            return rng.choice([True, False, None])
        case "string", _:
            return rng.choice(
                ["", "a", "A b", "None", "NodePort", "ClientIP", "10.0.0.1", "x" * 300, "é", None]
            )
        case "array", _:
            return [drawn(schema["items"], rng, depth + 1) for _ in range(rng.choice([0, 1, 2]))]
    if "additionalProperties" in schema:
        return {rng.choice(["a", "A b", "cpu"]): drawn(schema["additionalProperties"], rng, depth + 1)}
    chance = 0.9 if depth < 3 else 0.4 if depth < 8 else 0
    fields = schema.get("properties", {})
    return {key: drawn(sub, rng, depth) for key, sub in fields.items() if rng.random() < chance}


@settings(max_examples=150)
@given(st.sampled_from(kinds.RESOURCES), st.integers(0, 10**9))
def test_whatever_fits_the_schema_can_be_judged(resource: Resource, seed: int) -> None:
    """No object that passed the schema check may break pruning, defaulting, validation or warnings."""
    rng = random.Random(seed)
    made_objects = []
    for _ in range(2):
        obj = drawn(definitions()[resource.schema], rng)
        assert check(resource.schema, obj).type_error is None
        prune(resource.schema, obj)
        pruned = deep_copy(obj)
        prune(resource.schema, pruned)
        assert pruned == obj, "pruning is idempotent"
        apply_defaults(resource, obj)
        made_objects.append(obj)
    new, old = made_objects
    found = validate_create(resource, new) + validate_update(resource, new, old)
    found += validate_status_update(resource, new, old)
    assert all(isinstance(error, FieldError) and str(error) for error in found)
    assert all(isinstance(text, str) for text in warnings(resource, new, old))
