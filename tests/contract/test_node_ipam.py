"""Nodes that come without pod networks get theirs, each its own, and keep them."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from nodeport.api.resources import EVENTS, NODES
from nodeport.api.status import Invalid
from nodeport.client.rest import MERGE_PATCH
from nodeport.kit.clock import SystemClock
from nodeport.node.node_status import NodeFacts, this_machine
from nodeport.node.podshare import given_pod_cidrs
from nodeport.testing.controlplane import ControlledCluster, controlled_cluster, eventually

DUAL = (ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/56"))


def machine(name: str) -> NodeFacts:
    return NodeFacts(name, (ip_address("192.0.2.7"), ip_address("2001:db8::7")), this_machine())


async def given(cluster: ControlledCluster, name: str) -> list[str]:
    found = await asyncio.wait_for(given_pod_cidrs(cluster.client, machine(name), SystemClock()), 60)
    return list(map(str, found))


async def test_each_node_that_comes_without_pod_networks_gets_its_own() -> None:
    async with controlled_cluster(nodes=0, cluster_cidrs=DUAL) as cluster:
        own = {"podCIDR": "10.244.255.0/24", "podCIDRs": ["10.244.255.0/24", "fd00:10:244:ff::/64"]}
        await cluster.client.create(NODES, {"metadata": {"name": "knows"}, "spec": own})
        found = sorted(await asyncio.gather(*(given(cluster, name) for name in ("a", "b", "c"))))
        assert found == [
            [f"10.244.{number}.0/24", f"fd00:10:244:{number:x}::/64"] for number in (252, 253, 254)
        ]
        node = await cluster.client.get(NODES, "a")
        assert node["spec"]["podCIDR"] == node["spec"]["podCIDRs"][0]
        ready = next(each for each in node["status"]["conditions"] if each["type"] == "Ready")
        assert (ready["status"], ready["message"]) == ("False", "the node waits for its podCIDRs")
        assert await given(cluster, "a") == node["spec"]["podCIDRs"]
        other = {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}}
        with pytest.raises(Invalid, match="may not change podCIDR"):
            await cluster.client.patch(NODES, "a", other, content_type=MERGE_PATCH)


async def test_a_node_waits_for_what_another_gives_back() -> None:
    async with controlled_cluster(nodes=0, cluster_cidrs=[ip_network("10.244.0.0/24")]) as cluster:
        assert await given(cluster, "first") == ["10.244.0.0/24"]
        waiting = asyncio.ensure_future(given(cluster, "second"))

        async def told() -> bool:
            items = (await cluster.client.list_all(EVENTS)).get("items") or []
            return any(item["reason"] == "CIDRNotAvailable" for item in items)

        await eventually(told)
        await cluster.client.delete(NODES, "first")
        assert await waiting == ["10.244.0.0/24"]
