"""Rules on where a pod may go: affinities, tolerations, spread constraints, gates."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required
from nodeport.api.validation.labelselectors import validate_label_selector

_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_MOST_WEIGHT = 100
_NO_SELECTOR = "must not be specified when labelSelector is not set"


def validate_tolerations(tolerations: list[JsonObject], path: str) -> Iterator[FieldError]:
    for index, toleration in enumerate(tolerations):
        yield from _toleration(toleration, f"{path}[{index}]")


def _toleration(toleration: JsonObject, path: str) -> Iterator[FieldError]:
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        yield from (invalid(f"{path}.key", key, why) for why in names.qualified_name(key))
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid(f"{path}.operator", operator, detail)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    match operator:
        case "" | "Equal":
            if complaints := names.label_value(value):
                yield invalid(f"{path}.operator", value, ";".join(complaints))
        case "Exists":
            if value:
                yield invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
        case _:
            yield not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    if effect and effect not in _TAINT_EFFECTS:
        yield not_supported(f"{path}.effect", effect, _TAINT_EFFECTS)


def validate_affinity(affinity: JsonObject, path: str) -> Iterator[FieldError]:
    if (nodes := affinity.get("nodeAffinity")) is not None:
        yield from _node_affinity(nodes, f"{path}.nodeAffinity")
    for field in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(field) or {}
        for index, term in enumerate(pods.get(_REQUIRED) or []):
            yield from _pod_term(term, f"{path}.{field}.{_REQUIRED}[{index}]")
        for index, weighted in enumerate(pods.get(_PREFERRED) or []):
            where = f"{path}.{field}.{_PREFERRED}[{index}]"
            yield from _weight(weighted, where)
            yield from _pod_term(weighted.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")


def _weight(weighted: JsonObject, path: str) -> Iterator[FieldError]:
    weight = weighted.get("weight") or 0
    if not 0 < weight <= _MOST_WEIGHT:
        yield invalid(f"{path}.weight", weight, f"must be in the range 1-{_MOST_WEIGHT}")


def _node_affinity(affinity: JsonObject, path: str) -> Iterator[FieldError]:
    if (selector := affinity.get(_REQUIRED)) is not None:
        where = f"{path}.{_REQUIRED}.nodeSelectorTerms"
        terms = selector.get("nodeSelectorTerms") or []
        if not terms:
            yield required(where, "must have at least one node selector term")
        for index, term in enumerate(terms):
            yield from _node_term(term, f"{where}[{index}]", values_judged=True)
    for index, weighted in enumerate(affinity.get(_PREFERRED) or []):
        where = f"{path}.{_PREFERRED}[{index}]"
        yield from _weight(weighted, where)
        yield from _node_term(weighted.get("preference") or {}, f"{where}.preference", values_judged=False)


def _node_term(term: JsonObject, path: str, *, values_judged: bool) -> Iterator[FieldError]:
    for index, expression in enumerate(term.get("matchExpressions") or []):
        where = f"{path}.matchExpressions[{index}]"
        yield from _node_expression(expression, where)
        key = expression.get("key") or ""
        yield from (invalid(f"{where}.key", key, why) for why in names.qualified_name(key))
        for at, value in enumerate(expression.get("values") or [] if values_judged else []):
            yield from (invalid(f"{where}.values[{at}]", value, why) for why in names.label_value(value))
    for index, expression in enumerate(term.get("matchFields") or []):
        yield from _node_field(expression, f"{path}.matchFields[{index}]")


def _node_expression(expression: JsonObject, path: str) -> Iterator[FieldError]:
    values = expression.get("values") or []
    match expression.get("operator") or "":
        case "In" | "NotIn":
            if not values:
                yield required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        case "Exists" | "DoesNotExist":
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield forbidden(f"{path}.values", detail)
        case "Gt" | "Lt":
            if len(values) != 1:
                detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                yield required(f"{path}.values", detail)
        case operator:
            yield invalid(f"{path}.operator", operator, "not a valid selector operator")


def _node_field(expression: JsonObject, path: str) -> Iterator[FieldError]:
    operator, key = expression.get("operator") or "", expression.get("key") or ""
    values = expression.get("values") or []
    if operator not in ("In", "NotIn"):
        yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        yield required(f"{path}.values", detail)
    if key != "metadata.name":
        yield invalid(f"{path}.key", key, "not a valid field selector key")
        return
    for index, value in enumerate(values):
        yield from (invalid(f"{path}.values[{index}]", value, why) for why in names.dns_subdomain(value))


def _pod_term(term: JsonObject, path: str) -> Iterator[FieldError]:
    for field in ("labelSelector", "namespaceSelector"):
        yield from validate_label_selector(term.get(field) or {}, f"{path}.{field}")
    for name in term.get("namespaces") or []:
        yield from (invalid(f"{path}.namespace", name, why) for why in names.dns_label(name))
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        yield from _label_keys(term.get(field) or [], term.get("labelSelector"), f"{path}.{field}")
    key = term.get("topologyKey") or ""
    if not key:
        yield required(f"{path}.topologyKey", "can not be empty")
    yield from (invalid(f"{path}.topologyKey", key, why) for why in names.qualified_name(key))


def _label_keys(keys: list[str], selector: JsonObject | None, path: str) -> Iterator[FieldError]:
    if keys and selector is None:
        yield forbidden(path, _NO_SELECTOR)
        return
    for index, key in enumerate(keys):
        yield from (invalid(f"{path}[{index}]", key, why) for why in names.qualified_name(key))


def validate_spread(constraints: list[JsonObject], path: str) -> Iterator[FieldError]:
    """``topologySpreadConstraints``."""
    for index, constraint in enumerate(constraints):
        where = f"{path}[{index}]"
        key, action = constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            yield invalid(f"{where}.maxSkew", skew, "must be greater than zero")
        if not key:
            yield required(f"{where}.topologyKey", "can not be empty")
        if action not in _UNSATISFIABLE:
            yield not_supported(f"{where}.whenUnsatisfiable", action, _UNSATISFIABLE)
        later = constraints[index + 1 :]
        if any((each.get("topologyKey"), each.get("whenUnsatisfiable")) == (key, action) for each in later):
            yield duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}")
        yield from _spread_options(constraint, action, where)


def _spread_options(constraint: JsonObject, action: str, path: str) -> Iterator[FieldError]:
    least = constraint.get("minDomains")
    if least is not None and least <= 0:
        yield invalid(f"{path}.minDomains", least, "must be greater than zero")
    if least is not None and action != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        yield invalid(f"{path}.minDomains", least, detail)
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = constraint.get(field)
        if policy is not None and policy not in ("Honor", "Ignore"):
            yield not_supported(f"{path}.{field}", policy, ("Honor", "Ignore"))
    selector, keys = constraint.get("labelSelector"), constraint.get("matchLabelKeys") or []
    yield from _label_keys(keys, selector, f"{path}.matchLabelKeys")
    used = {*((selector or {}).get("matchLabels") or {})}
    used |= {each.get("key") for each in (selector or {}).get("matchExpressions") or []}
    for index, key in enumerate(keys if selector is not None else []):
        if key in used:
            yield invalid(
                f"{path}.matchLabelKeys[{index}]", key, "exists in both matchLabelKeys and labelSelector"
            )
    yield from validate_label_selector(selector or {}, f"{path}.labelSelector")


def validate_gates(spec: JsonObject, path: str) -> Iterator[FieldError]:
    for index, gate in enumerate(spec.get("readinessGates") or []):
        kind = gate.get("conditionType") or ""
        where = f"{path}.readinessGates[{index}].conditionType"
        yield from (invalid(where, kind, why) for why in names.qualified_name(kind))
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        where, name = f"{path}.schedulingGates[{index}]", gate.get("name") or ""
        yield from (invalid(where, name, why) for why in names.qualified_name(name))
        if name in seen:
            yield duplicate(where, name)
        seen.add(name)
