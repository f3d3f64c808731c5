"""Ingresses and the class that they get."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.apiserver.strategies.ingresses import IS_DEFAULT, default_class

CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"
SPEC = {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}


async def make_class(raw: Any, name: str, *, default: bool) -> None:
    annotations = {IS_DEFAULT: "true"} if default else {}
    metadata = {"name": name, "annotations": annotations}
    await raw.create(CLASSES, {"metadata": metadata, "spec": {"controller": "example.com/c"}})


async def test_an_ingress_without_a_class_gets_the_default_class(raw: Any) -> None:
    await make_class(raw, "plain", default=False)
    alone = await raw.create(INGRESSES, {"metadata": {"name": "a"}, "spec": SPEC})
    assert "ingressClassName" not in alone["spec"]
    await make_class(raw, "usual", default=True)
    made = await raw.create(INGRESSES, {"metadata": {"name": "b"}, "spec": SPEC})
    assert made["spec"]["ingressClassName"] == "usual"
    own = await raw.create(
        INGRESSES, {"metadata": {"name": "c"}, "spec": {**SPEC, "ingressClassName": "plain"}}
    )
    assert own["spec"]["ingressClassName"] == "plain"
    metadata = {"name": "d", "annotations": {"kubernetes.io/ingress.class": "old"}}
    old = await raw.create(INGRESSES, {"metadata": metadata, "spec": SPEC})
    assert "ingressClassName" not in old["spec"]
    again = await raw("PUT", f"{INGRESSES}/a", {"metadata": {"name": "a"}, "spec": SPEC})
    assert "ingressClassName" not in again.json["spec"], "only new ones"


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [
        ([], ""),
        ([("a", "2026-01-01T00:00:00Z", False)], ""),
        ([("b", "2026-01-01T00:00:00Z", True), ("a", "2026-01-02T00:00:00Z", True)], "a"),
        ([("b", "2026-01-01T00:00:00Z", True), ("a", "2026-01-01T00:00:00Z", True)], "a"),
    ],
)
def test_of_several_defaults_the_youngest_counts(classes: list[tuple[str, str, bool]], chosen: str) -> None:
    metadata = [
        {"name": name, "creationTimestamp": made, "annotations": {IS_DEFAULT: "true"} if default else {}}
        for name, made, default in classes
    ]
    assert default_class(metadata) == chosen


async def test_the_generation_of_an_ingress_counts_its_specs(raw: Any) -> None:
    made = await raw.create(INGRESSES, {"metadata": {"name": "a"}, "spec": SPEC})
    assert made["metadata"]["generation"] == 1
    made["spec"]["tls"] = [{"hosts": ["h.example.com"]}]
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    changed = (await raw("PUT", f"{INGRESSES}/a", made)).json
    assert (changed["metadata"]["generation"], changed["status"]) == (2, {"loadBalancer": {}})
