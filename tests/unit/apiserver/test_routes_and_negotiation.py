"""Paths -> targets; Accept headers -> representations."""

from __future__ import annotations

import pytest

from nodeport.api.resources import RESOURCES
from nodeport.api.status import NotAcceptable, UnsupportedMediaType
from nodeport.apiserver.negotiation import Form, body_type, representation, wants_discovery
from nodeport.apiserver.routes import Router
from nodeport.apiserver.warnings import warning_headers

ROUTER = Router(RESOURCES)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v1/pods", ("pods", "", "", "")),
        ("/api/v1/namespaces/n/pods/p/log", ("pods", "n", "p", "log")),
        ("/api/v1/namespaces", ("namespaces", "", "", "")),
        ("/api/v1/namespaces/n", ("namespaces", "", "n", "")),
        ("/api/v1/namespaces/n/status", ("namespaces", "", "n", "status")),
        ("/api/v1/namespaces/n/finalize", ("namespaces", "", "n", "finalize")),
        ("/api/v1/namespaces/status/services", ("services", "status", "", "")),
        ("/api/v1/nodes/node-1/status", ("nodes", "", "node-1", "status")),
        ("/apis/apps/v1/namespaces/n/deployments/d/scale", ("deployments", "n", "d", "scale")),
        ("/api/v1/watch/services", ("services", "", "", "")),
    ],
)
def test_paths_name_targets(path: str, found: tuple[str, str, str, str]) -> None:
    target = ROUTER.target(path)
    assert target is not None
    assert (target.resource.plural, target.namespace, target.name, target.subresource) == found
    assert target.watch_prefix is ("/watch/" in path)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda row: row.plural)
def test_every_row_finds_itself(resource: object) -> None:
    from nodeport.api.resources import Resource

    assert isinstance(resource, Resource)
    for sub in ("", *(each.name for each in resource.subresources)):
        target = ROUTER.target(resource.path("n", "x", sub))
        assert target is not None
        assert (target.resource, target.name, target.subresource) == (resource, "x", sub)


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "form", "yaml"),
    [
        ("", Form.OBJECT, False), ("*/*", Form.OBJECT, False), ("application/yaml", Form.OBJECT, True),
        (f"{TABLE},application/json", Form.TABLE, False),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Form.OBJECT, False),
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io," + TABLE, Form.TABLE, False),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Form.METADATA, False),
        ("application/yaml;q=0.5, application/json", Form.OBJECT, False),
        ("application/json;stream=watch", Form.OBJECT, False),
    ],
)  # fmt: skip
def test_the_first_form_that_can_be_produced_wins(accept: str, form: Form, yaml: bool) -> None:
    found = representation(accept)
    assert (found.form, found.yaml) == (form, yaml)


def test_what_cannot_be_produced_is_not_acceptable() -> None:
    for accept in ("text/html", "application/json;q=0", "application/json;as=Widget;v=v1;g=meta.k8s.io"):
        with pytest.raises(NotAcceptable):
            representation(accept)
    with pytest.raises(NotAcceptable):
        representation(TABLE, transformable=False)


def test_discovery_versions() -> None:
    new = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert wants_discovery(f"{new},application/json") == "v2"
    assert wants_discovery(new.replace("v=v2", "v=v9") + "," + new.replace("v=v2", "v=v2beta1")) == "v2beta1"
    assert wants_discovery("application/json") == ""
    assert wants_discovery("*/*") == ""


def test_body_types() -> None:
    assert body_type("") == "application/json"
    assert body_type("application/json; charset=utf-8") == "application/json"
    assert body_type("text/yaml") == "application/yaml"
    assert body_type("application/vnd.kubernetes.protobuf") == "application/vnd.kubernetes.protobuf"
    with pytest.raises(UnsupportedMediaType):
        body_type("multipart/form-data; boundary=x")


def test_warnings_are_quoted_once_each_and_bounded() -> None:
    assert warning_headers(['say "hi"', 'say "hi"', "back\\slash\n"]) == [
        '299 - "say \\"hi\\""', '299 - "back\\\\slash"',
    ]  # fmt: skip
    many = warning_headers([f"{index:04}" + "x" * 1000 for index in range(40)])
    assert 0 < len(many) < 40
    assert sum(map(len, many)) < 4500
