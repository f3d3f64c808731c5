"""Protobuf request bodies: golden bytes that kubectl 1.37.1 posted, and anything else that bytes can be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject
from nodeport.api.protobuf import MAGIC, decode, message_name
from nodeport.api.resources import CUSTOM_RESOURCE_DEFINITIONS, RESOURCES, by_kind
from nodeport.api.schema import check, prune
from nodeport.api.status import BadRequest

DATA = Path(__file__).parent / "data"
BODIES = sorted(DATA.glob("*.pb"))

EXPECTED: dict[str, JsonObject] = {
    "service-nodeport": {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"},
            "ports": [
                {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080},
                {"name": "443-https", "protocol": "TCP", "port": 443, "targetPort": "https", "nodePort": 30080},
            ],
        },
        "status": {"loadBalancer": {}},
    },
    "service-clusterip": {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "labels": {"app": "db"}},
        "spec": {"type": "ClusterIP", "clusterIP": "None", "selector": {"app": "db"}}, "status": {"loadBalancer": {}},
    },
    "service-externalname": {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far", "labels": {"app": "far"}},
        "spec": {"type": "ExternalName", "externalName": "example.com", "selector": {"app": "far"}},
        "status": {"loadBalancer": {}},
    },
    "deployment": {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "strategy": {},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "echo", "image": "nodeport/echo:1", "ports": [{"containerPort": 8080}], "resources": {},
                }]},
            },
        },
        "status": {},
    },
    "namespace": {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}, "spec": {}, "status": {},
    },
    "configmap": {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1", "b": "two"},
    },
    "secret": {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pass"}, "data": {"user": "YWRtaW4="},
    },
    "serviceaccount": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_kubectl_posts_decodes_to_the_object_it_means(name: str) -> None:
    obj = decode((DATA / f"{name}.pb").read_bytes())
    resource = by_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    assert check(resource.schema, obj) == check(resource.schema, {})
    prune(resource.schema, obj)
    assert obj == EXPECTED[name]


def test_bodies_of_subresources_and_coming_kinds_decode_too() -> None:
    token = decode((DATA / "token.pb").read_bytes())
    assert (token["kind"], token["spec"]) == (
        "TokenRequest",
        {"audiences": ["api"], "expirationSeconds": 600},
    )
    review = decode((DATA / "can-i.pb").read_bytes())
    attributes = review["spec"]["resourceAttributes"]
    assert (attributes["verb"], attributes["resource"], attributes["namespace"]) == (
        "create",
        "services",
        "team-a",
    )
    ingress = decode((DATA / "ingress.pb").read_bytes())
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"]["number"] == 80
    assert decode((DATA / "job.pb").read_bytes())["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert decode((DATA / "rolebinding.pb").read_bytes())["subjects"][0]["name"] == "ann"


def test_every_served_kind_and_request_kind_has_a_table() -> None:
    for resource in RESOURCES:
        if resource is CUSTOM_RESOURCE_DEFINITIONS:  # never made, so never sent
            continue
        assert message_name(resource.api_version, resource.kind) == resource.schema
    for api_version, kind in (
        ("v1", "DeleteOptions"), ("v1", "Binding"), ("autoscaling/v1", "Scale"), ("policy/v1", "Eviction"),
        ("authentication.k8s.io/v1", "TokenRequest"), ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
        ("meta.k8s.io/v1", "DeleteOptions"), ("policy/v1", "DeleteOptions"),
    ):  # fmt: skip
        assert message_name(api_version, kind) is not None, kind


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field, written by hand."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


def test_times_quantities_and_negative_numbers_take_their_json_form() -> None:
    lease = field(
        2, field(1, b"me") + field(2, 40) + field(3, field(1, 1_700_000_000) + field(2, 123_456_789))
    )
    assert decode(envelope("coordination.k8s.io/v1", "Lease", lease))["spec"] == {
        "holderIdentity": "me", "leaseDurationSeconds": 40, "acquireTime": "2023-11-14T22:13:20.123456Z",
    }  # fmt: skip
    meta = field(1, field(8, field(1, 1_700_000_000)) + field(7, -3))
    assert decode(envelope("v1", "Pod", meta))["metadata"] == {
        "creationTimestamp": "2023-11-14T22:13:20Z", "generation": -3,
    }  # fmt: skip
    capacity = field(3, field(1, field(1, b"cpu") + field(2, field(1, b"500m"))))
    assert decode(envelope("v1", "Node", capacity))["status"] == {"capacity": {"cpu": "500m"}}


def test_repeated_numbers_are_read_packed_and_unpacked() -> None:
    packed = field(4, varint(5) + varint(6))
    unpacked = field(4, 5) + field(4, 6)
    for context in (packed, unpacked):
        obj = decode(envelope("v1", "Pod", field(2, field(14, context))))
        assert obj["spec"]["securityContext"]["supplementalGroups"] == [5, 6]


def test_unknown_fields_are_skipped() -> None:
    assert decode(envelope("v1", "ConfigMap", field(99, b"x") + field(98, 7))) == {
        "apiVersion": "v1", "kind": "ConfigMap",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"k8s", MAGIC, envelope("v1", "Nonsense", b""), envelope("v1", "Pod", b"\x0a\xff"),
        envelope("v1", "Pod", b"\x08\x01"), envelope("v1", "Pod", b"\x0b"), MAGIC + b"\xff" * 20,
        envelope("v1", "Pod", field(2, b"")) + field(3, b"gzip"),
    ],
)  # fmt: skip
def test_malformed_bodies_are_bad_requests(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body)


def assert_object_or_bad_request(body: bytes) -> None:
    try:
        obj: Any = decode(body)
    except BadRequest:
        return
    assert isinstance(obj, dict)


@settings(max_examples=300)
@given(st.sampled_from(BODIES), st.data())
def test_damaged_bodies_give_an_object_or_a_bad_request_and_nothing_else(
    path: Path, data: st.DataObject
) -> None:
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert_object_or_bad_request(bytes(body[: data.draw(st.integers(4, len(body)))]))


@settings(max_examples=200)
@given(st.sampled_from(RESOURCES), st.binary(max_size=200))
def test_random_messages_give_an_object_or_a_bad_request(resource: Any, raw: bytes) -> None:
    assert_object_or_bad_request(envelope(resource.api_version, resource.kind, raw))


def test_deep_nesting_is_refused_quickly() -> None:
    raw = b""
    for _ in range(2000):
        raw = field(2, field(14, raw))
    started = time.process_time()
    assert_object_or_bad_request(envelope("v1", "Pod", raw))
    assert time.process_time() - started < 5
