"""OpenAPI documents.

``paths`` and ``components`` say what is served, in version 3; ``swagger`` says it in version 2, and ``gnostic`` writes
that as protobuf. All are pure; ``documents`` makes, keeps and serves.
"""

from __future__ import annotations

from nodeport.apiserver.openapi.documents import OpenApi

__all__ = ["OpenApi"]
