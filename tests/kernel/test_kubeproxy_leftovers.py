"""What kube-proxy leaves behind: named, removed when asked to, and nothing else with it."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernel.modes import lacks_ipvs
from nodeport.forwarding.table import Family
from nodeport.kit.clock import SystemClock
from nodeport.netlink.ipvs.kernel import Ipvs, new_service
from nodeport.netlink.ipvs.messages import ServiceKey, VirtualService
from nodeport.proxy.cleanup import remove_all
from nodeport.proxy.iptables import programs
from nodeport.proxy.iptables.layout import SERVICES
from nodeport.proxy.iptables.variants import legacy_tables
from nodeport.proxy.ipvs.render import SIGNATURE
from nodeport.proxy.kubeproxy import leftovers, remove_leftovers
from nodeport.proxy.leftovers import LeftoverWatch, complaint
from nodeport.proxy.options import Variant
from nodeport.proxy.proxier import ProxierError

OTHERS = """*mangle
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP
COMMIT
*nat
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE
COMMIT
"""
KUBE_PROXY = """*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:KUBE-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SEP-5WTYSPJ46S3VMWUX - [0:0]
-I PREROUTING -j KUBE-SERVICES
-I OUTPUT -j KUBE-SERVICES
-I POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-5WTYSPJ46S3VMWUX
-A KUBE-SEP-5WTYSPJ46S3VMWUX -s 172.18.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-5WTYSPJ46S3VMWUX -p tcp -j DNAT --to-destination 172.18.0.2:6443
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
COMMIT
"""


def run(netns: Path, *command: str, text: str = "") -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", netns.name, *command], check=True, capture_output=True, text=True, input=text
    )
    return done.stdout


def saved(netns: Path, variant: Variant) -> list[str]:
    lines = run(netns, f"iptables-{variant}-save").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("variant", Variant, ids=str)
def test_chains_of_kube_proxy_go_and_those_of_others_stay(netns: Path, variant: Variant) -> None:
    run(netns, f"iptables-{variant}-restore", "--noflush", text=OTHERS)
    before = saved(netns, variant)
    run(netns, f"iptables-{variant}-restore", "--noflush", text=KUBE_PROXY)
    assert sorted(leftovers(netns)) == [
        f"1 chains of IPv4 iptables ({variant}), table mangle",
        f"2 chains of IPv4 iptables ({variant}), table filter",
        f"5 chains of IPv4 iptables ({variant}), table nat",
    ]
    remove_leftovers(netns)
    assert leftovers(netns) == []
    assert saved(netns, variant) == before


@pytest.mark.parametrize("variant", Variant, ids=str)
def test_a_chain_that_somebody_elses_rule_needs_stays(netns: Path, variant: Variant) -> None:
    run(netns, f"iptables-{variant}-restore", "--noflush", text=OTHERS + KUBE_PROXY)
    run(netns, f"iptables-{variant}", "-t", "nat", "-A", "CNI-HOSTPORT-DNAT", "-j", "KUBE-MARK-MASQ")
    remove_leftovers(netns)
    left = "\n".join(saved(netns, variant))
    assert "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000" in left
    assert "KUBE-SERVICES" not in left
    assert leftovers(netns) == []


def test_tables_of_kube_proxy_go_and_others_stay(netns: Path) -> None:
    for family in ("ip", "ip6"):
        run(netns, "nft", "add", "table", family, "kube-proxy")
        run(netns, "nft", "add", "chain", family, "kube-proxy", "services")
    run(netns, "nft", "add", "table", "inet", "kube-proxy")  # not one of its: those are of one family each
    assert leftovers(netns) == ["nftables table ip kube-proxy", "nftables table ip6 kube-proxy"]
    remove_leftovers(netns)
    assert run(netns, "nft", "list", "tables") == "table inet kube-proxy\n"


def test_its_link_for_ipvs_is_named(netns: Path) -> None:
    run(netns, "ip", "link", "add", "kube-ipvs0", "type", "bridge")
    found = leftovers(netns)
    assert found == ["link kube-ipvs0 and 0 virtual services of mode ipvs"]
    assert complaint(found).endswith("that are gone: what is of mode ipvs goes with `kube-proxy --cleanup`")


@pytest.mark.skipif(bool(lacks_ipvs()), reason=lacks_ipvs())
def test_its_virtual_services_of_ipvs_are_counted_and_ours_are_not(netns: Path) -> None:
    run(netns, "ip", "link", "add", "kube-ipvs0", "type", "dummy")
    addresses = [IPv4Address("10.96.0.1").packed, IPv4Address("10.96.0.10").packed]
    with Ipvs(netns) as ipvs:
        for address, flags in zip(addresses, (0, SIGNATURE), strict=True):
            ipvs.apply([new_service(VirtualService(ServiceKey(6, address, 443), flags=flags))])
    assert leftovers(netns) == ["link kube-ipvs0 and 1 virtual services of mode ipvs"]


@dataclass
class Told:
    """Whom a watch tells."""

    netns: Path
    counts: list[int] = field(default_factory=list)
    complaints: list[tuple[str, str]] = field(default_factory=list)

    def watch(self) -> LeftoverWatch:
        return LeftoverWatch(
            self.netns,
            timedelta(minutes=15),
            SystemClock(),
            self.counts.append,
            lambda reason, message: self.complaints.append((reason, message)),
        )


async def test_a_proxy_beside_it_says_so_once_with_the_command_and_touches_nothing(
    netns: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(netns)
    watch = told.watch()
    await watch.look()
    assert (caplog.records, told.counts, told.complaints) == ([], [0], [])
    assert legacy_tables(Family.IPV4, netns) == frozenset()
    run(netns, "iptables-legacy-restore", "--noflush", text=KUBE_PROXY)
    before = saved(netns, Variant.LEGACY)
    with caplog.at_level(logging.INFO):
        await watch.look()
        await watch.look()
        (record,) = caplog.records
        assert "5 chains of IPv4 iptables (legacy), table nat" in record.getMessage()
        assert "`nodeport proxy remove-kube-proxy` removes them" in record.getMessage()
        assert told.complaints == [("KubeProxyRules", record.getMessage())]
        assert saved(netns, Variant.LEGACY) == before
        remove_leftovers(netns)
        await watch.look()
    assert told.counts == [0, 3, 3, 0]
    assert caplog.messages[1:] == ["what kube-proxy had on this node is gone"]


@pytest.mark.parametrize("variant", Variant, ids=str)
async def test_tables_that_cannot_be_looked_into_are_told_and_not_taken_for_clean(
    netns: Path,
    variant: Variant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in a container image without iptables, on a node where kube-proxy ran in its own default mode."""
    run(netns, f"iptables-{variant}-restore", "--noflush", text=KUBE_PROXY)
    with monkeypatch.context() as nothing:
        nothing.setenv("PATH", str(tmp_path))
        nothing.setattr(programs, "_SEARCH_PATH", "")
        with caplog.at_level(logging.WARNING):
            await Told(netns).watch().look()
        with pytest.raises(OSError, match=rf"IPv4 iptables \({variant}\), whose programs are not installed"):
            remove_leftovers(netns)
    assert f"cannot look into IPv4 iptables ({variant})" in caplog.text
    assert any("KUBE-SERVICES" in line for line in saved(netns, variant))
    remove_leftovers(netns)
    assert not any("KUBE-SERVICES" in line for line in saved(netns, variant))


def test_a_cleanup_that_fails_somewhere_goes_on_elsewhere(
    netns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without CAP_NET_RAW on a node that has tables of the legacy interface."""
    run(netns, "iptables-legacy", "-t", "nat", "-N", SERVICES)
    for family in ("ip", "ip6"):
        run(netns, "nft", "add", "table", family, "nodeport")
    refusing = tmp_path / "iptables-legacy-save"
    refusing.write_text("#!/bin/sh\necho 'Cannot initialize: Permission denied' >&2\nexit 1\n")
    refusing.chmod(0o755)
    with monkeypatch.context() as limited:
        limited.setenv("PATH", str(tmp_path), prepend=":")
        with pytest.raises(ProxierError, match="iptables-legacy-save ended with status 1: Cannot initialize"):
            remove_all(netns, also_kube_proxy=False)
    assert run(netns, "nft", "list", "tables") == ""
    remove_all(netns, also_kube_proxy=False)
    assert not any(SERVICES in line for line in saved(netns, Variant.LEGACY))


def test_the_command_takes_what_kube_proxy_left_and_nothing_of_ours(netns: Path) -> None:
    run(netns, "iptables-nft-restore", "--noflush", text=KUBE_PROXY)
    run(netns, "nft", "add", "table", "ip", "kube-proxy")
    run(netns, "nft", "add", "table", "ip", "nodeport")
    program = [str(Path(sys.executable).with_name("nodeport")), "proxy", f"--network-namespace={netns}"]
    done = subprocess.run([*program, "remove-kube-proxy"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert leftovers(netns) == []
    tables = run(netns, "nft", "list", "tables").splitlines()
    assert "table ip nodeport" in tables
    assert "table ip kube-proxy" not in tables


def test_without_the_right_to_legacy_tables_the_command_names_it_and_does_the_rest(netns: Path) -> None:
    for program in ("iptables-legacy-restore", "iptables-nft-restore"):
        run(netns, program, "--noflush", text=KUBE_PROXY)
    limited = ["setpriv", "--inh-caps=-net_raw", "--bounding-set=-net_raw"]
    program = [str(Path(sys.executable).with_name("nodeport")), "proxy", f"--network-namespace={netns}"]
    done = subprocess.run([*limited, *program, "remove-kube-proxy"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "CAP_NET_RAW" in done.stderr
    assert not any("KUBE-SERVICES" in line for line in saved(netns, Variant.NFT))
    assert any("KUBE-SERVICES" in line for line in saved(netns, Variant.LEGACY))
    subprocess.run([*program, "remove-kube-proxy"], check=True)
    assert leftovers(netns) == []
