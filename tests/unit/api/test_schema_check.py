"""Unknown fields, wrong types in Go's words, and what pruning drops."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import RESOURCES
from nodeport.api.schema import FieldReport, check, definitions, prune

SERVICE, POD = "io.k8s.api.core.v1.Service", "io.k8s.api.core.v1.Pod"


def test_unknown_fields_are_listed_by_path_in_document_order() -> None:
    obj = {
        "kind": "Service", "x": 1, "metadata": {"labels": {"any": "thing"}, "nmae": "a"},
        "spec": {"foo": {"bar": 1}, "ports": [{"port": 1}, {"port": 2, "nodeport": 3}]},
    }  # fmt: skip
    assert check(SERVICE, obj).unknown == ("x", "metadata.nmae", "spec.foo", "spec.ports[1].nodeport")


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ({"spec": {"ports": [{"port": "80"}]}},
         "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32"),
        ({"spec": {"ports": [{"port": 1.5}]}},
         "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.port of type int32"),
        ({"spec": {"ports": [{"port": 2**31}]}},
         "json: cannot unmarshal number 2147483648 into Go struct field ServicePort.spec.ports.port of type int32"),
        ({"spec": {"ports": {}}},
         "json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort"),
        ({"spec": "x"}, "json: cannot unmarshal string into Go struct field Service.spec of type v1.ServiceSpec"),
        ({"spec": {"type": 1}},
         "json: cannot unmarshal number into Go struct field ServiceSpec.spec.type of type v1.ServiceType"),
        ({"spec": {"selector": {"a": True}}},
         "json: cannot unmarshal bool into Go struct field ServiceSpec.spec.selector of type string"),
        ({"spec": {"ports": [{"targetPort": []}]}},
         "json: cannot unmarshal array into Go struct field ServicePort.spec.ports.targetPort of type int32"),
        ({"spec": {"type": 1, "ports": [{"targetPort": 1.5}, {"targetPort": True}]}},
         "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.targetPort of type int32"),
        ({"metadata": {"creationTimestamp": 5}},
         "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"),
        ({"metadata": {"creationTimestamp": "now"}},
         'parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"'),
        ({"metadata": {"name": ["a"]}},
         "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.name of type string"),
    ],
)  # fmt: skip
def test_wrong_types_are_told_in_gos_words(obj: JsonObject, text: str) -> None:
    assert check(SERVICE, obj).type_error == text


def test_quantities_and_bytes_are_checked_by_their_own_rules() -> None:
    limits: Any = {"spec": {"containers": [{"resources": {"limits": {"cpu": "1mm"}}}]}}
    assert "unable to parse quantity's suffix" in str(check(POD, limits).type_error)
    limits["spec"]["containers"][0]["resources"]["limits"] = {"cpu": 0.5, "memory": "1Gi", "x/y": 3}
    assert check(POD, limits) == FieldReport()
    secret = {"data": {"a": "!!"}}
    assert check("io.k8s.api.core.v1.Secret", secret).type_error == "illegal base64 data at input byte 0"
    assert check("io.k8s.api.core.v1.Secret", {"data": {"a": "YQ==", "b": None}}) == FieldReport()


def test_pruning_drops_what_a_round_trip_through_go_drops() -> None:
    obj = {
        "metadata": {"name": "a", "creationTimestamp": None, "labels": {}, "annotations": {"k": None}, "x": 1},
        "spec": {
            "selector": {}, "clusterIP": "", "ports": [{"port": 80, "nodePort": 0, "name": "", "targetPort": 0}],
            "healthCheckNodePort": 0, "allocateLoadBalancerNodePorts": False, "externalIPs": None,
            "publishNotReadyAddresses": False,
        },
        "status": {"loadBalancer": {}},
    }  # fmt: skip
    prune(SERVICE, obj)
    assert obj == {
        "metadata": {"name": "a", "annotations": {"k": ""}},
        "spec": {"ports": [{"port": 80, "targetPort": 0}], "allocateLoadBalancerNodePorts": False},
        "status": {"loadBalancer": {}},
    }


def test_pruning_keeps_empty_structs_and_pointers_and_fills_null_elements() -> None:
    pod: Any = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}, None], "containers": [
        {"name": "c", "args": ["", None], "securityContext": {}, "resources": {"limits": {"cpu": None}}}]}}  # fmt: skip
    prune(POD, pod)
    assert pod["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}, {}]
    assert pod["spec"]["containers"] == [
        {"name": "c", "args": ["", ""], "securityContext": {}, "resources": {"limits": {"cpu": "0"}}}
    ]


def test_replicas_zero_is_not_the_same_as_no_replicas() -> None:
    deployment = {"spec": {"replicas": 0, "minReadySeconds": 0}}
    prune("io.k8s.api.apps.v1.Deployment", deployment)
    assert deployment == {"spec": {"replicas": 0}}


def test_every_served_kind_has_a_definition_without_prose() -> None:
    text = str(definitions())
    assert "'description': '" not in text
    assert "#/$defs/" not in text
    for resource in RESOURCES:
        assert resource.schema in definitions()
        assert check(resource.schema, {"metadata": {"name": "a"}}) == FieldReport()


def test_importing_the_room_reads_no_schema() -> None:
    """Also the measure of its weight: nothing heavy comes along."""
    code = (
        "import sys, nodeport.api.schema, nodeport.api.validation, nodeport.api.protobuf, nodeport.api.patch;"
        "assert not {'yaml', 'asyncio', 'socket', 'ssl', 'aiohttp'} & set(sys.modules), sorted(sys.modules);"
        "assert nodeport.api.schema.definitions.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_checking_a_service_takes_microseconds() -> None:
    obj = {
        "metadata": {"name": "a"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080}]},
    }
    check(SERVICE, obj)
    best = 1.0
    for _ in range(20):
        copy = deep_copy(obj)
        started = time.process_time()
        check(SERVICE, copy)
        best = min(best, time.process_time() - started)
    assert best < 300e-6
