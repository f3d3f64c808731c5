"""Who may ask for, approve and sign certificates; rights are given for signers, by name or ``example.com/*``.

Rules: the admission plug-ins CertificateApproval, CertificateSigning, CertificateSubjectRestriction and, for nodes,
NodeRestriction of Kubernetes 1.36, with their texts.
"""

from __future__ import annotations

from nodeport.api import certificates
from nodeport.api.meta import JsonObject
from nodeport.apiserver.admission.noderestriction import refused
from nodeport.apiserver.auth import MASTERS, Attributes, Authorizer, User
from nodeport.apiserver.routes import Target


def note_requester(obj: JsonObject, user: User) -> None:
    """Who asks is what the server knows, not what the request says."""
    spec = obj.setdefault("spec", {})
    for field in ("username", "uid", "groups", "extra"):
        spec.pop(field, None)
    spec["username"] = user.name
    if user.uid:
        spec["uid"] = user.uid
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra}


def check_create(user: User, target: Target, obj: JsonObject) -> None:
    """403 for a certificate of those who may everything, and for a node's request in another's name."""
    signer = (obj.get("spec") or {}).get("signerName") or ""
    wants_master = signer == certificates.CLIENT
    of_node = user.node_name and signer in (certificates.KUBELET_CLIENT, certificates.KUBELET_SERVING)
    if not wants_master and not of_node:
        return
    try:
        found = certificates.wanted(certificates.parse((obj.get("spec") or {}).get("request")))
    except certificates.BadRequestFile:
        return  # validation says what is wrong
    name = obj["metadata"].get("name") or ""
    if wants_master and MASTERS in found.organizations:
        raise refused(target, name, f"use of {signer} signer with {MASTERS} group is not allowed")
    if of_node and found.common_name != user.name:
        raise refused(target, name, f"can only create a node CSR with CN={user.name}")


async def check_update(
    authorizer: Authorizer, user: User, target: Target, new: JsonObject, old: JsonObject
) -> None:
    """403 unless ``user`` may decide about, or sign, what the stored request asks for."""
    status = [obj.get("status") or {} for obj in (new, old)]
    if target.subresource == "approval":
        verb = "approve"
    elif target.subresource == "status" and any(
        status[0].get(field) != status[1].get(field) for field in ("certificate", "conditions")
    ):
        verb = "sign"
    else:
        return
    signer = (old.get("spec") or {}).get("signerName") or ""
    if user.is_master:
        return
    for name in certificates.signer_names(signer):
        asked = Attributes(user, verb, certificates.GROUP, "signers", name=name)
        if (await authorizer.decide(asked)).allowed:
            return
    raise refused(target, target.name, f'user not permitted to {verb} requests with signerName "{signer}"')
