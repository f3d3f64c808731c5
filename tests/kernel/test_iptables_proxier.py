"""The iptables mode against the real kernel and the real programs: changes, restarts, other people."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, Family, ForwardingOptions, ForwardingTable
from nodeport.proxy.iptables.programs import Iptables, IptablesError
from nodeport.proxy.iptables.proxier import open_iptables
from nodeport.proxy.iptables.render import list_chain
from nodeport.proxy.iptables.ruleset import Table
from nodeport.proxy.iptables.variants import choose_variant, legacy_tables, listing
from nodeport.proxy.modes import remove_mode
from nodeport.proxy.options import Mode, ProxyOptions, Variant
from nodeport.proxy.proxier import CountsRules, Proxier, RuleCounts

OPTIONS = ForwardingOptions()
NODE = scenario.facts()
READY = scenario.ENDPOINTS[Situation.LOCAL]["local"]
Opener = Callable[[], Proxier]


@pytest.fixture(params=list(Variant), ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    return request.param


@pytest.fixture
def opened(netns: Path, variant: Variant) -> Iterator[Opener]:
    """Opens proxiers, each as a newly started program would."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            open_iptables(Family.IPV4, netns, ProxyOptions(iptables_variant=variant))
        )


def run(netns: Path, *command: str, text: str = "") -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", netns.name, *command],
        check=True,
        capture_output=True,
        text=True,
        input=text,
    )
    return done.stdout


def saved(netns: Path, variant: Variant) -> str:
    """What the kernel has, without times and counters of packets."""
    lines = run(netns, f"iptables-{variant}-save").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def change(table: ForwardingTable, item: JsonObject, pods: dict[str, dict[str, bool]] | None) -> list[Change]:
    """Puts ``item`` with these endpoints into the table; ``None`` takes it out."""
    identity = NamespacedName.of(item)
    if pods is None:
        return table.replace(identity, {})
    built = build_service(item, scenario.slices(item, pods), NODE, OPTIONS)
    before = table.wanted(identity)
    return table.replace(
        identity, {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
    )


def test_random_changes_leave_the_kernel_as_a_fresh_start_would_make_it(
    netns: Path, variant: Variant, opened: Opener
) -> None:
    rng = random.Random(11)
    table = ForwardingTable()
    proxier = opened()
    proxier.resync(table, NODE)
    for _ in range(60):
        burst: dict[object, Change] = {}
        for _ in range(rng.randint(1, 3)):
            item = scenario.service(rng.choice(list(Policy)), rng.choice(list(Situation)))
            item["spec"]["sessionAffinity"] = rng.choice(["None", "ClientIP"])
            for made in change(table, item, rng.choice([*scenario.ENDPOINTS.values(), None])):
                before = burst.get(made.name)
                burst[made.name] = Change(made.name, before.old if before else made.old, made.new)
        changes = [made for made in burst.values() if made.old != made.new]
        if changes:
            proxier.apply(changes, NODE)
        assert proxier.is_undisturbed()
    assert proxier.is_intact()
    assert proxier.verify(table, NODE) == []
    assert opened().resync(table, NODE) == 0


def test_a_change_sends_the_chains_of_its_service_and_no_others(
    netns: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)
    sent: list[str] = []
    restore = Iptables.restore
    monkeypatch.setattr(Iptables, "restore", lambda self, text: (sent.append(text), restore(self, text)))
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    proxier.apply(change(table, item, {"local": READY, "far": READY}), NODE)
    (text,) = sent
    assert {line.split("-")[1] for line in text.splitlines() if line.startswith(":")} == {"INT"}
    assert len(text.splitlines()) == 2 + 2 * (1 + 2)


def test_rules_are_counted_as_the_programs_print_them(netns: Path, variant: Variant, opened: Opener) -> None:
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)

    def printed(kind: str) -> int:
        listed = listing(Family.IPV4, netns, variant)[kind]
        return sum(map(len, listed.ours().values())) + len(listed.jumps())

    def counted(kind: str) -> RuleCounts:
        assert isinstance(proxier, CountsRules)
        return proxier.rule_counts()[kind]

    assert [counted(kind).total for kind in Table] == [counted(kind).last for kind in Table]
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    for endpoints in ({"local": READY, "far": READY}, {}, {"local": READY}):
        proxier.apply(change(table, item, endpoints), NODE)
        assert [counted(kind).total for kind in Table] == [printed(kind) for kind in Table]
        assert 0 < counted(Table.NAT).last < counted(Table.NAT).total


def test_a_restart_changes_nothing_in_the_kernel(netns: Path, variant: Variant, opened: Opener) -> None:
    opened().resync(scenario.table(NODE), NODE)
    before = saved(netns, variant)
    assert opened().resync(scenario.table(NODE), NODE) == 0
    assert saved(netns, variant) == before


def test_a_restart_leaves_endpoints_in_the_order_that_history_gave_them(opened: Opener) -> None:
    item = scenario.service(Policy.LOCAL, Situation.BOTH)
    everyone = dict.fromkeys(("local", "other", "remote", "far"), READY)
    for affinity in ("None", "ClientIP"):
        item["spec"]["sessionAffinity"] = affinity
        table = ForwardingTable()
        proxier = opened()
        proxier.resync(table, NODE)
        proxier.apply(change(table, item, everyone), NODE)
        proxier.apply(change(table, item, dict.fromkeys(("other", "remote", "far"), READY)), NODE)
        proxier.apply(change(table, item, everyone), NODE)

        restarted = opened()
        memory, fresh = restarted.slots(), ForwardingTable()
        built = build_service(item, scenario.slices(item, everyone), NODE, OPTIONS)
        assert all(table.get(name) != forwarding for name, forwarding in built.items())
        settled = {name: memory.settle(name, new) for name, new in built.items()}
        fresh.replace(NamespacedName.of(item), settled)
        assert restarted.resync(fresh, NODE) == 0


DAMAGE = {
    "nat flushed": "*nat\n-F\nCOMMIT\n",
    "filter flushed": "*filter\n-F\nCOMMIT\n",
    "all gone": "*nat\n-F\n-X\nCOMMIT\n*filter\n-F\n-X\nCOMMIT\n",
    "a jump gone": "*nat\n-F PREROUTING\nCOMMIT\n",
    "a chain emptied": "*nat\n-F NODEPORT-SERVICES\nCOMMIT\n",
    "a rule more": "*filter\n-A NODEPORT-FILTER -j ACCEPT\nCOMMIT\n",
    "a chain more": "*nat\n:NODEPORT-INT-SOMEBODYS - [0:0]\nCOMMIT\n",
    "a jump more": "*filter\n-I FORWARD -j NODEPORT-REFUSE-PORTS\nCOMMIT\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_by_others_is_noticed_told_and_mended(
    damage: str, netns: Path, variant: Variant, opened: Opener
) -> None:
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)
    before = saved(netns, variant)
    assert proxier.verify(table, NODE) == []
    run(netns, f"iptables-{variant}-restore", "--noflush", text=damage)
    assert not proxier.is_undisturbed()
    assert not proxier.is_intact()
    assert proxier.verify(table, NODE)
    assert proxier.resync(table, NODE) > 0
    assert sorted(saved(netns, variant).splitlines()) == sorted(before.splitlines())
    assert proxier.is_undisturbed()
    assert proxier.verify(table, NODE) == []


def test_what_verify_finds_is_told_in_plain_words(netns: Path, variant: Variant, opened: Opener) -> None:
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)
    run(
        netns,
        f"iptables-{variant}",
        "-t",
        "filter",
        "-I",
        "NODEPORT-FILTER",
        "2",
        "-s",
        "10.9.9.9",
        "-j",
        "DROP",
    )
    run(netns, f"iptables-{variant}", "-t", "nat", "-F", "PREROUTING")
    run(netns, f"iptables-{variant}", "-t", "filter", "-D", "NODEPORT-FILTER", "1")
    first, second, third = proxier.verify(table, NODE)
    assert (first.where, first.found) == ("chain PREROUTING of table nat", "no such rule")
    assert first.wanted == '-m comment --comment "nodeport: Services" -j NODEPORT-SERVICES'
    assert "in the kernel" in first.story
    assert second.wanted == "-m conntrack --ctstate DNAT -j RETURN"
    assert (third.wanted, third.found) == ("no such rule", "-s 10.9.9.9/32 -j DROP")
    assert third.where == "chain NODEPORT-FILTER of table filter"
    assert third.story == (
        "10.9.9.9 (outside) to 10.96.255.254:9/TCP: is refused by the table, is dropped in the kernel"
    )


def test_verify_finds_a_packet_that_fares_differently(netns: Path, variant: Variant, opened: Opener) -> None:
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)
    chain = list_chain(next(name for name in table if "cluster-local:tcp" in str(name)), "INT")
    run(netns, f"iptables-{variant}", "-t", "nat", "-R", chain, "1", *REDIRECTED)
    (missing, _) = proxier.verify(table, NODE)
    assert missing.where == f"chain {chain} of table nat"
    assert "suite/cluster-local:tcp" in missing.story
    assert "reaches 10.244.1.2:8080 with its own address by the table" in missing.story
    assert "reaches 10.244.9.9:8080" in missing.story


REDIRECTED = ("-p", "tcp", "-j", "DNAT", "--to-destination", "10.244.9.9:8080")
FOREIGN = """*mangle
:THEIRS - [0:0]
-A PREROUTING -m mark --mark 0x4000/0x4000 -j THEIRS
COMMIT
*nat
:THEIRS - [0:0]
-A PREROUTING -p tcp -m tcp --dport 31999 -j THEIRS
-A THEIRS -p tcp -j DNAT --to-destination 10.244.1.2:8080
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
*filter
:NODEPORTAL - [0:0]
-A FORWARD -j NODEPORTAL
-A NODEPORTAL -s 10.0.0.0/8 -j ACCEPT
COMMIT
"""


def test_other_peoples_rules_stay_as_they_are_and_do_not_disturb(
    netns: Path, variant: Variant, opened: Opener
) -> None:
    run(netns, f"iptables-{variant}-restore", "--noflush", text=FOREIGN)
    before = saved(netns, variant)
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)
    run(netns, f"iptables-{variant}", "-t", "nat", "-A", "THEIRS", "-p", "udp", "-j", "RETURN")
    assert not proxier.is_undisturbed()
    assert proxier.is_intact()
    assert proxier.is_undisturbed()
    item = scenario.service(Policy.LOCAL, Situation.NONE)
    proxier.apply(change(table, item, scenario.ENDPOINTS[Situation.BOTH]), NODE)
    assert proxier.is_undisturbed()
    run(netns, f"iptables-{variant}", "-t", "nat", "-D", "THEIRS", "-p", "udp", "-j", "RETURN")
    proxier.remove()
    assert saved(netns, variant) == before


def test_jumps_go_first_and_stay_where_somebody_else_moved_them(
    netns: Path, variant: Variant, opened: Opener
) -> None:
    run(netns, f"iptables-{variant}-restore", "--noflush", text=FOREIGN)
    proxier = opened()
    proxier.resync(scenario.table(NODE), NODE)

    def first() -> str:
        return run(netns, f"iptables-{variant}", "-t", "nat", "-S", "PREROUTING", "1")

    assert first().strip().endswith("-j NODEPORT-SERVICES")
    run(netns, f"iptables-{variant}", "-t", "nat", "-I", "PREROUTING", "-s", "10.9.9.9", "-j", "ACCEPT")
    assert proxier.is_intact()
    assert opened().resync(scenario.table(NODE), NODE) == 0
    assert first().strip().endswith("-j ACCEPT")


def test_a_refused_change_leaves_no_trust_in_what_was_sent(
    netns: Path, variant: Variant, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scenario.table(NODE)
    proxier = opened()
    proxier.resync(table, NODE)
    before = saved(netns, variant)
    restore = Iptables.restore
    monkeypatch.setattr(
        Iptables, "restore", lambda self, text: restore(self, text.replace("COMMIT", "-A NOWHERE\nCOMMIT"))
    )
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    changes = change(table, item, {"local": READY})
    with pytest.raises(IptablesError, match="NOWHERE"):
        proxier.apply(changes, NODE)
    monkeypatch.undo()
    assert saved(netns, variant) == before
    assert not proxier.is_undisturbed()
    assert proxier.resync(table, NODE) > 0
    assert proxier.verify(table, NODE) == []


def test_where_there_is_nothing_of_ours_looking_for_it_makes_nothing(netns: Path) -> None:
    for mode in Mode:
        for family in Family:
            remove_mode(mode, family, netns, ProxyOptions())
    assert legacy_tables(Family.IPV4, netns) == legacy_tables(Family.IPV6, netns) == frozenset()
    assert run(netns, "nft", "list", "ruleset") == ""


def test_on_an_untouched_node_the_legacy_variant_is_used(netns: Path) -> None:
    assert choose_variant(Family.IPV4, netns) is Variant.LEGACY


def test_changing_the_variant_leaves_nothing_of_the_other(netns: Path) -> None:
    for chosen, other in (*zip(Variant, reversed(Variant), strict=True),):
        with open_iptables(Family.IPV4, netns, ProxyOptions(iptables_variant=chosen)) as proxier:
            proxier.resync(scenario.table(NODE), NODE)
        assert "NODEPORT-SERVICES" in saved(netns, chosen)
        assert "NODEPORT" not in saved(netns, other)


@pytest.mark.parametrize("hint", ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"])
def test_the_variant_is_the_one_that_the_kubelet_uses(hint: str, netns: Path, variant: Variant) -> None:
    run(netns, f"iptables-{variant}", "-t", "mangle", "-N", hint)
    assert choose_variant(Family.IPV4, netns) is variant


def test_the_variant_stays_the_one_that_holds_our_chains(
    netns: Path, variant: Variant, opened: Opener
) -> None:
    opened().resync(ForwardingTable(), NODE)
    other = next(item for item in Variant if item is not variant)
    run(netns, f"iptables-{other}-restore", "--noflush", text=FOREIGN)
    assert choose_variant(Family.IPV4, netns) is variant
