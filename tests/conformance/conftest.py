"""A control plane for each row of the upstream conformance list: real API server, real controllers, pods that are
objects only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from nodeport.api.resources import NAMESPACES
from nodeport.testing.apipods import ApiPods
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster

NAMESPACE = "e2e"


@pytest.fixture
async def cluster() -> AsyncIterator[ControlledCluster]:
    """Two nodes that start pods at once, and an empty namespace of the test's own."""
    server = {"advertise": ("192.0.2.1", 6443)}
    async with controlled_cluster(2, server=server, node_monitor_grace=timedelta(hours=1)) as running:
        await running.client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        yield running


@pytest.fixture
def pods(cluster: ControlledCluster) -> ApiPods:
    return ApiPods(cluster.client, NAMESPACE)


@pytest.fixture
def named() -> Callable[..., Any]:
    """Metadata of an object in the test's namespace."""

    def metadata(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "namespace": NAMESPACE, **more}

    return metadata
