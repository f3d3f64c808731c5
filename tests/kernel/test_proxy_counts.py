"""What ``nodeport proxy`` counts at /metrics: what happened, and each Service's packets when asked for."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from kernel import scenario
from kernel.packets import Policy
from kernel.proxycommand import NODE, ProxyCommand
from kernel.proxysite import (
    READY,
    Site,
    a_service,
    port_of,
    site,
)
from kernel.topology import NODES
from nodeport.api.resources import (
    SERVICES,
)  # fmt: skip
from nodeport.netlink.namespace import open_in
from nodeport.testing.controlplane import eventually

__all__ = ["site"]


async def test_metrics_count_what_happened_under_kube_proxys_names(site: Site) -> None:
    proxy = site.with_kubeconfig("--detect-local-mode=NodeCIDR")
    async with proxy.running():
        before = samples(proxy)
        await site.serve(a_service(Policy.LOCAL), {"remote": READY})

        def programmed() -> bool:
            found = samples(proxy)
            name = 'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"}'
            return found[name] == 2

        await proxy.until(programmed, "both ports of the Service have nowhere to go on this node")
        after = samples(proxy)
        assert (
            after["kubeproxy_sync_proxy_rules_service_changes_total"]
            > before["kubeproxy_sync_proxy_rules_service_changes_total"]
        )
        assert after["kubeproxy_sync_proxy_rules_endpoint_changes_total"] == 1
        assert after["kubeproxy_sync_proxy_rules_endpoint_changes_pending"] == 0
        count = 'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}'
        assert after[count] > before[count]
        assert after['nodeport_proxy_commit_duration_seconds_count{ip_family="IPv4"}'] >= 1
        assert after['nodeport_proxy_service_ports{ip_family="IPv4"}'] == 3  # and default/kubernetes
        assert after['kubeproxy_proxy_healthz_total{code="200"}'] >= 1
        assert any(name.startswith("nodeport_proxy_elements{") and value for name, value in after.items())
        assert any(
            name.startswith('rest_client_requests_total{code="200",host="127.0.0.1:') for name in after
        )
        for name in (
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_start_time_seconds",
        ):
            assert after[name] > 0
        assert not [name for name in after if name.endswith("_created")]


async def test_packets_and_bytes_of_each_service_are_counted_when_asked_for(site: Site) -> None:
    proxy = site.with_kubeconfig("--service-counters")
    async with proxy.running():
        item = await site.serve(a_service(), {"local": READY})
        name, port = item["metadata"]["name"], port_of(item)
        await eventually(lambda: site.is_served(port))
        ruleset = site.ruleset()
        exchange(site.made.namespace("client"), port, times=3, size=100)
        counted = traffic(proxy, name, "UDP")
        assert counted["packets", "to"] == 3
        assert counted["bytes", "to"] == 3 * (100 + 28)
        assert counted["packets", "from"] == 3
        assert counted["bytes", "from"] > 3 * 28
        assert await site.is_served(port)  # over TCP; a Service is served before it is counted
        assert traffic(proxy, name, "TCP")["packets", "to"] >= 4
        proxy.stop()
    async with proxy.running():  # counts outlive the proxy
        exchange(site.made.namespace("client"), port, times=2, size=100)
        assert traffic(proxy, name, "UDP")["packets", "to"] == 5
        assert rules_of(site.ruleset()) == rules_of(ruleset)
        await site.client.delete(SERVICES, name, scenario.NAMESPACE)
        await proxy.until(lambda: not traffic(proxy, name, "UDP"), "a Service that is gone is not told about")
    assert proxy.run("--cleanup").returncode == 0
    assert site.ruleset() == ""


def exchange(netns: Path, port: int, *, times: int, size: int) -> None:
    """Datagrams from one socket, each answered before the next one is sent."""
    with open_in(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(5)
        client.connect((str(NODES[NODE]), port))
        for _ in range(times):
            client.send(bytes(size))
            client.recv(100)


def traffic(proxy: ProxyCommand, service: str, protocol: str) -> dict[tuple[str, str], float]:
    """(packets or bytes, to or from) -> count, of the IPv4 port of a Service."""
    pattern = re.compile(
        rf'nodeport_proxy_service_(\w+)_total{{direction="(\w+)",ip_family="IPv4",namespace=".*",port=".*",'
        rf'protocol="{protocol}",service="{service}"}}'
    )
    found = ((pattern.fullmatch(name), value) for name, value in samples(proxy).items())
    return {(match[1], match[2]): value for match, value in found if match}


def rules_of(ruleset: str) -> str:
    return re.sub(r" counter packets \d+ bytes \d+", "", ruleset)


def samples(proxy: ProxyCommand) -> dict[str, float]:
    lines = proxy.ask(10249, "/metrics").body.decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }
