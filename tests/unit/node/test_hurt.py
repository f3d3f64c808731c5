"""What orders make of a node, and what is kept of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nodeport.netlink.nftables.objects import MessageType
from nodeport.node import hurt, loss
from nodeport.node.hurt import ORDERS, Hurt, Power
from nodeport.node.localoptions import LocalError


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_changes_the_state_it_is_for_and_given_again_nothing(order: str) -> None:
    needed, then = ORDERS[order]
    once = hurt.ordered("node-1", Hurt(needed, 5.0), order)
    assert once == Hurt(then, 5.0)
    assert hurt.ordered("node-1", once, order) is once


REFUSED = [
    (order, power)
    for order, power in itertools.product(ORDERS, Power)
    if power not in ORDERS[order] and power is not Power.RUNNING
]


@pytest.mark.parametrize(("order", "power"), REFUSED)
def test_an_order_that_does_not_fit_is_refused_with_the_one_that_undoes_the_state(
    order: str, power: Power
) -> None:
    with pytest.raises(LocalError, match=f"nodeport node {hurt.undoing(power)} node-1"):
        hurt.ordered("node-1", Hurt(power), order)


def test_every_state_can_be_undone() -> None:
    for power in set(Power) - {Power.RUNNING}:
        assert hurt.ordered("node-1", Hurt(power), hurt.undoing(power)) == Hurt()


def test_what_is_saved_is_loaded_and_only_root_may_read_it(tmp_path: Path) -> None:
    wanted = {"node-1": Hurt(Power.PAUSED, 2.5), "node-2": Hurt()}
    file = tmp_path / "hurts.json"
    assert hurt.load(file) == {}
    hurt.save(file, wanted)
    assert hurt.load(file) == wanted
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"node-1": 1}', '{"node-1": {"power": "asleep", "loss": 0}}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hurts.json"
    file.write_text(text)
    with pytest.raises(LocalError, match=str(file)):
        hurt.load(file)


def test_without_loss_no_table_is_left() -> None:
    assert [kind for kind, _, _ in loss.requests(0)] == [MessageType.NEWTABLE, MessageType.DELTABLE] * 2
    rules = [kind for kind, _, _ in loss.requests(10) if kind == MessageType.NEWRULE]
    assert len(rules) == 2 + 4  # each way; in IPv6 neighbours are spared first
