"""``verify`` finds every way in which the kernel's ruleset could be another one, and a packet that would notice."""

from __future__ import annotations

import dataclasses
import itertools
import random
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import ForwardingOptions, ForwardingTable, NodeFacts, Protocol
from nodeport.netlink.nftables.expressions import Code
from nodeport.netlink.nftables.objects import Chain, Rule
from nodeport.proxy.nftables import dialect as say
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.render import render
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.nftables.verify import MOST_ELEMENTS, discrepancies
from nodeport.proxy.questions import Questions
from unit.proxy.mutations import mutations

NODE_ADDRESS, SECOND = IPv4Address("172.31.7.11"), IPv4Address("172.31.7.12")
LOCAL = frozenset({NODE_ADDRESS, SECOND, IPv4Address("127.0.0.1")})
PODS = {"10.244.1.2": "n1", "10.244.1.3": "n1", "10.244.2.2": "n2", "10.244.2.3": "n2"}
OPTIONS = [
    ForwardingOptions(),
    ForwardingOptions(keep_client_address=False),
    ForwardingOptions(masquerade_all=True),
]


def facts() -> NodeFacts:
    addresses = [{"type": "InternalIP", "address": str(address)} for address in (NODE_ADDRESS, SECOND)]
    node = {
        "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": addresses},
    }
    return node_facts("n1", node, service_networks=(ip_network("10.96.0.0/16"),))


NODE = facts()


def service(
    number: int, policy: str, protocol: str, pods: tuple[str, ...], **spec: Any
) -> tuple[JsonObject, JsonObject]:
    item = {
        "metadata": {"namespace": "default", "name": f"s{number}"},
        "spec": {
            "type": "NodePort",
            "clusterIP": f"10.96.0.{number}",
            "externalTrafficPolicy": policy,
            "internalTrafficPolicy": policy,
            "ports": [{"port": 80, "nodePort": 30000 + number, "protocol": protocol}],
            **spec,
        },
    }
    endpoints = [{"addresses": [address], "nodeName": PODS[address]} for address in pods]
    ports = [{"name": "", "port": 8080, "protocol": protocol}]
    return item, {"metadata": {}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}


def table(option: ForwardingOptions) -> ForwardingTable:
    """Every kind of Service port: both policies, no endpoint, only local ones, only remote ones, several."""
    choices = ((), ("10.244.1.2",), ("10.244.2.2",), ("10.244.1.2", "10.244.2.2", "10.244.2.3"))
    made = ForwardingTable()
    for number, (policy, pods) in enumerate(itertools.product(("Cluster", "Local"), choices), 1):
        protocols = {0: "TCP"} if policy == "Local" and pods else {0: "TCP", 100: "UDP"}
        for offset, protocol in protocols.items():
            external = [f"192.0.2.{number + offset}"] if number % 2 == 0 else []
            item, found = service(number + offset, policy, protocol, pods, externalIPs=external)
            made.replace(NamespacedName.of(item), build_service(item, [found], NODE, option))
    return made


def every_packet(made: ForwardingTable) -> list[Packet]:
    """All senders to all places: what ``verify`` must not overlook a difference for."""
    questions = Questions(made.items(), NODE)
    places = {(packet.destination, packet.port) for packet in questions.samples()}
    for name in questions.forwardings:
        places |= {(packet.destination, packet.port) for packet in questions.about(name)}
    senders = [
        *(IPv4Address(raw) for raw in PODS),
        IPv4Address("10.244.1.9"),
        IPv4Address("198.51.100.7"),
        None,
    ]
    return [
        Packet(sender or NODE_ADDRESS, address, protocol, port, sender is None, address in LOCAL)
        for sender in senders
        for address, port in sorted(places)
        for protocol in (Protocol.TCP, Protocol.UDP)
    ]


@pytest.mark.parametrize(
    ("option", "kind"),
    [(OPTIONS[0], ""), (OPTIONS[1], "masquerading rule"), (OPTIONS[2], "masquerading rule")],
    ids=["all", "masquerading: not kept", "masquerading: all"],
)
def test_no_mutation_survives(option: ForwardingOptions, kind: str) -> None:
    """``kind``: how the mutations begin that are worth trying; the options only change who is masqueraded."""
    made = table(option)
    wanted, _, _ = render(made.items(), NODE, option)
    everything = every_packet(made)
    before = {packet: fates(wanted, packet, LOCAL) for packet in everything}
    tried = noticed = 0
    rng = random.Random(3)
    for what, mutant in mutations(wanted, rng, elements_of_each_set=1):
        if not what.startswith(kind):
            continue
        found = discrepancies(wanted, mutant, made.items(), NODE)
        assert found, f"{what}: not found"
        packets = [item.packet for item in found if item.packet is not None]
        tried += 1
        for packet in packets:
            assert fates(mutant, packet, LOCAL) != fates(wanted, packet, LOCAL), what
        if packets:
            noticed += 1
            continue
        changed = [
            packet for packet in rng.sample(everything, 100) if fates(mutant, packet, LOCAL) != before[packet]
        ]
        assert not changed, f"{what}: changes the fate of {changed[0]}, and no packet was shown"
    assert tried > (20 if kind else 250)
    assert noticed > tried / 3


def test_an_equal_ruleset_has_no_discrepancy() -> None:
    made = table(OPTIONS[0])
    wanted, _, _ = render(made.items(), NODE, OPTIONS[0])
    again, _, _ = render(made.items(), NODE, OPTIONS[0])
    assert discrepancies(wanted, again, made.items(), NODE) == []


def test_a_table_that_is_gone_is_one_discrepancy() -> None:
    made = table(OPTIONS[0])
    wanted, _, _ = render(made.items(), NODE, OPTIONS[0])
    (found,) = discrepancies(wanted, None, made.items(), NODE)
    assert found.where == "the table"
    assert found.packet is not None
    assert "passes untouched in the kernel" in found.story


def test_a_discrepancy_says_who_sends_to_whom_and_what_becomes_of_it() -> None:
    made = table(OPTIONS[0])
    wanted, _, _ = render(made.items(), NODE, OPTIONS[0])
    mutant, _, _ = render(made.items(), NODE, OPTIONS[0])
    key = IPv4Address("10.96.0.2").packed + bytes((6, 0, 0, 0)) + (80).to_bytes(2, "big") + bytes(2)
    del mutant.elements["service-ips"][key]
    (found,) = discrepancies(wanted, mutant, made.items(), NODE)
    assert str(found) == (
        "10.96.0.2 . tcp . 80 in service-ips: wanted 1, found absent; "
        "203.0.113.7 (outside) to 10.96.0.2:80/TCP (default/s2): "
        "reaches 10.244.1.2:8080 with its own address by the table, is refused in the kernel"
    )


def test_of_many_differences_each_is_told_with_a_packet_of_its_own_service_or_with_none() -> None:
    made = ForwardingTable()
    for number, affinity in ((1, "ClientIP"), (2, "None")):
        item, found = service(
            number, "Cluster", "TCP", ("10.244.1.2", "10.244.2.2"), sessionAffinity=affinity
        )
        made.replace(NamespacedName.of(item), build_service(item, [found], NODE, OPTIONS[0]))
    wanted, _, _ = render(made.items(), NODE, OPTIONS[0])
    mutant = Ruleset(wanted.chains, wanted.sets, {**wanted.elements, "nodeport-endpoints": {}})
    told = discrepancies(wanted, mutant, made.items(), NODE)
    assert [item.where for item in told] == [
        f"tcp . {port} . {slot} in nodeport-endpoints" for port in (30001, 30002) for slot in (0, 1)
    ]
    for item in told:
        port = int(item.where.split()[2])
        assert item.packet is None or item.packet.port == port, item.story
    assert [item.packet is None for item in told] == [True, True, False, False]


def test_more_differences_than_anybody_reads_are_counted() -> None:
    made = ForwardingTable()
    for number in range(1, MOST_ELEMENTS + 31):
        item, found = service(number, "Cluster", "TCP", ("10.244.1.2",))
        made.replace(NamespacedName.of(item), build_service(item, [found], NODE, OPTIONS[0]))
    wanted, _, _ = render(made.items(), NODE, OPTIONS[0])
    mutant = Ruleset(wanted.chains, wanted.sets, {**wanted.elements, "nodeports": {}})
    told = discrepancies(wanted, mutant, made.items(), NODE)
    assert len(told) == MOST_ELEMENTS + 1
    assert told[-1].where == "30 more elements of nodeports"
    assert all(item.packet is not None for item in told)


def test_of_a_chain_only_the_rules_that_differ_are_told() -> None:
    item, found = service(1, "Cluster", "TCP", ("10.244.1.2",))
    made = ForwardingTable()
    made.replace(NamespacedName.of(item), build_service(item, [found], NODE, OPTIONS[0]))
    wanted, _, _ = render(made.items(), NODE, OPTIONS[0])

    def told(name: str, rules: tuple[Rule, ...]) -> tuple[str, str]:
        there = {**wanted.chains, name: dataclasses.replace(wanted.chains[name], rules=rules)}
        mutant = Ruleset(there, wanted.sets, wanted.elements)
        (difference,) = discrepancies(wanted, mutant, made.items(), NODE)
        assert difference.where == f"chain {name}"
        return difference.wanted, difference.found

    rules = wanted.chains["outside"].rules
    drop = Rule((say.verdict(Code.DROP),), "not ours")
    assert told("outside", (*rules[:2], drop, *rules[2:])) == (
        "no rule", 'rule 3: drop comment "not ours"'
    )  # fmt: skip
    masquerading = wanted.chains["masquerading"].rules
    missing, there = told("masquerading", masquerading[1:])
    hairpin = 'ip saddr . ip daddr @hairpins masquerade comment "a pod through its own Service"'
    assert missing == f"rule 1: {hairpin}"
    assert "rule 2" not in missing
    assert there == "no rule"
    prerouting = wanted.chains["prerouting"]
    assert told("prerouting", (*prerouting.rules, prerouting.rules[0]))[0] == "no rule"
    more = {**wanted.chains, "theirs": Chain("theirs", (drop,))}
    (added,) = discrepancies(wanted, Ruleset(more, wanted.sets, wanted.elements), made.items(), NODE)
    assert (added.wanted, added.found) == ("absent", 'no hook: rule 1: drop comment "not ours"')
