"""The iptables mode without a kernel: trees, chances, listings, and what the tracer knows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import (
    ClusterIP,
    Endpoint,
    Family,
    Forwarding,
    ForwardingOptions,
    ForwardingTable,
    Masquerade,
    NodeFacts,
    NodePort,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)
from nodeport.proxy.iptables import layout
from nodeport.proxy.iptables.evaluate import Tables, UnknownRule, fates, parse_rule, tables_of
from nodeport.proxy.iptables.render import probabilities, render
from nodeport.proxy.iptables.restore import difference, restore_text
from nodeport.proxy.iptables.ruleset import Chains, Listing, Table, read_listings, target_of
from nodeport.proxy.iptables.trees import PortTree

OPTIONS = ForwardingOptions()


def forwarding_table(number: int, family: Family, *, endpoints: int = 2) -> ForwardingTable:
    """``number`` Services with consecutive ClusterIPs and NodePorts, and remote endpoints."""
    table = ForwardingTable()
    first = IPv4Address("10.96.0.10") if family is Family.IPV4 else IPv6Address("fd00:96::10")
    pod = IPv4Address("10.244.0.0") if family is Family.IPV4 else IPv6Address("fd00:244::")
    for index in range(number):
        service = NamespacedName("ns", f"s{index}")
        targets = tuple(
            Endpoint.of(pod + 256 + index * 8 + slot, 8080, is_local=False) for slot in range(endpoints)
        )
        inside, external = (
            Route(Verdict.FORWARD, targets, item) for item in (Masquerade.NEVER, Masquerade.REMOTE)
        )
        made = Forwarding(
            (ClusterIP(first + index, 80), NodePort(30000 + index)),
            Routes(inside, external, external),
            Routes(external, external, external),
        )
        table.replace(service, {ServicePortName(service, "", Protocol.TCP): made})
    return table


def facts(family: Family) -> NodeFacts:
    if family is Family.IPV4:
        return NodeFacts(
            "n",
            (IPv4Address("172.30.0.1"),),
            (ip_network("10.244.9.0/24"),),
            (ip_network("172.30.0.1/32"),),
        )
    return NodeFacts(
        "n",
        (IPv6Address("fd00:30::1"),),
        (IPv6Network("fd00:244:9::/64"),),
        (IPv6Network("fd00:30::1/128"),),
        (IPv6Network("fd00:96::/112"),),
        family=family,
    )


def traced(family: Family, number: int) -> Tables:
    ruleset, _ = render(forwarding_table(number, family).items(), facts(family), OPTIONS)
    return tables_of(ruleset)


@pytest.mark.parametrize("family", Family, ids=str)
def test_a_connection_meets_few_rules_whatever_the_number_of_services(family: Family) -> None:
    chains = traced(family, 1000)[Table.NAT]
    assert len(chains[layout.SERVICES]) <= 16 + 1
    assert max(len(rules) for name, rules in chains.items() if name.startswith("NODEPORT-IP-")) <= 16
    assert max(len(rules) for name, rules in chains.items() if name.startswith("NODEPORT-PORT-")) <= 16
    assert max(map(len, chains)) <= 28  # what the kernel has room for


@pytest.mark.parametrize("family", Family, ids=str)
def test_every_service_is_found_by_its_address_and_by_its_port(family: Family) -> None:
    node, tables = facts(family), traced(family, 300)
    own = node.addresses[0]
    for name, forwarding in forwarding_table(300, family).items():
        cluster_ip, node_port = forwarding.frontends
        assert isinstance(cluster_ip, ClusterIP)
        wanted = {(item.address, item.port) for item in forwarding.internal.pod.endpoints}
        sender = own + 100
        by_address = Packet(sender, cluster_ip.address, name.protocol, 80)
        by_port = Packet(sender, own, name.protocol, node_port.port, to_node=True)
        for packet in (by_address, by_port):
            found = fates(tables, packet, frozenset(node.addresses))
            assert {fate.destination for fate in found} == wanted
            assert {fate.masquerade for fate in found} == {True}


def test_a_tree_that_bears_nothing_any_more_is_gone() -> None:
    chains = Chains()
    tree = PortTree(Table.NAT, "ROOT", "STEM")
    keys = [(6, 30000), (6, 30001), (6, 30100), (17, 30000)]
    for key in keys:
        tree.put(chains, key, ("-j X",))
    assert set(chains.branches) == {
        "ROOT", "STEM-TCP-75", "STEM-TCP-753", "STEM-TCP-759", "STEM-UDP-75", "STEM-UDP-753",
    }  # fmt: skip
    for key in keys[1:]:
        tree.remove(chains, key)
    assert set(chains.branches) == {"ROOT", "STEM-TCP-75", "STEM-TCP-753"}
    tree.remove(chains, keys[0])
    assert chains.branches == {}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_every_endpoint_gets_as_many_connections(count: int) -> None:
    left, shares = 1.0, []
    for text in probabilities(count):
        chance = float(text.split()[-1])
        shares.append(left * chance)
        left -= left * chance
    assert [*shares, left] == pytest.approx([1 / count] * count, abs=1e-8)


def test_a_listing_is_read_as_it_is_printed() -> None:
    text = (
        "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:NODEPORT-A - [0:0]\n-A PREROUTING -j NODEPORT-A\n"
        "-A NODEPORT-A\nCOMMIT\n*filter\n:INPUT DROP [1:2]\nCOMMIT\n"
    )
    tables = read_listings(text)
    assert tables["nat"].chains == {"PREROUTING": ("-j NODEPORT-A",), "NODEPORT-A": ("",)}
    assert tables["nat"].ours() == {"NODEPORT-A": ("",)}
    assert tables["nat"].jumps() == [("PREROUTING", "-j NODEPORT-A")]
    assert tables["filter"].chains == {"INPUT": ()}


def test_what_is_sent_and_read_back_differs_in_nothing() -> None:
    ruleset, _ = render(forwarding_table(3, Family.IPV6).items(), facts(Family.IPV6), OPTIONS)
    sections = difference(ruleset, {})
    text = restore_text(sections).replace("-I ", "-A ").replace(" 1 -m", " -m")
    assert not any(difference(ruleset, read_listings(text)))
    assert any(difference(ruleset, {Table.NAT: Listing()}))


def test_the_target_of_a_rule_is_what_follows_the_jump() -> None:
    assert target_of("-p tcp -j DNAT --to-destination 1.2.3.4:5") == "DNAT"
    assert target_of("-s 10.0.0.0/8 -g NODEPORT-X") == "NODEPORT-X"
    assert target_of("-s 10.0.0.0/8") is None


@pytest.mark.parametrize("rule", ["-m mark --mark 0x1 -j ACCEPT", "-p tcp -m tcp --sport 1 -j ACCEPT"])
def test_the_tracer_refuses_what_it_does_not_know(rule: str) -> None:
    with pytest.raises(UnknownRule, match="in: "):
        parse_rule(rule)


def test_all_local_addresses_but_loopback_are_one_comparison() -> None:
    networks = tuple(ip_network("::/0").address_exclude(ip_network("::1/128")))
    node = NodeFacts("n", (), (), networks, (), family=Family.IPV6)
    assert list(layout.node_port_matches(node)) == ["! -d ::1/128 -m addrtype --dst-type LOCAL"]
