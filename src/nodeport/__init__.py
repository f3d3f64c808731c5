"""Kubernetes Services, NodePort above all, as a complete standalone system."""

__version__ = "0.1.0"

KUBERNETES_VERSION = "v1.36.1"
"""The Kubernetes release whose API behaviour this version follows; served at ``/version``."""
