"""Managed fields alone: what recording the managers adds to one write, beside decoding and encoding the object.

Microseconds, the best of several rounds; no server, no store.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from nodeport.api.defaulting import apply_defaults
from nodeport.api.managedfields.applying import Apply, apply
from nodeport.api.managedfields.entries import decode, encode, updater
from nodeport.api.managedfields.types import type_of
from nodeport.api.managedfields.updates import Scope, created, updated
from nodeport.api.meta import JsonObject
from nodeport.api.resources import LEASES, PODS, SERVICES, Resource

ROUNDS, TURNS = 15, 2_000
NOW = "2026-01-01T00:00:00Z"


def best(work: Callable[[], object]) -> float:
    """Microseconds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(TURNS):
            work()
        found.append((time.perf_counter() - began) / TURNS)
    return min(found) * 1e6


def tell(what: str, work: Callable[[], object]) -> None:
    print(f"{what:<52} {best(work):8.1f} us")


def written(resource: Resource, spec: JsonObject) -> tuple[Scope, JsonObject]:
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x"}, "spec": spec}
    apply_defaults(resource, obj)
    return Scope.of(type_of(resource.schema), resource.api_version, "", ["status"]), obj


def main() -> None:
    ports = {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "x"}, "type": "NodePort"}
    scope, service = written(SERVICES, ports)
    me, other = updater("kubectl", "v1"), updater("other", "v1")
    entries = encode(created(scope, service, me, NOW))
    new = {**service, "spec": {**service["spec"], "selector": {"app": "y"}}}
    bare = {**service, "metadata": {"name": "x"}}
    print(f"one entry of a NodePort Service: {len(msgspec.json.encode(entries))} bytes")
    tell("JSON of a Service without managers", lambda: msgspec.json.encode(bare))
    tell("JSON of its managers", lambda: msgspec.json.encode(entries))
    tell("create a NodePort Service", lambda: encode(created(scope, service, me, NOW)))
    tell("update one field of it", lambda: encode(updated(scope, service, new, decode(entries), other, NOW)))
    tell("update nothing", lambda: encode(updated(scope, service, service, decode(entries), other, NOW)))
    tell("apply it again", lambda: apply(Apply(scope, bare, "me", NOW, force=True), service, decode(entries)))
    scope_of_pods, pod = written(
        PODS, {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]}
    )
    tell("create a pod", lambda: encode(created(scope_of_pods, pod, me, NOW)))
    kubelet = updater("kubelet", LEASES.api_version)
    scope_of_leases, lease = written(
        LEASES, {"holderIdentity": "n", "renewTime": "1", "leaseDurationSeconds": 40}
    )
    owners = encode(created(scope_of_leases, lease, kubelet, NOW))
    renewed = {**lease, "spec": {**lease["spec"], "renewTime": "2"}}
    tell(
        "renew a lease",
        lambda: encode(updated(scope_of_leases, lease, renewed, decode(owners), kubelet, NOW)),
    )


if __name__ == "__main__":
    main()
