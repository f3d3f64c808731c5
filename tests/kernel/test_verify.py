"""``verify`` on the real kernel: in every mode nothing differs after a resync, and what the real nft breaks is shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernel import scenario
from kernel.modes import MODES, SuiteMode
from nodeport.forwarding.table import Family, ForwardingOptions
from nodeport.netlink.nftables.kernel import Nftables
from nodeport.proxy.audit import audit, verify_node
from nodeport.proxy.nftables.proxier import NftablesProxier
from nodeport.proxy.options import ProxyOptions

NODE = scenario.facts()
OPTIONS = ForwardingOptions()


@pytest.fixture
def netns(netns: Path) -> Path:
    """With a loopback that is up."""
    subprocess.run(["ip", "-n", netns.name, "link", "set", "lo", "up"], check=True)
    return netns


def nft(netns: Path, commands: str) -> None:
    subprocess.run(
        ["ip", "netns", "exec", netns.name, "nft", "-f", "-"], input=commands, check=True, text=True
    )


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_nothing_differs_after_a_resync(mode: SuiteMode, netns: Path) -> None:
    if mode.lacks():
        pytest.skip(mode.lacks())
    table = scenario.table(NODE, OPTIONS)
    with mode.open(netns, Family.IPV4, OPTIONS) as proxier:
        proxier.resync(table, NODE)
        assert proxier.verify(table, NODE) == []


DAMAGE = {
    "delete table ip nodeport": "passes untouched in the kernel",
    "flush chain ip nodeport services": "in the kernel",
    "delete element ip nodeport service-ips { 10.96.1.2 . tcp . 80 }": "10.96.1.2:80/TCP (suite/cluster-local:tcp)",
    "delete element ip nodeport nodeports { tcp . 30102 }": "172.31.7.11:30102/TCP (suite/cluster-local:tcp)",
    "delete element ip nodeport pod-networks { 10.244.1.0/24 }": "(a pod)",
    "add element ip nodeport service-ips { 10.96.7.7 . tcp . 80 : 0:7ffe }": "",
    "add element ip nodeport nodeports { udp . 4444 : 0:7fff }": "172.31.7.11:4444/UDP: passes untouched by the table",
    "insert rule ip nodeport prerouting ip saddr 203.0.113.7 drop": "is dropped in the kernel",
    "add chain ip nodeport alien { type filter hook forward priority 0; }; "
    "add rule ip nodeport alien drop": "is dropped in the kernel",
    "add chain ip nodeport idle": "",
    "add table ip nodeport { flags dormant; }": "passes untouched in the kernel",
    "chain ip nodeport prerouting { policy drop; }": "is dropped in the kernel",
}


@pytest.mark.parametrize(("damage", "story"), DAMAGE.items(), ids=DAMAGE.keys())
def test_damage_by_the_real_nft_is_shown_by_a_packet_and_mended(netns: Path, damage: str, story: str) -> None:
    table = scenario.table(NODE, OPTIONS)
    with Nftables(netns) as kernel:
        proxier = NftablesProxier(kernel, OPTIONS)
        proxier.resync(table, NODE)
        nft(netns, damage)
        found = proxier.verify(table, NODE)
        assert found
        assert [item for item in found if story in item.story]
        assert all(bool(item.packet) is bool(item.story) for item in found)
        proxier.resync(table, NODE)
        assert proxier.verify(table, NODE) == []


def test_somebody_who_is_not_the_proxy_can_hold_the_kernel_against_the_api(netns: Path) -> None:
    """Endpoints that history put into other slots are no difference."""
    service = scenario.service(scenario.Policy.CLUSTER, scenario.Situation.BOTH)
    slices = scenario.slices(service, scenario.ENDPOINTS[scenario.Situation.BOTH])
    options = ProxyOptions()
    table = scenario.table(NODE, OPTIONS)
    with Nftables(netns) as kernel:
        NftablesProxier(kernel, OPTIONS).resync(table, NODE)
        assert audit(table, NODE, netns, options) == []
        others = verify_node([(service, slices)], {Family.IPV4: NODE}, netns, options)[Family.IPV4]
        assert [item for item in others if item.packet], "the other Services of the suite are not in the API"
        everything = [
            (item, scenario.slices(item, scenario.ENDPOINTS[situation]))
            for policy in scenario.Policy
            for situation in scenario.Situation
            for item in [scenario.service(policy, situation)]
        ]
        assert verify_node(everything, {Family.IPV4: NODE}, netns, options) == {Family.IPV4: []}
