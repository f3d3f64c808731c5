"""Every rule of the iptables mode is there for a packet: taking any one away is noticed, and by whom is told."""

from __future__ import annotations

import re

from kernel import scenario
from nodeport.forwarding.table import ForwardingOptions
from nodeport.proxy.iptables.evaluate import tables_of
from nodeport.proxy.iptables.render import render
from nodeport.proxy.iptables.ruleset import Listing, Table
from nodeport.proxy.iptables.verify import Comparison

NODE = scenario.facts()
OPTIONS = ForwardingOptions()
UNNOTICED = {
    r"NODEPORT-(MASQ|ORIG-\w+) -g NODEPORT-(REMOTE|RANGES)": "no endpoint of the suite gets past those above",
    r"NODEPORT-MASQPORT-\S+ .*--ctorigdstport 301(02|09) .*MASQUERADE": "the Service has local endpoints only",
    r"NODEPORT-ORIG-\w+ .*--ctorigdst \S+\.[29] --ctorigdstport 80 .*MASQUERADE": "likewise",
    r"NODEPORT-CLUSTERIPS -m addrtype --src-type LOCAL -j MASQUERADE": "the node's address is no pod's",
    r"NODEPORT-SRC-\w+ -j ACCEPT": "nobody has a NodePort with an external IP's number",
    r"NODEPORT-FILTER -m conntrack --ctstate DNAT -j RETURN": "no endpoint sits at a refused frontend",
    r"NODEPORT-FILTER .* -j REJECT --reject-with tcp-reset": "the rule after it refuses in another way",
}
"""Rules that nobody in the suite needs, and why; in other tables of Services somebody does."""


def test_whoever_takes_a_rule_away_is_found_out_by_a_packet() -> None:
    table = scenario.table(NODE)
    wanted, _ = render(table.items(), NODE, OPTIONS)
    whole = tables_of(wanted)
    unnoticed = []
    for kind in Table:
        for chain, rules in whole[kind].items():
            for index, rule in enumerate(rules):
                damaged = {name: Listing(chains) for name, chains in whole.items()}
                damaged[kind] = Listing({**whole[kind], chain: rules[:index] + rules[index + 1 :]})
                found = Comparison(wanted, damaged, table.items(), NODE, OPTIONS).discrepancies()
                assert found
                if not any(item.packet for item in found):
                    unnoticed.append(f"{chain} {rule}")
    assert [rule for rule in unnoticed if not any(re.fullmatch(known, rule) for known in UNNOTICED)] == []
    assert all(any(re.fullmatch(known, rule) for rule in unnoticed) for known in UNNOTICED)
