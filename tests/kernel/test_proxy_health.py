"""What ``nodeport proxy`` tells load balancers and probes: of itself and its node, and of a Service's endpoints."""

from __future__ import annotations

import functools

import pytest

from kernel import scenario
from kernel.proxycommand import NODE, ProxyCommand
from kernel.proxysite import HEALTH_PORT, READY, Site, a_load_balancer, site
from kernel.topology import NODES, PLANS
from nodeport.api.resources import ENDPOINT_SLICES, SERVICES
from nodeport.api.resources import NODES as NODE_RESOURCE
from nodeport.forwarding.table import Family

__all__ = ["site"]


async def test_health_is_told_on_addresses_of_both_families_whichever_the_flag_names(site: Site) -> None:
    addresses = [str(plan.nodes[NODE]) for plan in PLANS.values()]
    for flag in ("0.0.0.0:10256", "[::]:10256"):
        proxy = site.with_kubeconfig(f"--healthz-bind-address={flag}")
        async with proxy.running():
            assert [proxy.ask(10256, "/livez", host=address).status for address in addresses] == [200, 200]


async def test_a_node_that_is_leaving_is_not_healthy_but_alive(site: Site) -> None:
    proxy = site.with_kubeconfig()
    async with proxy.running():
        taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule", "value": "1"}
        await site.client.patch(NODE_RESOURCE, NODE, {"spec": {"taints": [taint]}})
        await proxy.until(lambda: proxy.ask(10256, "/healthz").status == 503, "load balancers are sent away")
        answer = proxy.ask(10256, "/healthz")
        assert (answer.json["nodeEligible"], answer.json["healthy"]) == (False, True)
        assert proxy.ask(10256, "/livez").status == 200
        await site.client.patch(NODE_RESOURCE, NODE, {"spec": {"taints": None}})
        await proxy.until(lambda: proxy.ask(10256, "/healthz").status == 200, "the node stays")


async def test_a_proxy_that_waits_for_pod_cidrs_is_alive_and_takes_no_load(site: Site) -> None:
    """Its liveness probe must not end it before the cluster has given its node any."""
    node = await site.client.get(NODE_RESOURCE, NODE)
    await site.client.delete(NODE_RESOURCE, NODE)
    await site.client.create(NODE_RESOURCE, {"metadata": {"name": NODE}})
    proxy = site.with_kubeconfig("--detect-local-mode=NodeCIDR")
    proxy.start()
    try:
        await proxy.until(
            lambda: "node n1 has no podCIDRs yet: waiting for them, for 300 s" in proxy.log.read_text(),
            "the log says what it waits for",
        )
        await proxy.until(lambda: proxy.ask(10256, "/livez").status == 200, "it is alive")
        waiting = proxy.ask(10256, "/healthz")
        assert (waiting.status, waiting.json["nodeEligible"], waiting.json["status"]) == (503, False, {})
        await site.client.patch(NODE_RESOURCE, NODE, {"spec": node["spec"]})
        await site.client.patch(NODE_RESOURCE, NODE, {"status": node["status"]}, subresource="status")
        await proxy.until_healthy()
    finally:
        proxy.stop()


async def test_load_balancers_are_told_how_many_endpoints_this_node_has(site: Site) -> None:
    proxy = site.with_kubeconfig()
    async with proxy.running():
        item = await site.serve(a_load_balancer(), {"local": READY, "other": READY, "remote": READY})
        name = item["metadata"]["name"]
        address = str(NODES[NODE])
        await proxy.until(
            lambda: proxy.ask(HEALTH_PORT, "/any/path", host=address).status == 200, "the server is open"
        )
        answer = proxy.ask(HEALTH_PORT, "/", host=address)
        assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "2"
        assert answer.body.decode() == (
            f'{{\n\t"service": {{\n\t\t"namespace": "{scenario.NAMESPACE}",\n\t\t"name": "{name}"\n\t}},\n'
            '\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}'
        )
        with pytest.raises(OSError, match="refused"):
            proxy.ask(HEALTH_PORT, "/")  # NodePorts are for the primary address alone, and so is this
        for pod in ("local", "other"):
            await site.client.delete(ENDPOINT_SLICES, f"{name}-{pod}", scenario.NAMESPACE)
        await proxy.until(
            lambda: proxy.ask(HEALTH_PORT, "/", host=address).status == 503, "nothing is local any more"
        )
        await site.client.delete(SERVICES, name, scenario.NAMESPACE)
        await proxy.until(lambda: refuses(proxy, address), "the server is closed with its Service")


def refuses(proxy: ProxyCommand, address: str) -> bool:
    try:
        proxy.ask(HEALTH_PORT, "/", host=address)
    except ConnectionRefusedError:
        return True
    return False


async def test_load_balancers_may_ask_at_any_address_where_nodeports_answer_at_all(site: Site) -> None:
    """In the families that the Service has."""
    proxy = site.with_kubeconfig("--nodeport-addresses=0.0.0.0/0,::/0")
    async with proxy.running():
        await site.serve(a_load_balancer(), {"local": READY})
        for address in ("127.0.0.1", str(NODES[NODE])):
            await proxy.until(
                functools.partial(lambda host: proxy.ask(HEALTH_PORT, "/", host=host).status == 200, address),
                f"the server is open at {address}",
            )
        with pytest.raises(OSError, match="refused"):
            proxy.ask(HEALTH_PORT, "/", host=str(PLANS[Family.IPV6].nodes[NODE]))
    assert "failed to start healthcheck" not in proxy.log.read_text()
