"""What is to be done about one CertificateSigningRequest.

Rules: the approver, the signers and the cleaner of kube-controller-manager 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from nodeport.api import certificates
from nodeport.api.certificates import APPROVED, DENIED, FAILED, KUBELET_CLIENT, Wanted
from nodeport.api.meta import JsonObject
from nodeport.kit.clock import parse_rfc3339

KEPT_PENDING, KEPT_DECIDED = timedelta(hours=24), timedelta(hours=1)
SELF, OTHER = "selfnodeclient", "nodeclient"
_MESSAGES = {
    SELF: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    OTHER: "Auto approving kubelet client certificate after SubjectAccessReview.",
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
