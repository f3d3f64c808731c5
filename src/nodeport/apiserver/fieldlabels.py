"""Which fields a selector may name."""

from __future__ import annotations

import json

from nodeport.api.resources import Resource
from nodeport.api.selectors import FieldSelector
from nodeport.api.status import BadRequest

_OF_METADATA = ("metadata.name", "metadata.namespace")


def check_field_selector(resource: Resource, selector: FieldSelector) -> None:
    """400 for a path that the resource does not offer."""
    for path, _, _ in selector.requirements:
        if path in _OF_METADATA or path in resource.field_selectors:
            continue
        if resource.field_selectors:
            raise BadRequest(f"field label not supported: {path}")
        known = ", ".join(f'"{each}"' for each in _OF_METADATA)
        raise BadRequest(f"{json.dumps(path)} is not a known field selector: only {known}")
