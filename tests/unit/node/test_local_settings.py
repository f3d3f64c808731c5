from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nodeport.cli.up import outdated_parts
from nodeport.node import local, localoptions, network
from nodeport.node.local import ClusterConfig, Paths
from nodeport.node.localoptions import LocalError

CONFIG = ClusterConfig("172.30.0.0/22", "10.244.0.0/16", 3, 6443, "/root/.kube/config")


@pytest.mark.parametrize("name", ["nodeport", "a", "my-cluster-2", "x" * 40])
def test_good_names_are_taken(name: str) -> None:
    assert localoptions.check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a.b", "a/b", "x" * 41, "ü", "a b"])
def test_bad_names_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(LocalError, match="must be lower-case letters"):
        localoptions.check_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30000-",
        "-1",
        "0-5",
        "5-4",
        "1-65536",
        "a-b",
        "0",
        "65536",
        "65535+1",
        "1+",
        "+1",
        "1+-1",
        "1-2-3",
        "٣",
        "1 - 2",
    ],
)
def test_bad_port_ranges_are_refused(text: str) -> None:
    with pytest.raises(LocalError, match="must be FIRST-LAST"):
        localoptions.parse_port_range(text)


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_slice_holds_one_to_a_thousand_endpoints(count: int) -> None:
    with pytest.raises(LocalError, match="--max-endpoints-per-slice .*: must be from 1 to 1000"):
        localoptions.check_endpoints_per_slice(count)
    assert [localoptions.check_endpoints_per_slice(good) for good in (1, 1000)] == [1, 1000]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("30000-32767", range(30000, 32768)), ("30000+2767", range(30000, 32768)), ("30000", range(30000, 30001)),
        ("30000+0", range(30000, 30001)), ("1-65535", range(1, 65536)), ("80-80", range(80, 81)),
    ],
)  # fmt: skip
def test_a_port_range_has_three_spellings_and_includes_its_last_port(text: str, ports: range) -> None:
    assert localoptions.parse_port_range(text) == ports


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.96.0.0/16", "10.96.0.0/16"), ("fd00:10:96::/112", "fd00:10:96::/112"),
        ("10.96.0.0/16, FD00:10:96::0/112", "10.96.0.0/16,fd00:10:96::/112"),
        ("fd00::/64,10.0.0.0/24", "fd00::/64,10.0.0.0/24"),
    ],
)  # fmt: skip
def test_service_ranges_are_of_one_family_or_of_each(text: str, shown: str) -> None:
    assert localoptions.shown_cidrs(localoptions.parse_service_cidrs(text)) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.96.0.1/16", "must be a CIDR such as"), ("", "must be a CIDR such as"), ("10.0.0.0/16,", "must be a CIDR such as"),
        ("10.0.0.0/16,10.1.0.0/16", "one IPv4 and one IPv6"), ("fd00::/112,fd01::/112", "one IPv4 and one IPv6"),
        ("10.0.0.0/16,fd00::/112,fd01::/112", "one IPv4 and one IPv6"), ("10.0.0.0/8", "from /12 to /28"),
        ("10.0.0.0/30", "from /12 to /28"), ("fd00::/48", "from /64 to /124"), ("fd00::/127", "from /64 to /124"),
    ],
)  # fmt: skip
def test_bad_service_ranges_are_refused_with_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(LocalError, match=why):
        localoptions.parse_service_cidrs(text)


def test_a_cluster_keeps_its_ranges_but_may_get_a_second_family() -> None:
    v4, v6 = localoptions.parse_service_cidrs("10.96.0.0/16,fd00::/112")
    localoptions.check_same_service_cidrs("x", (v4, v6), (v4,))
    localoptions.check_same_service_cidrs("x", (v4,), (v4,))
    for wanted, before in (((v6, v4), (v4,)), ((v4,), (v4, v6)), ((v6,), (v4,))):
        with pytest.raises(LocalError, match="cannot be changed"):
            localoptions.check_same_service_cidrs("x", wanted, before)


V4, V6 = localoptions.parse_service_cidrs("10.96.0.0/16,fd00::/112")


@pytest.mark.parametrize(
    ("word", "services", "has_ipv6", "versions"),
    [
        (None, (), True, (4, 6)), (None, (), False, (4,)), ("ipv4", (), False, (4,)), ("ipv6", (), True, (6,)),
        ("dual", (), True, (4, 6)), (None, (V4,), True, (4,)), (None, (V6,), True, (6,)),
        (None, (V6, V4), True, (6, 4)), ("dual", (V6, V4), True, (6, 4)), ("ipv6", (V6,), True, (6,)),
    ],
)  # fmt: skip
def test_a_clusters_families_are_those_asked_for_or_all_that_the_machine_has(
    word: str | None, services: tuple[localoptions.Network, ...], has_ipv6: bool, versions: tuple[int, ...]
) -> None:
    assert localoptions.choose_versions(word, services, has_ipv6=has_ipv6) == versions


@pytest.mark.parametrize(
    ("word", "services", "has_ipv6", "why"),
    [
        ("ipv4", (V6,), True, "--ip-family ipv4: --service-cluster-ip-range fd00::/112 is not of the same families"),
        ("dual", (V4,), True, "is not of the same families"), ("ipv6", (V4, V6), True, "is not of the same families"),
        ("dual", (), False, "--ip-family dual: this machine has no IPv6"),
        (None, (V6,), False, "--service-cluster-ip-range fd00::/112: this machine has no IPv6"),
    ],
)  # fmt: skip
def test_families_that_cannot_be_are_refused_in_words(
    word: str | None, services: tuple[localoptions.Network, ...], has_ipv6: bool, why: str
) -> None:
    with pytest.raises(LocalError, match=why):
        localoptions.choose_versions(word, services, has_ipv6=has_ipv6)


def test_a_cluster_keeps_the_families_of_its_nodes() -> None:
    localoptions.check_same_ip_family("x", "ipv4", CONFIG.versions)
    both = replace(CONFIG, fabric="fd00:172:30::/64,172.30.0.0/22", pods="fd00:10:244::/56,10.244.0.0/16")
    localoptions.check_same_ip_family("x", "dual", both.versions)
    assert both.plan("x").versions == (6, 4)
    with pytest.raises(
        LocalError, match="--ip-family ipv6: the nodes of cluster 'x' are dual, which cannot be"
    ):
        localoptions.check_same_ip_family("x", "ipv6", both.versions)


def test_a_configuration_is_kept_whole_and_private(tmp_path: Path) -> None:
    paths = Paths("x", tmp_path / "data", tmp_path / "run")
    assert local.load(paths) is None
    paths.make()
    local.save(paths, CONFIG)
    assert local.load(paths) == CONFIG
    assert paths.config.stat().st_mode & 0o777 == 0o600
    assert paths.data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "text", ["", "{", "[]", json.dumps({"nodes": 1}), json.dumps({"nodeport_addresses": []})]
)
def test_a_broken_configuration_says_how_to_get_rid_of_it(tmp_path: Path, text: str) -> None:
    paths = Paths("x", tmp_path / "data", tmp_path / "run")
    paths.make()
    paths.config.write_text(text)
    with pytest.raises(LocalError, match="nodeport down"):
        local.load(paths)


@pytest.mark.parametrize(
    ("after", "outdated"),
    [
        (CONFIG, []),
        (replace(CONFIG, kubeconfig="/elsewhere"), []),
        (replace(CONFIG, nodes=4), ["nodes"]),
        (replace(CONFIG, default_registry="registry.example", insecure_registries=("a:1",)), ["nodes"]),
        (replace(CONFIG, max_endpoints_per_slice=10), ["server"]),
        (replace(CONFIG, api_port=7000), ["server", "nodes"]),
        (replace(CONFIG, node_ports="31000-32000"), ["server", "nodes"]),
        (replace(CONFIG, audit_backups=3), ["server"]),
        (replace(CONFIG, audit_backups=3, nodes=4), ["server", "nodes"]),
    ],
)
def test_only_parts_that_a_change_concerns_start_anew(after: ClusterConfig, outdated: list[str]) -> None:
    assert outdated_parts(CONFIG, after) == outdated
    assert outdated_parts(None, after) == []


@pytest.mark.parametrize(("text", "found"), [("0\n", True), ("1\n", False), (None, False)])
def test_a_machine_has_ipv6_when_its_kernel_has_and_nobody_switched_it_off(
    tmp_path: Path, text: str | None, found: bool
) -> None:
    setting = tmp_path / "net/ipv6/conf/all/disable_ipv6"
    if text is not None:
        setting.parent.mkdir(parents=True)
        setting.write_text(text)
    assert network.has_ipv6(tmp_path) is found
