"""Which endpoints a Service port may use: conditions, slices, ports, hints, policies."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.forwarding.endpoints import candidates_by_port, choose, parse_address
from nodeport.forwarding.table import Family, NodeFacts, Protocol

NODE = NodeFacts("n1", zone="east")
READY: dict[str, Any] = {"ready": True}
ENDING: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}
GONE: dict[str, Any] = {"ready": False, "serving": False, "terminating": True}
UNREADY: dict[str, Any] = {"ready": False}


def endpoint(
    number: int, conditions: dict[str, Any] | None = None, node: str = "n2", **more: Any
) -> dict[str, Any]:
    return {"addresses": [f"10.0.0.{number}"], "conditions": conditions, "nodeName": node, **more}


def slice_of(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {"addressType": "IPv4", "ports": ports, "endpoints": list(endpoints), **more}


def chosen(*slices: dict[str, Any], node: NodeFacts = NODE) -> tuple[list[str], list[str]]:
    """The last numbers of the addresses: cluster-wide, local."""
    candidates = candidates_by_port(slices, node).get(("http", Protocol.TCP), {})
    choice = choose(candidates, node)
    last = [
        [str(item.address).rsplit(".", 1)[1] for item in items] for items in (choice.cluster, choice.local)
    ]
    return last[0], last[1]


@pytest.mark.parametrize(
    ("conditions", "used"),
    [
        (None, True),
        ({}, True),
        ({"ready": None, "serving": None, "terminating": None}, True),
        (READY, True),
        ({"ready": True, "terminating": True}, True),  # publishNotReadyAddresses
        (ENDING, True),
        (GONE, False),
        (UNREADY, False),
        ({"ready": False, "serving": True}, False),
        ({"ready": False, "serving": None, "terminating": True}, True),
    ],
    ids=str,
)
def test_conditions_that_are_missing_mean_ready(conditions: dict[str, Any] | None, used: bool) -> None:
    assert chosen(slice_of(endpoint(1, conditions))) == (["1"] if used else [], [])


def test_terminating_endpoints_are_used_only_while_nothing_is_ready() -> None:
    assert chosen(slice_of(endpoint(1, ENDING), endpoint(2, READY)))[0] == ["2"]
    assert chosen(slice_of(endpoint(1, ENDING), endpoint(2, UNREADY)))[0] == ["1"]


def test_the_local_list_falls_back_to_its_own_terminating_endpoints() -> None:
    slices = slice_of(endpoint(1, ENDING, "n1"), endpoint(2, READY, "n2"))
    assert chosen(slices) == (["2"], ["1"])


def test_slices_are_united_and_an_address_counts_once() -> None:
    first, second = slice_of(endpoint(2), endpoint(1)), slice_of(endpoint(2), endpoint(3, node="n1"))
    assert chosen(first, second) == (["1", "2", "3"], ["3"])


def test_of_two_words_about_one_address_the_one_that_stays_wins() -> None:
    assert chosen(slice_of(endpoint(1, GONE)), slice_of(endpoint(1, READY)))[0] == ["1"]
    assert chosen(slice_of(endpoint(1, READY)), slice_of(endpoint(1, GONE)))[0] == ["1"]


@pytest.mark.parametrize(
    "more",
    [
        {"addressType": "IPv6"},
        {"addressType": "FQDN"},
        {"ports": []},
        {"ports": None},
        {"ports": [{"name": "http", "protocol": "TCP"}]},
        {"ports": [{"name": "http", "port": 0, "protocol": "TCP"}]},
        {"ports": [{"port": 8080, "protocol": "TCP"}]},
        {"ports": [{"name": None, "port": 8080}]},
        {"ports": [{"name": "other", "port": 8080}]},
        {"ports": [{"name": "http", "port": 8080, "protocol": "UDP"}]},
        {"endpoints": None},
        {"endpoints": [{"addresses": []}]},
        {"endpoints": [{"addresses": ["not an address"]}]},
    ],
    ids=str,
)
def test_what_is_not_for_this_port_is_passed_over(more: dict[str, Any]) -> None:
    assert chosen({**slice_of(endpoint(1)), **more}) == ([], [])


def hinted(number: int, *zones: str, nodes: tuple[str, ...] = (), node: str = "n2") -> dict[str, Any]:
    hints = {"forZones": [{"name": zone} for zone in zones], "forNodes": [{"name": name} for name in nodes]}
    return endpoint(number, READY, node, hints=hints)


def test_zone_hints_narrow_the_list_when_every_ready_endpoint_has_them() -> None:
    assert chosen(slice_of(hinted(1, "east"), hinted(2, "west")))[0] == ["1"]
    assert chosen(slice_of(hinted(1, "east"), endpoint(2, READY)))[0] == ["1", "2"]
    assert chosen(slice_of(hinted(1, "north"), hinted(2, "west")))[0] == ["1", "2"]
    assert chosen(slice_of(hinted(1, "east"), hinted(2, "west")), node=NodeFacts("n1"))[0] == ["1", "2"]


def test_node_hints_go_before_zone_hints() -> None:
    slices = slice_of(hinted(1, "east", nodes=("n2",)), hinted(2, "west", nodes=("n1",)))
    assert chosen(slices)[0] == ["2"]


def test_the_local_list_takes_no_notice_of_hints() -> None:
    assert chosen(slice_of(hinted(1, "west", node="n1"), hinted(2, "east")))[1] == ["1"]


def test_serving_holds_all_that_serve_whatever_the_policies() -> None:
    slices = slice_of(endpoint(1, READY), endpoint(2, ENDING), endpoint(3, GONE))
    candidates = candidates_by_port([slices], NODE)["http", Protocol.TCP]
    assert [str(item.address) for item in choose(candidates, NODE).serving] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    "raw", ["", "None", "10.0.0", "10.0.0.256", "10.0.0.0.1", "a.b.c.d", "::1", "-1.0.0.0"]
)
def test_what_is_no_ipv4_address_is_none(raw: str) -> None:
    assert parse_address(raw, Family.IPV4) is None


@pytest.mark.parametrize(
    ("raw", "family", "read"),
    [
        ("10.244.1.2", Family.IPV4, "10.244.1.2"),
        ("010.244.001.002", Family.IPV4, "10.244.1.2"),
        ("255.255.255.255", Family.IPV4, "255.255.255.255"),
        ("0.0.0.0", Family.IPV4, "0.0.0.0"),
        ("fd00::1", Family.IPV6, "fd00::1"),
    ],
)
def test_an_address_is_read(raw: str, family: Family, read: str) -> None:
    assert str(parse_address(raw, family)) == read
