"""CertificateSigningRequests: never changed once made, decided through /approval, signed through /status.

Rules: the strategies of ``certificates.k8s.io`` in Kubernetes 1.36.
"""

from __future__ import annotations

from nodeport.api.certificates import APPROVED, DENIED, conditions
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CERTIFICATE_SIGNING_REQUESTS
from nodeport.apiserver.strategies.base import Strategy, WriteContext, restore
from nodeport.kit.clock import rfc3339


class CertificateSigningRequestStrategy(Strategy):
    def __init__(self) -> None:
        super().__init__(CERTIFICATE_SIGNING_REQUESTS)

    def reset_fields(self, subresource: str) -> tuple[str, ...]:
        match subresource:
            case "":
                return ("status",)
            case "approval":
                return ("spec", "status.certificate")
            case _:
                return ("spec",)

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        restore(new, old, "spec")
        restore(new, old, "status")

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        """Decisions stay as they were found, unless one was added or left out, which validation refuses."""
        restore(new, old, "spec")
        found = (new.get("status") or {}).get("conditions") or []
        for kind in (APPROVED, DENIED):
            kept = conditions(old, kind)
            places = [index for index, each in enumerate(found) if each.get("type") == kind]
            if len(places) == len(kept):
                for index, condition in zip(places, kept, strict=True):
                    found[index] = condition
        _date_conditions(new, old, context)

    def prepare_way(self, way: str, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        """/approval writes the conditions."""
        restore(new, old, "spec")
        found = (new.get("status") or {}).get("conditions")
        new["status"] = {
            key: value for key, value in (old.get("status") or {}).items() if key != "conditions"
        }
        if found:
            new["status"]["conditions"] = found
        _date_conditions(new, old, context)


def _date_conditions(new: JsonObject, old: JsonObject, context: WriteContext) -> None:
    """A condition without a date gets one; that of its last transition stays as long as its status."""
    now = rfc3339(context.now)
    for condition in (new.get("status") or {}).get("conditions") or []:
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            before = (
                each["lastTransitionTime"]
                for each in conditions(old, condition.get("type") or "")
                if each.get("status") == condition.get("status") and each.get("lastTransitionTime")
            )
            condition["lastTransitionTime"] = next(before, now)
