"""Rules on Roles and on who they are bound to.

Rules: the validation of ``rbac.authorization.k8s.io/v1`` in Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.rbac import GROUP, GROUP_KIND, SERVICE_ACCOUNT, USER
from nodeport.api.status import FieldError, invalid, not_supported, required
from nodeport.api.validation.labelselectors import validate_label_selector

_ROLE_REF = (("apiGroup", "APIGroup"), ("kind", "Kind"), ("name", "Name"))


def validate_role(obj: JsonObject) -> Iterator[FieldError]:
    for index, rule in enumerate(obj.get("rules") or []):
        yield from _rule(rule, f"rules[{index}]", namespaced=True)


def validate_role_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_role(new)


def validate_cluster_role(obj: JsonObject) -> Iterator[FieldError]:
    for index, rule in enumerate(obj.get("rules") or []):
        yield from _rule(rule, f"rules[{index}]", namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is None:
        return
    path = "aggregationRule.clusterRoleSelectors"
    selectors = aggregation.get("clusterRoleSelectors") or []
    if not selectors:
        yield required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
    for index, selector in enumerate(selectors):
        yield from validate_label_selector(selector, f"{path}[{index}]")


def validate_cluster_role_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_cluster_role(new)


def _rule(rule: JsonObject, path: str, *, namespaced: bool) -> Iterator[FieldError]:
    if not rule.get("verbs"):
        yield required(f"{path}.verbs", "verbs must contain at least one value")
    urls = rule.get("nonResourceURLs")
    if urls:
        where = f"{path}.nonResourceURLs"
        if namespaced:
            yield invalid(where, urls, "namespaced rules cannot apply to non-resource URLs")
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            yield invalid(where, urls, "rules cannot apply to both regular resources and non-resource URLs")
        return
    if not rule.get("apiGroups"):
        yield required(f"{path}.apiGroups", "resource rules must supply at least one api group")
    if not rule.get("resources"):
        yield required(f"{path}.resources", "resource rules must supply at least one resource")


def validate_role_binding(obj: JsonObject) -> Iterator[FieldError]:
    return _binding(obj, ("Role", "ClusterRole"), namespaced=True)


def validate_cluster_role_binding(obj: JsonObject) -> Iterator[FieldError]:
    return _binding(obj, ("ClusterRole",), namespaced=False)


def validate_role_binding_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_role_binding(new)
    yield from _role_ref_kept(new, old)


def validate_cluster_role_binding_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_cluster_role_binding(new)
    yield from _role_ref_kept(new, old)


def _binding(obj: JsonObject, kinds: tuple[str, ...], *, namespaced: bool) -> Iterator[FieldError]:
    role = obj.get("roleRef") or {}
    group, kind, name = (role.get(field) or "" for field, _ in _ROLE_REF)
    if group != GROUP:
        yield not_supported("roleRef.apiGroup", group, [GROUP])
    if kind not in kinds:
        yield not_supported("roleRef.kind", kind, kinds)
    if not name:
        yield required("roleRef.name")
    yield from (invalid("roleRef.name", name, why) for why in (names.path_segment(name) if name else ()))
    for index, subject in enumerate(obj.get("subjects") or []):
        yield from _subject(subject, f"subjects[{index}]", namespaced=namespaced)


def _subject(subject: JsonObject, path: str, *, namespaced: bool) -> Iterator[FieldError]:
    kind, name, group = (subject.get(field) or "" for field in ("kind", "name", "apiGroup"))
    if not name:
        yield required(f"{path}.name")
    if kind == SERVICE_ACCOUNT:
        yield from (invalid(f"{path}.name", name, why) for why in (names.dns_subdomain(name) if name else ()))
        if group:
            yield not_supported(f"{path}.apiGroup", group, [""])
        if not namespaced and not subject.get("namespace"):
            yield required(f"{path}.namespace")
    elif kind in (USER, GROUP_KIND):
        if group != GROUP:
            yield not_supported(f"{path}.apiGroup", group, [GROUP])
    else:
        yield not_supported(f"{path}.kind", kind, [SERVICE_ACCOUNT, USER, GROUP_KIND])


def _role_ref_kept(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """The error shows the reference under the names of Go's fields, as Kubernetes does."""
    wanted, kept = new.get("roleRef") or {}, old.get("roleRef") or {}
    if wanted != kept:
        shown = {go_name: wanted.get(field) or "" for field, go_name in _ROLE_REF}
        yield invalid("roleRef", shown, "cannot change roleRef")
