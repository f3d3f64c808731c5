"""What is to be done about one CertificateSigningRequest.

Rules: the approver, the signers and the cleaner of kube-controller-manager 1.36. Who approves certificates of
nodes' servers is our own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

from nodeport.api import certificates
from nodeport.api.certificates import APPROVED, DENIED, FAILED, KUBELET_CLIENT, KUBELET_SERVING, Wanted
from nodeport.api.meta import JsonObject
from nodeport.kit.clock import parse_rfc3339

KEPT_PENDING, KEPT_DECIDED = timedelta(hours=24), timedelta(hours=1)
SELF, OTHER = "selfnodeclient", "nodeclient"
SERVER = "server"
_MESSAGES = {
    SELF: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    OTHER: "Auto approving kubelet client certificate after SubjectAccessReview.",
    SERVER: "Auto approving kubelet serving certificate for addresses that are this node's alone.",
}


def approvers(request: JsonObject, wanted: Wanted) -> Sequence[str]:
    """The subresources of which any one that the requester may create approves this request by itself."""
    spec = request["spec"]
    if spec.get("signerName") != KUBELET_CLIENT:
        return ()
    if certificates.kubelet_client_fault(wanted, spec.get("usages") or []):
        return ()
    return (SELF, OTHER) if spec.get("username") == wanted.common_name else (OTHER,)


def review(request: JsonObject, subresource: str) -> JsonObject:
    """The question whether the requester may create the subresource."""
    spec = request["spec"]
    asked = {
        "group": certificates.GROUP, "resource": "certificatesigningrequests", "verb": "create",
        "subresource": subresource,
    }  # fmt: skip
    who = {
        "user": spec.get("username"),
        **{key: spec[key] for key in ("uid", "groups", "extra") if key in spec},
    }
    return {"metadata": {}, "spec": {**who, "resourceAttributes": asked}}


def asks_for_own_server(request: JsonObject, wanted: Wanted) -> bool:
    """Whether a node asks for the certificate of its own server."""
    spec = request["spec"]
    if spec.get("signerName") != KUBELET_SERVING or spec.get("username") != wanted.common_name:
        return False
    is_node = certificates.NODES in (spec.get("groups") or [])
    return is_node and not certificates.kubelet_serving_fault(wanted, spec.get("usages") or [])


def serving_fault(wanted: Wanted, nodes: Sequence[JsonObject], taken: Collection[str]) -> str:
    """Why a node's server certificate has to wait for an administrator; empty: it need not.

    A node writes its addresses itself, so what it claims must be nobody else's: no other node's, and none of ``taken``,
    those of the API servers.
    """
    name = wanted.common_name.removeprefix(certificates.NODE_PREFIX)
    known = {node["metadata"]["name"]: _addresses_of(node) for node in nodes}
    own = known.pop(name, None)
    if own is None:
        return f"there is no node {name}"
    others = {place: other for other, places in known.items() for place in (*places, other.lower())}
    for place in (*(each.lower() for each in wanted.dns), *wanted.addresses):
        if place not in own:
            return f"{place} is no address of node {name}"
        if place in others:
            return f"{place} is an address of node {others[place]} too"
        if place in taken:
            return f"{place} is where the API is served"
        if place in wanted.addresses and not _is_reachable(place):
            return f"{place} is no address by which a machine is reached"
    return ""


def _addresses_of(node: JsonObject) -> frozenset[str]:
    listed = (node.get("status") or {}).get("addresses") or []
    return frozenset(str(each.get("address") or "").lower() for each in listed)


def _is_reachable(text: str) -> bool:
    address = ip_address(text)
    return not (
        address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local
    )


def approved(request: JsonObject, subresource: str) -> JsonObject:
    condition = {
        "type": APPROVED,
        "status": "True",
        "reason": "AutoApproved",
        "message": _MESSAGES[subresource],
    }
    return with_condition(request, condition)


def failed(request: JsonObject, why: str) -> JsonObject:
    condition = {"type": FAILED, "status": "True", "reason": "SignerValidationFailure", "message": why}
    return with_condition(request, condition)


def with_condition(request: JsonObject, condition: JsonObject) -> JsonObject:
    status = request.get("status") or {}
    return {**request, "status": {**status, "conditions": [*(status.get("conditions") or []), condition]}}


def keep_for(request: JsonObject, now: datetime, valid_until: datetime | None) -> timedelta:
    """How much longer the request is kept; nothing or less: it is to go. ``valid_until``: of its certificate."""
    made = parse_rfc3339(request["metadata"]["creationTimestamp"])
    ends = [made + KEPT_PENDING] if not certificates.is_decided(request) else []
    for kind in (APPROVED, DENIED, FAILED):
        for condition in certificates.conditions(request, kind):
            updated = condition.get("lastUpdateTime")
            ends.append((parse_rfc3339(updated) if updated else made) + KEPT_DECIDED)
    if valid_until is not None:
        ends.append(valid_until)
    return min(ends) - now
