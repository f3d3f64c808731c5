"""What the kinds that run pods from a template have in common."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.selectors import LabelSelector, label_selector_of


def label_selector_form(selector: JsonObject) -> JsonObject:
    """A workload's selector as ``{matchLabels, matchExpressions}``: a ReplicationController's is a plain map."""
    if any(isinstance(value, str) for value in selector.values()):
        return {"matchLabels": selector}
    return selector


def pod_selector(workload: JsonObject) -> LabelSelector:
    """Which pods may belong to ``workload``; without a selector, none."""
    selector = (workload.get("spec") or {}).get("selector")
    return label_selector_of(None if selector is None else label_selector_form(selector))
