"""Which fields a selector may name."""

from __future__ import annotations

from nodeport.api.resources import Resource
from nodeport.api.selectors import FieldSelector
from nodeport.api.status import BadRequest


def check_field_selector(resource: Resource, selector: FieldSelector) -> None:
    """400 for a path that the resource does not offer."""
    for path, _, _ in selector.requirements:
        if path == "metadata.name" or (path == "metadata.namespace" and resource.namespaced):
            continue
        if path not in resource.field_selectors:
            raise BadRequest(f"field label not supported: {path}")
