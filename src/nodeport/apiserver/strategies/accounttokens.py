"""Gives new pods their account's token, and their account's pull secrets: the admission plugin ServiceAccount. Pure.

Rule source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/ (admission controller)
"""

from __future__ import annotations

import random

from nodeport.api.meta import JsonObject
from nodeport.kit.names import random_suffix

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_SECONDS = 3607
"""A second past the hour by seven: recognized by servers that warn of tokens which are used for too long."""
ROOT_CA = "kube-root-ca.crt"
_MODE = 0o644


def complete(pod: JsonObject, account: JsonObject, rng: random.Random) -> None:
    """Whether there is a token is the pod's to say, then the account's; by default there is."""
    spec = pod["spec"]
    wish = spec.get("automountServiceAccountToken")
    if wish is None:
        wish = account.get("automountServiceAccountToken")
    if wish is not False:
        _mount(spec, rng)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(each) for each in account["imagePullSecrets"]]


def _mount(spec: JsonObject, rng: random.Random) -> None:
    """In every container that has nothing at the place."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    lacking = [one for one in containers if not _has_something_there(one)]
    if not lacking:
        return
    known = next((each["name"] for each in spec.get("volumes") or () if _is_ours(each)), None)
    name = known or VOLUME_PREFIX + random_suffix(rng)
    if known is None:
        spec["volumes"] = [*(spec.get("volumes") or ()), _volume(name)]
    for one in lacking:
        mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
        one["volumeMounts"] = [*(one.get("volumeMounts") or ()), mount]


def _has_something_there(container: JsonObject) -> bool:
    return any(mount.get("mountPath") == MOUNT_PATH for mount in container.get("volumeMounts") or ())


def _is_ours(volume: JsonObject) -> bool:
    return str(volume.get("name") or "").startswith(VOLUME_PREFIX)


def _volume(name: str) -> JsonObject:
    namespace = {
        "path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    }  # fmt: skip
    sources = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": _MODE}}
