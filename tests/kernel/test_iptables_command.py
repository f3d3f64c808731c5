"""``nodeport proxy --proxy-mode=iptables`` as a process: where kube-proxy was, through restarts, and out again."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from ipaddress import ip_address

from kernel.packets import Policy
from kernel.proxycommand import NODE
from kernel.proxysite import READY, Site, a_service, port_of, site
from kernel.topology import NODES, ask
from nodeport.testing.controlplane import eventually

__all__ = ["site"]
KUBE_PROXY = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:THEIRS - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A PREROUTING -j THEIRS
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
"""


def iptables(site: Site, program: str, text: str = "") -> list[str]:
    """What a program prints, without times and counts."""
    command = ["ip", "netns", "exec", site.made.namespace(NODE).name, program]
    done = subprocess.run(
        [*command, *(("--noflush",) if text else ())], check=True, capture_output=True, text=True, input=text
    )
    return [line.split(" [")[0] for line in done.stdout.splitlines() if not line.startswith("#")]


async def test_the_command_takes_kube_proxys_place_survives_and_leaves_nothing(site: Site) -> None:
    iptables(site, "iptables-legacy-restore", KUBE_PROXY)
    before = iptables(site, "iptables-legacy-save")
    proxy = site.with_kubeconfig("--proxy-mode=iptables")
    async with proxy.running():
        item = await site.serve(a_service(Policy.CLUSTER), {"local": READY})
        port = port_of(item)
        await eventually(lambda: site.is_served(port))
        assert proxy.ask(10249, "/proxyMode").body == b"iptables"
        own = site.made.namespace(NODE)
        loopback = await asyncio.to_thread(ask, own, socket.SOCK_STREAM, ip_address("127.0.0.1"), port)
        assert loopback == f"local {NODES[NODE]}"
        rules = b'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"}'
        assert rules in proxy.ask(10249, "/metrics").body
        kept = iptables(site, "iptables-legacy-save")
        await proxy.until(lambda: "remove-kube-proxy" in proxy.log.read_text(), "a word about kube-proxy")
        assert proxy.stop(signal.SIGKILL) != 0
        assert await site.is_served(port)
    async with proxy.running():
        assert iptables(site, "iptables-legacy-save") == kept
    good = await asyncio.to_thread(proxy.run, "verify")
    assert (good.returncode, good.stdout) == (0, "the kernel is what the cluster wants\n"), good.stderr
    cleaned = await asyncio.to_thread(proxy.run, "--cleanup")
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    after = iptables(site, "iptables-legacy-save")
    assert set(before) <= set(after)
    assert not any("NODEPORT" in line for line in after)
    cleaned = await asyncio.to_thread(proxy.run, "--cleanup", "--also-kube-proxy")
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    left = "\n".join(iptables(site, "iptables-legacy-save"))
    assert "KUBE" not in left
    assert "-A PREROUTING -j THEIRS" in left


async def test_another_mode_of_the_command_takes_over(site: Site) -> None:
    async with site.with_kubeconfig("--proxy-mode=iptables").running():
        item = await site.serve(a_service(), {"local": READY})
        await eventually(lambda: site.is_served(port_of(item)))
    proxy = site.with_kubeconfig("--proxy-mode=nftables")
    async with proxy.running():
        await eventually(lambda: "NODEPORT" not in "".join(iptables(site, "iptables-legacy-save")))
        assert await site.is_served(port_of(item))
