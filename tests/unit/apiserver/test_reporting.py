"""The server's own events: about the right object, in both versions of the API, counted up when they come again."""

from __future__ import annotations

import asyncio
from typing import Any

from nodeport.api.resources import EVENTS, SERVICES
from nodeport.apiserver.encoding import encode_stored, key_of
from nodeport.apiserver.repair import INTERVAL
from nodeport.client.rest import RestClient
from nodeport.store.base import Put
from nodeport.testing.apiserver import running_apiserver
from unit.apiserver.clocks import HandClock

Json = dict[str, Any]


async def test_a_conflict_that_lasts_is_one_event_with_a_count() -> None:
    clock = HandClock()
    async with running_apiserver(seed=1, clock=clock) as api, RestClient(api.admin_config) as client:
        port = {"port": 80, "nodePort": 30900}
        spec = {"type": "NodePort", "ports": [port]}
        await client.create(SERVICES, {"metadata": {"name": "a", "namespace": "default"}, "spec": spec})
        double = {"metadata": {"name": "b", "namespace": "default", "uid": "u-b"},
                  "spec": {**spec, "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4"]}}  # fmt: skip
        await api.store.commit([Put(key_of(SERVICES, "default", "b"), encode_stored(double))])

        async def series() -> int:
            clock.advance(INTERVAL)
            found = (await client.list(EVENTS, "default"))["items"]
            return int((found[0].get("series") or {}).get("count", 1)) if found else 0

        async with asyncio.timeout(60):
            while await series() < 3:
                await asyncio.sleep(0.01)
        (event,) = (await client.list(EVENTS, "default"))["items"]
        assert (event["reason"], event["action"], event["type"]) == (
            "PortAlreadyAllocated",
            "PortAllocation",
            "Warning",
        )
        assert event["message"] == "Port 30900 was assigned to multiple services; please recreate service"
        assert event["reportingComponent"] == "portallocator-repair-controller"
        assert event["reportingInstance"].startswith("portallocator-repair-controller-")
        assert (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("Service", "b")
        assert event["series"]["lastObservedTime"] > event["eventTime"]
        newer = await client.raw_get(
            f"/apis/events.k8s.io/v1/namespaces/default/events/{event['metadata']['name']}"
        )
        assert b'"note":"Port 30900 was assigned to multiple services' in newer
        assert b'"regarding":{' in newer
