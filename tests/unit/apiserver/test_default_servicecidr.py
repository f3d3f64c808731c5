"""The ServiceCIDR ``kubernetes``, which the server answers for: made, made again, widened, and never narrowed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from nodeport.api.resources import EVENTS, SERVICE_CIDRS, SERVICES
from nodeport.api.status import NotFound
from nodeport.client.rest import RestClient
from nodeport.store.memory import MemoryStore
from nodeport.testing.apiserver import running_apiserver
from unit.apiserver.clocks import HandClock

V4, OTHER, V6 = (ip_network(text) for text in ("10.96.0.0/16", "10.50.0.0/24", "fd00:96::/112"))
SERVICE = {"metadata": {"name": "a", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}


async def test_it_is_made_again_within_ten_seconds_when_it_is_gone() -> None:
    clock = HandClock()
    async with running_apiserver(clock=clock) as api, RestClient(api.admin_config) as client:
        before = await client.get(SERVICE_CIDRS, "kubernetes")
        await client.delete(SERVICE_CIDRS, "kubernetes")
        clock.advance(timedelta(seconds=10))
        async with asyncio.timeout(60):
            while True:
                try:
                    found = await client.get(SERVICE_CIDRS, "kubernetes")
                except NotFound:
                    await asyncio.sleep(0.01)
                    continue
                if found.get("status"):
                    break
        assert found["metadata"]["uid"] != before["metadata"]["uid"]
        assert found["spec"] == before["spec"]
        assert found["status"]["conditions"][0]["status"] == "True"


async def started_with(store: MemoryStore, *cidrs: Any) -> tuple[Any, Any, list[Any]]:
    """The object, a new Service, and the events, of a server over ``store``."""
    async with running_apiserver(store, service_cidrs=cidrs) as api, RestClient(api.admin_config) as client:
        found = await client.get(SERVICE_CIDRS, "kubernetes")
        made = await client.create(
            SERVICES, {**SERVICE, "metadata": {"generateName": "s-", "namespace": "default"}}
        )
        events = (await client.list(EVENTS, "default"))["items"]
        return found, made, events


async def test_a_second_family_joins_the_first_one() -> None:
    store = MemoryStore()
    await started_with(store, V4)
    found, made, events = await started_with(store, V4, V6)
    assert found["spec"]["cidrs"] == [str(V4), str(V6)]
    assert made["spec"]["ipFamilies"] == ["IPv4"]
    assert events == []
    await store.close()


async def test_one_that_differs_from_the_option_is_told_of_and_goes_on_to_be_used() -> None:
    store = MemoryStore()
    await started_with(store, OTHER)
    found, made, events = await started_with(store, V4)
    assert found["spec"]["cidrs"] == [str(OTHER)]
    assert made["spec"]["clusterIP"].startswith("10.50.0.")
    (event,) = events
    assert event["reason"] == "KubernetesDefaultServiceCIDRInconsistent"
    assert event["message"] == (
        "The default ServiceCIDR [10.50.0.0/24] does not match the controller flag configurations [10.96.0.0/16]"
    )
    assert event["involvedObject"]["name"] == "kubernetes"
    await store.close()


async def test_a_primary_ipv6_range_gives_the_api_its_first_address() -> None:
    async with running_apiserver(service_cidrs=(V6, V4)) as api, RestClient(api.admin_config) as client:
        found = await client.get(SERVICES, "kubernetes", "default")
        assert (found["spec"]["clusterIPs"], found["spec"]["ipFamilies"]) == (["fd00:96::1"], ["IPv6"])
