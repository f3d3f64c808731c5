"""Whether a pod may be on a node by the node's labels and name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodeport.api.meta import JsonObject, labels

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def selects_node(spec: JsonObject, node: JsonObject) -> bool:
    """``spec`` is a pod's: its ``nodeSelector`` and what its node affinity requires."""
    wanted, affinity = spec.get("nodeSelector"), spec.get("affinity")
    if wanted and not wanted.items() <= labels(node).items():
        return False
    required = (affinity.get("nodeAffinity") or {}).get(REQUIRED) if affinity else None
    return required is None or _has_term(required, node)


def bound_to(spec: JsonObject, node: str) -> JsonObject:
    """A copy of a pod's ``spec`` that requires this one node, whatever nodes it required before."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = dict(spec.get("affinity") or {})
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        REQUIRED: {"nodeSelectorTerms": [term]},
    }
    return {**spec, "affinity": affinity}


def node_of(pod: JsonObject) -> str:
    """Where a pod is, or the one node that ``bound_to`` sends it to; empty when neither."""
    if node := pod["spec"].get("nodeName"):
        return str(node)
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            values = field.get("values") or []
            if field.get("key") == "metadata.name" and field.get("operator") == "In" and len(values) == 1:
                return str(values[0])
    return ""


def _has_term(selector: JsonObject, node: JsonObject) -> bool:
    return any(term_selects(term, node) for term in selector.get("nodeSelectorTerms") or ())


def term_selects(term: JsonObject, node: JsonObject) -> bool:
    """``matchExpressions`` are about labels, ``matchFields`` about the name; an empty term selects nothing."""
    expressions, on_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not (expressions or on_fields):
        return False
    fields = {"metadata.name": node["metadata"]["name"]}
    return _all_match(expressions, labels(node)) and _all_match(on_fields, fields)


def _all_match(requirements: Iterable[JsonObject], values: Mapping[str, str]) -> bool:
    return all(_matches(requirement, values) for requirement in requirements)


def _matches(requirement: JsonObject, values: Mapping[str, str]) -> bool:
    value = values.get(requirement["key"])
    listed = requirement.get("values") or []
    match requirement.get("operator"):
        case "In":
            return value in listed
        case "NotIn":
            return value not in listed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not listed or not (_is_integer(value) and _is_integer(listed[0])):
                return False
            return int(value) > int(listed[0]) if operator == "Gt" else int(value) < int(listed[0])
    return False


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
