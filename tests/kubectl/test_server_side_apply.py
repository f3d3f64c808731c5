"""kubectl's server-side apply and what it shows of managed fields, oldest and newest, against the API server alone."""

from __future__ import annotations

import json
from typing import Any

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30007}]
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: v1}]}
"""
SERVER_SIDE = ("apply", "--server-side", "-f", "-")
Json = dict[str, Any]


PATHS = {
    "service/web": "/api/v1/namespaces/default/services/web",
    "deployment/web": "/apis/apps/v1/namespaces/default/deployments/web",
}


async def read(kubectl: Any, what: str = "service/web") -> Json:
    """The object with its managed fields, which kubectl hides since 1.21."""
    found: Json = (await kubectl("get", "--raw", PATHS[what])).json
    return found


def minor(kubectl: Any) -> int:
    return int(kubectl.version.split(".")[1])


def managers(obj: Json) -> set[tuple[str, str]]:
    return {(each["manager"], each["operation"]) for each in obj["metadata"].get("managedFields", [])}


async def test_server_side_apply_creates_changes_and_removes(kubectl: Any) -> None:
    first = await kubectl(*SERVER_SIDE, stdin=SERVICE)
    assert first.lines == ["service/web serverside-applied"]
    made = await read(kubectl)
    assert managers(made) == {("kubectl", "Apply")}
    assert "kubectl.kubernetes.io/last-applied-configuration" not in json.dumps(made["metadata"])
    changed = SERVICE.replace("labels: {app: web}", "labels: {tier: front}").replace("30007", "30008")
    await kubectl(*SERVER_SIDE, stdin=changed)
    after = await read(kubectl)
    assert after["metadata"]["labels"] == {"tier": "front"}
    assert [port["nodePort"] for port in after["spec"]["ports"]] == [30008]
    again = await read(kubectl)
    await kubectl(*SERVER_SIDE, stdin=changed)
    assert await read(kubectl) == again


async def test_managed_fields_are_hidden_unless_asked_for(kubectl: Any) -> None:
    if minor(kubectl) < 21:
        return  # kubectl shows them always
    await kubectl(*SERVER_SIDE, stdin=SERVICE)
    hidden = await kubectl("get", "service", "web", "-o", "yaml")
    assert "managedFields" not in hidden.out
    shown = await kubectl("get", "service", "web", "-o", "yaml", "--show-managed-fields")
    assert 'k:{"port":80,"protocol":"TCP"}:' in shown.out


async def test_a_conflict_is_told_and_can_be_forced(kubectl: Any) -> None:
    await kubectl(*SERVER_SIDE, "--field-manager=other", stdin=SERVICE)
    changed = SERVICE.replace("30007", "30009")
    refused = await kubectl(*SERVER_SIDE, stdin=changed, fails=True)
    told = 'Apply failed with 1 conflict: conflict with "other": .spec.ports[port=80,protocol="TCP"].nodePort'
    assert told in refused.err
    assert "--force-conflicts" in refused.err
    await kubectl(*SERVER_SIDE, "--force-conflicts", stdin=changed)
    after = await read(kubectl)
    assert after["spec"]["ports"][0]["nodePort"] == 30009
    assert managers(after) == {("other", "Apply"), ("kubectl", "Apply")}


async def test_an_object_of_client_side_apply_is_taken_over_without_conflicts(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=SERVICE)
    assert managers(await read(kubectl)) == {("kubectl-client-side-apply", "Update")}
    changed = SERVICE.replace("labels: {app: web}", "labels: {tier: front}").replace("30007", "30010")
    taken = await kubectl(*SERVER_SIDE, stdin=changed)
    assert "service/web serverside-applied" in taken.lines
    after = await read(kubectl)
    assert after["spec"]["ports"][0]["nodePort"] == 30010
    assert ("kubectl", "Apply") in managers(after)
    if minor(kubectl) < 26:
        return  # kubectl does not hand over what its client-side apply owned
    assert after["metadata"]["labels"] == {"tier": "front"}
    assert ("kubectl-client-side-apply", "Update") not in managers(after)
    gone = await kubectl(*SERVER_SIDE, stdin=SERVICE.replace("labels: {app: web}", "labels: {}"))
    assert gone.lines == ["service/web serverside-applied"]
    assert "tier" not in json.dumps((await read(kubectl))["metadata"].get("labels"))


async def test_client_side_apply_goes_on_after_a_server_side_one(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=SERVICE)
    await kubectl(*SERVER_SIDE, stdin=SERVICE)
    changed = SERVICE.replace("30007", "30011")
    configured = await kubectl("apply", "-f", "-", stdin=changed)
    assert configured.lines[-1] == "service/web configured"
    assert (await read(kubectl))["spec"]["ports"][0]["nodePort"] == 30011


async def test_the_last_applied_configuration_can_be_seen_and_set(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=SERVICE)
    await kubectl(*SERVER_SIDE, stdin=SERVICE.replace("30007", "30012"))
    await kubectl("apply", "set-last-applied", "--create-annotation", "-f", "-", stdin=SERVICE)
    seen = await kubectl("apply", "view-last-applied", "service/web", "-o", "json")
    assert seen.json["spec"]["ports"][0]["nodePort"] == 30007
    edited = await kubectl(
        "apply",
        "edit-last-applied",
        "service/web",
        KUBE_EDITOR="sed -i s/30007/30013/",
        EDITOR="sed -i s/30007/30013/",
    )
    assert "edited" in edited.out
    seen = await kubectl("apply", "view-last-applied", "service/web", "-o", "json")
    assert seen.json["spec"]["ports"][0]["nodePort"] == 30013


async def test_diff_shows_what_a_server_side_apply_would_do(kubectl: Any) -> None:
    await kubectl(*SERVER_SIDE, stdin=SERVICE)
    same = await kubectl("diff", "--server-side", "-f", "-", stdin=SERVICE)
    assert same.out == ""
    other = await kubectl(
        "diff", "--server-side", "-f", "-", stdin=SERVICE.replace("30007", "30014"), fails=True
    )
    assert "+  - nodePort: 30014" in other.out
    assert (await read(kubectl))["spec"]["ports"][0]["nodePort"] == 30007


async def test_dry_runs_and_validation_by_the_server(kubectl: Any) -> None:
    dry = await kubectl(*SERVER_SIDE, "--dry-run=server", stdin=SERVICE)
    assert dry.lines == ["service/web serverside-applied (server dry run)"]
    await kubectl("get", "service", "web", fails=True)
    bad = await kubectl(*SERVER_SIDE, stdin=SERVICE.replace("targetPort", "targetPrt"), fails=True)
    told = '.spec.ports[port=80,protocol="TCP"].targetPrt: field not declared in schema'
    assert (told if minor(kubectl) >= 27 else 'unknown field "targetPrt"') in bad.err


async def test_scale_and_label_have_managers_of_their_own(kubectl: Any) -> None:
    await kubectl(*SERVER_SIDE, stdin=DEPLOYMENT)
    await kubectl("scale", "deployment/web", "--replicas=5")
    await kubectl("label", "deployment/web", "tier=front")
    found = await read(kubectl, "deployment/web")
    assert {"kubectl", "kubectl-label"} <= {manager for manager, _ in managers(found)}
    scaled = [each for each in found["metadata"]["managedFields"] if each.get("subresource") == "scale"]
    assert [each["fieldsV1"] for each in scaled] == [{"f:spec": {"f:replicas": {}}}]
    refused = await kubectl(*SERVER_SIDE, stdin=DEPLOYMENT, fails=True)
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in refused.err
    await kubectl(*SERVER_SIDE, stdin=DEPLOYMENT.replace("  replicas: 2\n", ""))
    assert (await read(kubectl, "deployment/web"))["spec"]["replicas"] == 5


async def test_status_is_applied_through_its_subresource(kubectl: Any) -> None:
    await kubectl(*SERVER_SIDE, stdin=SERVICE.replace("NodePort", "LoadBalancer"))
    status = """
apiVersion: v1
kind: Service
metadata: {name: web}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
"""
    if minor(kubectl) < 32:
        return  # kubectl apply has no --subresource
    await kubectl(*SERVER_SIDE, "--subresource=status", "--field-manager=lb", stdin=status)
    found = await read(kubectl)
    assert found["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
    assert ("lb", "Apply") in managers(found)
