"""What Ingresses and IngressClasses may say, to the error text."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.defaulting import apply_defaults
from nodeport.api.resources import INGRESS_CLASSES, INGRESSES
from nodeport.api.validation import validate_create, validate_status_update, validate_update

Json = dict[str, Any]
BACKEND: Json = {"service": {"name": "web", "port": {"number": 80}}}
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"


def ingress(spec: Json, **metadata: Any) -> Json:
    return {"metadata": {"name": "i", "namespace": "default", **metadata}, "spec": spec}


def complaints(spec: Json, **metadata: Any) -> list[str]:
    return [str(error) for error in validate_create(INGRESSES, ingress(spec, **metadata))]


def with_path(**path: Any) -> Json:
    return {"rules": [{"http": {"paths": [{"pathType": "Prefix", "path": "/", "backend": BACKEND, **path}]}}]}


PATH = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        ({"defaultBackend": BACKEND}, []),
        (with_path(), []),
        ({}, ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
        ({"rules": [{"http": {}}]}, ["spec.rules[0].http.paths: Required value"]),
        (with_path(pathType=None), [f"{PATH}.pathType: Required value: pathType must be specified"]),
        (with_path(pathType="Regex"), [
            f'{PATH}.pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"']),
        (with_path(path=""), [f'{PATH}.path: Invalid value: "": must be an absolute path']),
        (with_path(path="", pathType="ImplementationSpecific"), []),
        (with_path(path="a", pathType="ImplementationSpecific"), [
            f'{PATH}.path: Invalid value: "a": must be an absolute path']),
        (with_path(path="/a//b/."), [
            f"""{PATH}.path: Invalid value: "/a//b/.": must not contain '//'""",
            f"""{PATH}.path: Invalid value: "/a//b/.": cannot end with '/.'"""]),
        (with_path(backend={}), [f'{PATH}.backend: Invalid value: "": resource or service backend is required']),
        (with_path(backend={**BACKEND, "resource": {"kind": "A", "name": "b"}}), [
            f'{PATH}.backend: Invalid value: "": cannot set both resource and service backends']),
        (with_path(backend={"resource": {"kind": "a/b"}}), [
            f"""{PATH}.backend.resource.kind: Invalid value: "a/b": may not contain '/'""",
            f"{PATH}.backend.resource.name: Required value"]),
        (with_path(backend={"service": {}}), [
            f"{PATH}.backend.service.name: Required value",
            f"{PATH}.backend: Required value: port name or number is required"]),
        (with_path(backend={"service": {"name": "1web", "port": {"number": 80, "name": "http"}}}), [
            f'{PATH}.backend: Invalid value: "": cannot set both port name & port number']),
        (with_path(backend={"service": {"name": "web", "port": {"number": 70000}}}), [
            f"{PATH}.backend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
        ({"rules": [{"host": "1.2.3.4"}]}, [
            'spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address']),
        ({"rules": [{"host": "*.example.com"}], "tls": [{"hosts": ["*.example.com"], "secretName": "s"}]}, []),
        ({"rules": [{"host": "a.*.com"}]}, [
            'spec.rules[0].host: Invalid value: "a.*.com": a wildcard DNS-1123 subdomain must start with \'*.\', followed '
            "by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with "
            rf"an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.{SUBDOMAIN}')"]),
    ],
)  # fmt: skip
def test_ingresses(spec: Json, errors: list[str]) -> None:
    assert complaints(spec) == errors


def test_the_class_annotation_may_not_contradict_the_class_name() -> None:
    annotations = {"kubernetes.io/ingress.class": "a"}
    assert complaints({"defaultBackend": BACKEND, "ingressClassName": "b"}, annotations=annotations) == [
        'annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are '
        "specified"
    ]
    assert complaints({"defaultBackend": BACKEND, "ingressClassName": "a"}, annotations=annotations) == []


def test_the_status_takes_addresses_and_names() -> None:
    def status(*entries: Json) -> Json:
        return {**ingress({}), "status": {"loadBalancer": {"ingress": list(entries)}}}

    found = validate_status_update(INGRESSES, status({"ip": "x"}, {"hostname": "1.2.3.4"}), status())
    assert [str(error) for error in found] == [
        'status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or '
        "2001:db8::ffff)",
        'status.loadBalancer.ingress[1].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address',
    ]
    assert validate_status_update(INGRESSES, status({"ip": "010.0.0.1"}), status({"ip": "010.0.0.1"})) == []


def ingress_class(**spec: Any) -> Json:
    return {"metadata": {"name": "c"}, "spec": spec}


PARAMETERS: Json = {"apiGroup": "g.example", "kind": "P", "name": "p"}


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        ({"controller": "a.example/x"}, []),
        ({}, ["spec.controller: Required value"]),
        ({"controller": "a"}, [
            'spec.controller: Invalid value: "a": must be a domain-prefixed path (such as "acme.io/foo")']),
        ({"controller": "a.example/" + "x" * 250}, ["spec.controller: Too long: may not be more than 250 bytes"]),
        ({"controller": "a.example/x y"}, [
            'spec.controller: Invalid value: "x y": Invalid path (regex used for validation is '
            r"""'[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"""]),
        ({"controller": "a.example/x", "parameters": PARAMETERS}, []),
        ({"controller": "a.example/x", "parameters": {"scope": "Namespace"}}, [
            "spec.parameters.kind: Required value", "spec.parameters.name: Required value",
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]),
        ({"controller": "a.example/x", "parameters": {**PARAMETERS, "namespace": "n"}}, [
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"]),
        ({"controller": "a.example/x", "parameters": {**PARAMETERS, "scope": "World"}}, [
            'spec.parameters.scope: Unsupported value: "World": supported values: "Cluster", "Namespace"']),
    ],
)  # fmt: skip
def test_ingress_classes(spec: Json, errors: list[str]) -> None:
    obj = ingress_class(**spec)
    apply_defaults(INGRESS_CLASSES, obj)
    assert [str(error) for error in validate_create(INGRESS_CLASSES, obj)] == errors


def test_the_controller_of_a_class_stays() -> None:
    found = validate_update(INGRESS_CLASSES, ingress_class(controller="a/b"), ingress_class(controller="a/c"))
    assert [str(error) for error in found] == ['spec.controller: Invalid value: "a/b": field is immutable']
