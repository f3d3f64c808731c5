"""What goes wrong with a Service on this node, told as an event about it."""

from __future__ import annotations

from typing import Final

from nodeport.api.meta import NamespacedName
from nodeport.client.events import WARNING, EventRecorder
from nodeport.client.informer import Informer

COMPONENT: Final = "kube-proxy"
"""Who speaks in events: the name that people and tools look for."""


class ServiceWarnings:
    """A ``servicehealth.Warn``; somebody else runs ``recorder``."""

    def __init__(self, recorder: EventRecorder, services: Informer) -> None:
        self._recorder = recorder
        self._services = services

    def __call__(self, service: NamespacedName, reason: str, message: str) -> None:
        found = self._services.get(service) or {}
        about = {
            "kind": "Service", "apiVersion": "v1", "namespace": service.namespace, "name": service.name,
            "uid": (found.get("metadata") or {}).get("uid") or str(service),
        }  # fmt: skip
        self._recorder.event(about, WARNING, reason, message, action="Listen")
