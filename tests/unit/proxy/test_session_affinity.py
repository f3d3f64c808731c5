"""Session affinity as elements: tickets that stay, and what a packet with one, or with an old one, is sent to."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import (
    Endpoint,
    ForwardingOptions,
    ForwardingTable,
    NodeFacts,
    Protocol,
    ServicePortName,
)
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.render import render, tickets
from nodeport.proxy.nftables.ruleset import Ruleset

NAME = ServicePortName(NamespacedName("default", "web"), "", Protocol.TCP)
NODE = NodeFacts("n1", (ip_address("172.31.7.11"),), (ip_network("10.244.1.0/24"),))
CLIENT = ip_address("198.51.100.7")
POD_ADDRESSES = ["10.244.1.2", "10.244.1.3", "10.244.2.2"]
_addresses = st.lists(
    st.integers(0, 1 << 16).map(lambda number: ip_address(0x0AF40000 + number)), unique=True
)


def endpoints(addresses: list[str]) -> list[Endpoint]:
    return [Endpoint.of(ip_address(raw), 8080, is_local=False) for raw in addresses]


def ruleset(*addresses: str, affinity: dict[bytes, bytes] | None = None) -> Ruleset:
    service: JsonObject = {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"clusterIP": "10.96.0.10", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]},
    }
    found = {
        "metadata": {},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }
    table = ForwardingTable()
    table.replace(NamespacedName.of(service), build_service(service, [found], NODE, ForwardingOptions()))
    made, _, _ = render(table.items(), NODE, ForwardingOptions())
    made.elements[layout.AFFINITY] = dict(affinity or {})
    return made


def bound_to(address: str) -> dict[bytes, bytes]:
    """What the affinity map holds when the client once went to ``address``."""
    (ticket,) = tickets(NAME, endpoints([address]))
    identity = int.from_bytes(ticket, sys.byteorder) & layout.IDENTITY_MASK
    return {CLIENT.packed + layout.number(identity): ticket}


def reached(made: Ruleset) -> set[str]:
    packet = Packet(CLIENT, ip_address("10.96.0.10"), Protocol.TCP, 80)
    found = fates(made, packet, frozenset(NODE.addresses))
    return {str(fate.destination[0]) for fate in found if fate.destination}


@pytest.mark.parametrize("address", POD_ADDRESSES)
def test_a_client_with_a_ticket_goes_to_its_endpoint_alone(address: str) -> None:
    assert reached(ruleset(*POD_ADDRESSES, affinity=bound_to(address))) == {address}


def test_a_client_without_one_goes_to_any() -> None:
    assert reached(ruleset(*POD_ADDRESSES)) == set(POD_ADDRESSES)


def test_a_ticket_of_an_endpoint_that_is_gone_does_not_bind() -> None:
    assert reached(ruleset(*POD_ADDRESSES[:2], affinity=bound_to(POD_ADDRESSES[2]))) == set(POD_ADDRESSES[:2])


def test_somebody_elses_ticket_does_not_bind() -> None:
    theirs = {
        ip_address("198.51.100.8").packed + key[4:]: ticket for key, ticket in bound_to("10.244.1.2").items()
    }
    assert reached(ruleset(*POD_ADDRESSES, affinity=theirs)) == set(POD_ADDRESSES)


@given(_addresses)
def test_no_two_endpoints_of_a_service_port_share_a_ticket(addresses: list[str]) -> None:
    made = tickets(NAME, [Endpoint.of(ip_address(item), 8080, is_local=False) for item in addresses])
    assert len(set(made)) == len(addresses)


def test_a_ticket_does_not_depend_on_the_order_of_endpoints() -> None:
    forward = dict(zip(POD_ADDRESSES, tickets(NAME, endpoints(POD_ADDRESSES)), strict=True))
    back = dict(zip(POD_ADDRESSES[::-1], tickets(NAME, endpoints(POD_ADDRESSES[::-1])), strict=True))
    assert forward == back


def test_a_change_of_the_timeout_moves_nobody() -> None:
    """The timeout is in the class; tickets and seats know nothing of it."""
    assert layout.class_key(3, 1) != layout.class_key(3, 86400) != layout.class_key(3)
    assert len(layout.class_key(layout.MAXIMUM_ENDPOINTS, 86400)) == 4
