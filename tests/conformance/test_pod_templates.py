"""The conformance rows about PodTemplates, each named after its upstream test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.resources import POD_TEMPLATES
from nodeport.api.status import Invalid
from nodeport.client.rest import STRATEGIC_MERGE_PATCH
from nodeport.testing.controlplane import ControlledCluster

Named = Callable[..., dict[str, Any]]
NAMESPACE = "e2e"


def template(metadata: JsonObject, image: str = "nginx:1") -> JsonObject:
    labels = {"name": "nginx"}
    spec = {"containers": [{"name": "nginx", "image": image}]}
    return {"metadata": metadata, "template": {"metadata": {"labels": labels}, "spec": spec}}


async def test_podtemplates_should_run_the_lifecycle_of_podtemplates(
    cluster: ControlledCluster, named: Named
) -> None:
    client = cluster.client
    made = await client.create(POD_TEMPLATES, template(named("nginx", labels={"podtemplate": "static"})))
    assert (made["metadata"]["generation"], made["template"]["spec"]["restartPolicy"]) == (1, "Always")
    listed = await client.list(POD_TEMPLATES, label_selector="podtemplate=static")
    assert [each["metadata"]["name"] for each in listed["items"]] == ["nginx"]
    patch = {"metadata": {"labels": {"podtemplate": "patched"}}}
    await client.patch(POD_TEMPLATES, "nginx", patch, NAMESPACE, content_type=STRATEGIC_MERGE_PATCH)
    found = await client.get(POD_TEMPLATES, "nginx", NAMESPACE)
    assert (found["metadata"]["labels"], found["metadata"]["generation"]) == ({"podtemplate": "patched"}, 1)
    await client.delete(POD_TEMPLATES, "nginx", NAMESPACE)
    assert (await client.list(POD_TEMPLATES, label_selector="podtemplate=patched"))["items"] == []


async def test_podtemplates_should_delete_a_collection_of_pod_templates(
    cluster: ControlledCluster, named: Named
) -> None:
    client, labels = cluster.client, {"podtemplate-set": "true"}
    for number in range(3):
        await client.create(POD_TEMPLATES, template(named(f"test-podtemplate-{number}", labels=labels)))
    await client.create(POD_TEMPLATES, template(named("other")))
    await client.delete_collection(POD_TEMPLATES, NAMESPACE, label_selector="podtemplate-set=true")
    left = (await client.list(POD_TEMPLATES, NAMESPACE))["items"]
    assert [each["metadata"]["name"] for each in left] == ["other"]


async def test_podtemplates_should_replace_a_pod_template(cluster: ControlledCluster, named: Named) -> None:
    client = cluster.client
    made = await client.create(POD_TEMPLATES, template(named("replaced")))
    made["metadata"]["annotations"] = {"updated": "true"}
    made["template"]["spec"]["containers"][0]["image"] = "nginx:2"
    replaced = await client.update(POD_TEMPLATES, made)
    assert replaced["metadata"]["annotations"] == {"updated": "true"}
    assert replaced["metadata"]["generation"] == 2


async def test_a_template_is_judged_as_any_other(cluster: ControlledCluster, named: Named) -> None:
    wrong = template(named("wrong"), image="")
    with pytest.raises(Invalid, match=r"template\.spec\.containers\[0\]\.image: Required value"):
        await cluster.client.create(POD_TEMPLATES, wrong)
