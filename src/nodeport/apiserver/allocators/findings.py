"""What a look at the allocations finds wrong, in the words of Kubernetes' own repair loops."""

from __future__ import annotations

from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource


@dataclass(frozen=True, slots=True)
class Finding:
    """``about``: the object (of ``resource``) that an event tells of; ``kind``: how the metrics call the fault."""

    resource: Resource
    about: JsonObject
    reason: str
    action: str
    message: str
    kind: str
