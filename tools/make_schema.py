"""Make ``api/data/schema.json`` from the schemas that the PyPI package kubernetes-validate ships.

Dev-time only. Keeps names, types, formats, list types and merge keys of what the served kinds reach. The prose, which
only OpenAPI documents need, goes to ``descriptions.json.gz`` beside it (Apache-2.0; see ``data/NOTICE.md``).

    python tools/make_schema.py path/to/kubernetes_validate-X.Y.Z-py3-none-any.whl [output]
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

CORE, META, APPS = "io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1.", "io.k8s.api.apps.v1."
NETWORKING, RBAC = "io.k8s.api.networking.v1.", "io.k8s.api.rbac.v1."
AUTHORIZATION = "io.k8s.api.authorization.v1."

KINDS = (
    *(CORE + kind for kind in (
        "Namespace", "Node", "Pod", "Service", "Endpoints", "Event", "ConfigMap", "Secret", "ServiceAccount",
        "ReplicationController", "ResourceQuota", "LimitRange", "PodTemplate",
        "PersistentVolume", "PersistentVolumeClaim",
    )),
    *(APPS + kind for kind in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "ControllerRevision")),
    "io.k8s.api.discovery.v1.EndpointSlice",
    "io.k8s.api.coordination.v1.Lease",
    "io.k8s.api.certificates.v1.CertificateSigningRequest",
    "io.k8s.api.batch.v1.Job",
    "io.k8s.api.events.v1.Event",
    "io.k8s.api.policy.v1.PodDisruptionBudget",
    "io.k8s.api.scheduling.v1.PriorityClass",
    "io.k8s.api.node.v1.RuntimeClass",
    "io.k8s.api.storage.v1.StorageClass",
    *(NETWORKING + kind for kind in ("Ingress", "IngressClass", "ServiceCIDR", "IPAddress")),
    *(RBAC + kind for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")),
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
)  # fmt: skip
OTHERS = (
    *(META + kind for kind in (
        "Status", "DeleteOptions", "WatchEvent", "APIGroup", "APIGroupList", "APIResourceList", "APIVersions",
        "Patch",
    )),
    "io.k8s.apimachinery.pkg.version.Info",
    CORE + "Binding",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.authentication.v1.TokenReview",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
    *(AUTHORIZATION + kind for kind in (
        "SelfSubjectAccessReview", "SubjectAccessReview", "LocalSubjectAccessReview", "SelfSubjectRulesReview",
    )),
)  # fmt: skip

VERSION = r"/v1\.36"
"""The Kubernetes version that is served: later fields are unknown to it."""

INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
KEPT = (
    "type", "format", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key", "x-kubernetes-group-version-kind",
    "x-kubernetes-unions", "default",
)  # fmt: skip


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in OpenAPI's own flavour: no prose, no null alternatives, component references."""
    made: dict[str, Any] = {}
    for key in KEPT:
        if key in schema:
            made[key] = schema[key]
    if isinstance(made.get("type"), list):
        made["type"] = next(word for word in made["type"] if word != "null")
    if "$ref" in schema:
        made["$ref"] = schema["$ref"].replace("#/$defs/", "#/components/schemas/")
    if "properties" in schema:
        made["properties"] = {name: bare(sub) for name, sub in sorted(schema["properties"].items())}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = bare(schema[key])
    return made


def special(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if name == INT_OR_STRING:
        return {"type": "string", "format": "int-or-string"}
    if name == QUANTITY:
        return {"type": "string", "format": "quantity"}
    made = bare(schema)
    kinds = made.get("x-kubernetes-group-version-kind")
    if kinds and len(kinds) > 1:
        made["x-kubernetes-group-version-kind"] = [
            kind for kind in kinds if kind["group"] in ("", "autoscaling")
        ][:1]
    return made


def reachable(found: dict[str, dict[str, Any]], roots: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    kept: dict[str, dict[str, Any]] = {}
    queue = [*roots, *(root + "List" for root in roots if root + "List" in found)]
    while queue:
        name = queue.pop()
        if name in kept:
            continue
        kept[name] = special(name, found[name])
        queue += re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(kept[name]))
    return dict(sorted(kept.items()))


def prose(found: dict[str, dict[str, Any]], kept: dict[str, Any]) -> dict[str, dict[str, str]]:
    """``{definition: {field: text}}``; a definition's own text is under the empty field."""
    made = {}
    for name in kept:
        fields = {"": found[name].get("description")}
        fields |= {field: sub.get("description") for field, sub in found[name].get("properties", {}).items()}
        made[name] = {field: text for field, text in fields.items() if text}
    return made


def main(wheel: str, output: str = "src/nodeport/api/data/schema.json") -> None:
    with zipfile.ZipFile(wheel) as archive:
        newest = max(
            (
                path
                for path in archive.namelist()
                if re.search(VERSION + r"[\d.]+-local/_definitions\.json$", path)
            ),
            key=lambda path: [int(part) for part in re.findall(r"\d+", path.split("/")[-2])],
        )
        document = json.loads(archive.read(newest))
    found = document.get("$defs") or document["definitions"]
    kept = reachable(found, (*KINDS, *OTHERS))
    Path(output).write_text(json.dumps(kept, separators=(",", ":"), sort_keys=True) + "\n")
    texts = json.dumps(prose(found, kept), separators=(",", ":"), sort_keys=True).encode()
    Path(output).with_name("descriptions.json.gz").write_bytes(gzip.compress(texts, 9, mtime=0))
    print(f"{len(kept)} of {len(found)} definitions of {newest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
