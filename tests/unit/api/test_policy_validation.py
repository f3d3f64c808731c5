"""Quotas, limits, disruption budgets, priorities, runtimes, revisions: what they may say."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api import resources as rows
from nodeport.api.defaulting import apply_defaults
from nodeport.api.resources import Resource
from nodeport.api.validation import validate_create, validate_update

Json = dict[str, Any]


NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def whole(resource: Resource, content: Json, name: str = "x") -> Json:
    metadata = {"name": name} | ({"namespace": "default"} if resource.namespaced else {})
    return {"metadata": metadata, **content}


@pytest.mark.parametrize(
    ("resource", "content", "errors"),
    [
        (rows.RESOURCE_QUOTAS, {"spec": {"hard": {"pods": "5", "requests.cpu": "500m", "count/ingresses.networking.k8s.io": "1"}}}, []),
        (rows.RESOURCE_QUOTAS, {"spec": {"hard": {"services.nodeports": "1500m"}}}, [
            'spec.hard[services.nodeports]: Invalid value: "1500m": must be an integer']),
        (rows.RESOURCE_QUOTAS, {"spec": {"hard": {"foo": "1", "storage": "1", "hugepages-2Mi": "1", "requests.example.com/gpu": "1"}}}, [
            'spec.hard[foo]: Invalid value: "foo": must be a standard resource type or fully qualified',
            'spec.hard[foo]: Invalid value: "foo": must be a standard resource for quota',
            'spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota']),
        (rows.RESOURCE_QUOTAS, {"spec": {"hard": {"pods": "-1"}}}, [
            'spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0']),
        (rows.RESOURCE_QUOTAS, {"spec": {"scopes": ["BestEffort", "NotBestEffort"], "hard": {"services": "1"}}}, [
            'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource',
            'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource',
            'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes']),
        (rows.RESOURCE_QUOTAS, {"spec": {"scopes": ["Best"]}}, ['spec.scopes: Invalid value: ["Best"]: unsupported scope']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}}]}}, []),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}, {"type": "Pod"}]}}, [
            'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
            'spec.limits[1].type: Duplicate value: "Pod"']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}}, [
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "x"}, {"type": "example.com/x"}, {"type": "a b"}]}}, [
            'spec.limits[0].type: Invalid value: "x": must be a standard limit type or fully qualified',
            f'spec.limits[2].type: Invalid value: "a b": {NAME_PART}']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}]}}, [
            'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
            'spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1',
            'spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}]}}, [
            'spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than max value 1',
            'spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2"}}]}}, [
            'spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than max value 1',
            'spec.limits[0].default[cpu]: Invalid value: "1": default value 2 is greater than max value 1']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}]}}, [
            'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1']),
        (rows.LIMIT_RANGES, {"spec": {"limits": [{"type": "Pod", "maxLimitRequestRatio": {"cpu": "5"}, "max": {"cpu": "4"}, "min": {"cpu": "1"}}]}}, [
            'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "5": ratio 5 is greater than max/min = 4.000000']),
        (rows.POD_DISRUPTION_BUDGETS, {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}, []),
        (rows.POD_DISRUPTION_BUDGETS, {"spec": {"minAvailable": 1, "maxUnavailable": "101%"}}, [
            'spec: Invalid value: {"minAvailable":1,"maxUnavailable":"101%"}: minAvailable and maxUnavailable cannot be both set',
            'spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%']),
        (rows.PRIORITY_CLASSES, {"value": 1000}, []),
        (rows.PRIORITY_CLASSES, {"value": 1_000_000_001}, [
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]),
        (rows.RUNTIME_CLASSES, {}, ["handler: Required value"]),
        (rows.CONTROLLER_REVISIONS, {"revision": -1}, [
            "data: Required value: data is mandatory", "revision: Invalid value: -1: must be greater than or equal to 0"]),
    ],
)  # fmt: skip
def test_what_is_said_of_new_objects(resource: Resource, content: Json, errors: list[str]) -> None:
    assert [str(error) for error in validate_create(resource, whole(resource, content))] == errors


def test_only_the_system_has_system_priorities() -> None:
    def found(name: str, value: int) -> list[str]:
        obj = whole(rows.PRIORITY_CLASSES, {"value": value}, name)
        return [str(error) for error in validate_create(rows.PRIORITY_CLASSES, obj)]

    assert found("system-node-critical", 2_000_001_000) == []
    assert found("system-mine", 1) == [
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
        "system-mine is not a known system priority class"
    ]


@pytest.mark.parametrize(
    ("resource", "before", "after", "error"),
    [
        (rows.PRIORITY_CLASSES, {"value": 1}, {"value": 2}, "value: Forbidden: may not be changed in an update."),
        (rows.RUNTIME_CLASSES, {"handler": "a"}, {"handler": "b"}, 'handler: Invalid value: "b": field is immutable'),
        (rows.CONTROLLER_REVISIONS, {"data": {"a": 1}}, {"data": {"a": 2}},
         'data: Invalid value: {"a":2}: field is immutable'),
        (rows.RESOURCE_QUOTAS, {"spec": {}}, {"spec": {"scopes": ["BestEffort"]}},
         'spec.scopes: Invalid value: ["BestEffort"]: field is immutable'),
    ],
)  # fmt: skip
def test_what_stays(resource: Resource, before: Json, after: Json, error: str) -> None:
    found = validate_update(resource, whole(resource, after), whole(resource, before))
    assert [str(each) for each in found] == [error]


def test_container_limits_default_from_one_another() -> None:
    item = {
        "type": "Container",
        "max": {"cpu": "2"},
        "min": {"memory": "1Mi"},
        "defaultRequest": {"cpu": "1"},
    }
    obj = whole(rows.LIMIT_RANGES, {"spec": {"limits": [item]}})
    apply_defaults(rows.LIMIT_RANGES, obj)
    assert obj["spec"]["limits"][0]["default"] == {"cpu": "2"}
    assert obj["spec"]["limits"][0]["defaultRequest"] == {"cpu": "1", "memory": "1Mi"}


@pytest.mark.parametrize(
    "resource",
    [rows.NODES, rows.RESOURCE_QUOTAS, rows.LEASES, rows.POD_DISRUPTION_BUDGETS, rows.LIMIT_RANGES],
)
@pytest.mark.parametrize("more", [{}, {"spec": None}])
def test_whatever_has_a_spec_is_shown_with_one(resource: Resource, more: Json) -> None:
    obj = whole(resource, more)
    apply_defaults(resource, obj)
    assert obj["spec"] == {}
