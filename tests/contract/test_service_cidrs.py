"""The life of a ServiceCIDR with the real API server and the real controllers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from nodeport.api.resources import IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from nodeport.api.status import ApiError, Invalid, NotFound
from nodeport.kit.clock import SystemClock
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

Json = dict[str, Any]
FINALIZER = "networking.k8s.io/service-cidr-finalizer"


class LaterClock(SystemClock):
    """The controllers believe that every deletion was asked for eleven seconds ago."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=11)


def cidr(name: str, *cidrs: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


def service(name: str, address: str = "", **spec: Any) -> Json:
    spec = {"ports": [{"port": 80}], **({"clusterIP": address} if address else {}), **spec}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def condition(cluster: ControlledCluster, name: str) -> tuple[str, str, str]:
    """Status, reason and message of Ready."""
    found = await cluster.client.get(SERVICE_CIDRS, name)
    for each in (found.get("status") or {}).get("conditions") or []:
        if each["type"] == "Ready":
            return each["status"], each["reason"], each["message"]
    return "", "", ""


async def is_settled(cluster: ControlledCluster, name: str) -> bool:
    found = await cluster.client.get(SERVICE_CIDRS, name)
    ready = await condition(cluster, name) == ("True", "", "Kubernetes Service CIDR is ready")
    return ready and found["metadata"].get("finalizers") == [FINALIZER]


async def is_gone(cluster: ControlledCluster, name: str) -> bool:
    try:
        await cluster.client.get(SERVICE_CIDRS, name)
    except NotFound:
        return True
    return False


async def test_a_range_is_ready_gives_addresses_and_stays_while_they_are_used() -> None:
    async with controlled_cluster(0, clock=LaterClock()) as cluster:
        client = cluster.client
        await eventually(lambda: is_settled(cluster, "kubernetes"))
        with pytest.raises(Invalid, match="does not match the current range"):
            await client.create(SERVICES, service("early", "10.50.0.9"))
        await client.create(SERVICE_CIDRS, cidr("more", "10.50.0.0/24"))
        await eventually(lambda: is_settled(cluster, "more"))
        made = await client.create(SERVICES, service("a", "10.50.0.9"))
        assert made["spec"]["clusterIPs"] == ["10.50.0.9"]

        await client.delete(SERVICE_CIDRS, "more")

        async def is_blocked() -> bool:
            return await condition(cluster, "more") == (
                "False", "Terminating",
                "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
            )  # fmt: skip

        await eventually(is_blocked)
        with pytest.raises(Invalid, match="does not match the current range"):
            await client.create(SERVICES, service("late", "10.50.0.10"))
        await client.delete(SERVICES, "a", "default")
        await eventually(lambda: is_gone(cluster, "more"))


async def test_a_wider_range_lets_a_narrower_one_go_under_its_services() -> None:
    async with controlled_cluster(0, clock=LaterClock()) as cluster:
        client = cluster.client
        await client.create(SERVICE_CIDRS, cidr("narrow", "10.50.0.0/28"))
        await eventually(lambda: is_settled(cluster, "narrow"))
        await client.create(SERVICES, service("a", "10.50.0.9"))
        await client.delete(SERVICE_CIDRS, "narrow")
        await client.create(SERVICE_CIDRS, cidr("wide", "10.50.0.0/24"))
        await eventually(lambda: is_gone(cluster, "narrow"))
        assert (await client.get(IP_ADDRESSES, "10.50.0.9"))["spec"]["parentRef"]["name"] == "a"
        with pytest.raises(Invalid, match="provided IP is already allocated"):
            await client.create(SERVICES, service("b", "10.50.0.9"))


async def test_when_the_first_range_is_full_the_next_one_gives() -> None:
    async with controlled_cluster(0) as cluster:
        client = cluster.client
        await client.create(SERVICE_CIDRS, cidr("more", "10.50.0.0/28"))
        await eventually(lambda: is_settled(cluster, "more"))
        taken = {"spec": {"parentRef": {"resource": "gateways", "name": "g"}}}
        for last in range(1, 14):
            await client.create(IP_ADDRESSES, {"metadata": {"name": f"10.50.0.{last}"}, **taken})
        for name in ("kubernetes", "more"):
            found = await client.get(SERVICE_CIDRS, name)
            state = "False" if name == "kubernetes" else "True"
            found["status"]["conditions"] = [{"type": "Ready", "status": state, "reason": "Test", "message": "",
                                              "lastTransitionTime": "2026-01-01T00:00:00Z"}]  # fmt: skip
            if name == "kubernetes":
                await cluster.stop_controllers()
                await client.update(SERVICE_CIDRS, found, subresource="status")

        async def only_one_left() -> bool:
            try:
                made = await client.create(SERVICES, service("a"))
            except ApiError:
                return False
            if made["spec"]["clusterIP"] == "10.50.0.14":
                return True
            await client.delete(SERVICES, "a", "default")
            return False

        await eventually(only_one_left)
        with pytest.raises(ApiError, match='failed to allocate a serviceIP for Service "b": range is full'):
            await client.create(SERVICES, service("b"))
        cluster.start_controllers()
